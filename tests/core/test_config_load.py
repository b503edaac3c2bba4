"""Layers, origins, paths, and every message about a bad setting with its place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config import RunConfig
from rft_cli.config.load import LoadedConfig, load_config
from rft_cli.errors import UsageErrors
from tests.command import environment

Problem = tuple[str, str | None]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(
    yaml: str | bytes | None = None,
    *,
    sets: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    **flags: Any,
) -> LoadedConfig:
    """Load `yaml` as the file c.yaml; flags are given as `optim__n_epochs=3`."""
    if yaml is not None:
        Path("c.yaml").write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())
    overrides = {key.replace("__", "."): value for key, value in flags.items()}
    return load_config(None if yaml is None else "c.yaml", overrides=overrides, sets=sets, env=env or {})


def problems(yaml: str | bytes | None = None, **options: Any) -> list[Problem]:
    with pytest.raises(UsageErrors) as caught:
        load(yaml, **options)
    return [(problem.message, problem.fix) for problem in caught.value.problems]


def test_nothing_given_is_the_defaults() -> None:
    loaded = load()
    assert loaded.config == RunConfig()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.notes == []


@pytest.mark.parametrize(
    "yaml", ["", "# only a comment\n", "---\n", "null\n", "\ufeff", "optim:\n", "data: {columns: }"]
)
def test_empty_files_and_sections(yaml: str) -> None:
    assert load(yaml).config == RunConfig()


def test_precedence_and_origins() -> None:
    yaml = "seed: 1\nname: file\nnum_processes: 2\noptim:\n  n_epochs: 4\n  weight_decay: 0.5\n"
    env = {"RFT_SEED": "2", "RFT_NAME": "env", "RFT_OPTIM__N_EPOCHS": "5", "RFT_DEBUG": "1", "HOME": "/x"}
    loaded = load(yaml, env=env, sets=["seed=3", "name=set"], seed=4, name=None)
    config = loaded.config
    assert (config.seed, config.name, config.optim.n_epochs, config.optim.weight_decay) == (4, "set", 5, 0.5)
    assert loaded.origins["seed"] == "--seed"
    assert loaded.origins["name"] == "--set name"
    assert loaded.origins["optim.n_epochs"] == "RFT_OPTIM__N_EPOCHS"
    assert loaded.origins["optim.weight_decay"] == "c.yaml:6:17"
    assert loaded.origins["num_processes"] == "c.yaml:3:16"
    assert loaded.origins["ppo.kl_coef"] == "default"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RFT_SEED", "7")
    assert load_config(None).config.seed == 7


def test_columns_are_merged_name_by_name() -> None:
    loaded = load("data:\n  columns: {question: q, answer: a}\n", sets=["data.columns.answer=b"])
    assert loaded.config.data.columns == {"question": "q", "answer": "b"}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optim: {learning_rate: 1e-5}", "optim.learning_rate", 1e-5),
        ("optim: {learning_rate: 1E-5}", "optim.learning_rate", 1e-5),
        ("optim: {learning_rate: .5}", "optim.learning_rate", 0.5),
        ("optim: {learning_rate: 1}", "optim.learning_rate", 1.0),
        ("optim: {learning_rate: auto}", "optim.learning_rate", "auto"),
        ("optim: {learning_rate: 'auto'}", "optim.learning_rate", "auto"),
        ("seed: 1_000", "seed", 1000),
        ("seed: +5", "seed", 5),
        ("name: 12:30:45", "name", "12:30:45"),
        ("name: 2026-01-01", "name", "2026-01-01"),
        ("name: 010", "name", "010"),
        ("name: 'no'", "name", "no"),
        ('name: "007"', "name", "007"),
        ("name: ~", "name", None),
        ("name:", "name", None),
        ("lora: {enabled: yes}", "lora.enabled", True),
        ("lora: {enabled: OFF}", "lora.enabled", False),
        ("lora: {enabled: auto}", "lora.enabled", "auto"),
        ("lora: {enabled: TRUE}", "lora.enabled", True),
        ("lora: {target_modules: [q, v]}", "lora.target_modules", ["q", "v"]),
        ("lora: {target_modules: q}", "lora.target_modules", "q"),
        ("ppo: {value_clip: null}", "ppo.value_clip", None),
        ("ppo: &p {gamma: 0.5}\nlora: {r: 4}", "ppo.gamma", 0.5),
        ("seed: &s 5\nvalidation: {seed: *s}", "validation.seed", 5),
    ],
)
def test_yaml_values(text: str, key: str, value: object) -> None:
    assert value_at(load(text).config, key) == value


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("optim.learning_rate=1e-5", 1e-5),
        ("optim.learning_rate= 2e-5 ", 2e-5),
        ("optim.learning_rate=auto", "auto"),
        ("name=007", "007"),
        ("name=no", "no"),
        ("name=a=b", "a=b"),
        ("name=", None),
        ("lora.enabled=no", False),
        ("lora.enabled=auto", "auto"),
        ("grader.env=A,B", ["A", "B"]),
        ("grader.env=[A, 'B']", ["A", "B"]),
        ("grader.env=", []),
        ("lora.target_modules=[q, v]", ["q", "v"]),
        ("lora.target_modules=all-linear", "all-linear"),
        ("ppo.value_clip=null", None),
        ("grader.memory_mb=512", 512),
        ("data.columns.prompt=question", {"prompt": "question"}),
        (" seed =5", 5),
    ],
)
def test_set_values(item: str, value: object) -> None:
    key = item.partition("=")[0].strip().replace(".columns.prompt", ".columns")
    assert value_at(load(sets=[item]).config, key) == value


def test_the_last_set_wins() -> None:
    assert load(sets=["seed=1", "seed=2"]).config.seed == 2


def test_flags_may_be_text_numbers_and_paths() -> None:
    config = load(
        data__train=Path("a/t.jsonl"), optim__learning_rate="3e-4", optim__n_epochs=2, grader__env=("A", "B")
    ).config
    assert config.data.train == "a/t.jsonl"
    assert config.optim.learning_rate == 3e-4
    assert config.optim.n_epochs == 2
    assert config.grader.env == ["A", "B"]


def value_at(config: RunConfig, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        (
            "optim:\n  lerning_rate: 1",
            ("c.yaml:2:3: optim.lerning_rate: unknown setting", "did you mean 'optim.learning_rate'?"),
        ),
        (
            "learning_rate: 1",
            ("c.yaml:1:1: learning_rate: unknown setting", "did you mean 'optim.learning_rate'?"),
        ),
        ("pppo: {}", ("c.yaml:1:1: pppo: unknown setting", "did you mean 'ppo'?")),
        ("sede: 3", ("c.yaml:1:1: sede: unknown setting", "did you mean 'seed'?")),
        ("ppo:\n  learning_rate: 1", ("c.yaml:2:3: ppo.learning_rate: unknown setting", None)),
        (
            "checkpoint:\n  qqqq: 1",
            ("c.yaml:2:3: checkpoint.qqqq: unknown setting", "known in checkpoint: every_steps, keep_last"),
        ),
        (
            "data:\n  columns:\n    promt: x",
            ("c.yaml:3:5: data.columns.promt: unknown column", "did you mean 'prompt'?"),
        ),
        (
            "data:\n  columns: {zzz: x}",
            (
                "c.yaml:2:13: data.columns.zzz: unknown column",
                "known names: prompt, messages, task, input, output, question, answer, instruction, context, "
                "problem, query, conversations, system, tools",
            ),
        ),
        ("ppo: 3", ("c.yaml:1:6: ppo is a section", "write its settings under 'ppo:'")),
        (
            "data:\n  columns: [a]",
            ("c.yaml:2:12: data.columns is a section", "write its settings under 'columns:'"),
        ),
        (
            "algorithm: grop",
            (
                "c.yaml:1:12: algorithm: must be 'ppo', 'grpo', 'rloo' or 'sft' (got 'grop')",
                "did you mean 'grpo'?",
            ),
        ),
        (
            "optim:\n  learning_rate: fast",
            ("c.yaml:2:18: optim.learning_rate: must be a number > 0 or 'auto' (got 'fast')", None),
        ),
        (
            "optim: {learning_rate: -1e-5}",
            ("c.yaml:1:24: optim.learning_rate: must be a number > 0 or 'auto' (got -1e-5)", None),
        ),
        (
            "optim: {learning_rate: 0}",
            ("c.yaml:1:24: optim.learning_rate: must be a number > 0 or 'auto' (got 0)", None),
        ),
        (
            "optim: {learning_rate: .inf}",
            ("c.yaml:1:24: optim.learning_rate: must be a number > 0 or 'auto' (got .inf)", None),
        ),
        (
            "optim: {learning_rate: 1e999}",
            ("c.yaml:1:24: optim.learning_rate: must be a number > 0 or 'auto' (got 1e999)", None),
        ),
        ("ppo: {kl_coef: .nan}", ("c.yaml:1:16: ppo.kl_coef: must be a number >= 0 (got .nan)", None)),
        ("ppo: {kl_coef: '0.1'}", ("c.yaml:1:16: ppo.kl_coef: must be a number >= 0 (got '0.1')", None)),
        ("ppo: {kl_coef: true}", ("c.yaml:1:16: ppo.kl_coef: must be a number >= 0 (got true)", None)),
        ("ppo: {kl_coef: no}", ("c.yaml:1:16: ppo.kl_coef: must be a number >= 0 (got 'no')", None)),
        ("ppo: {gamma: 1.5}", ("c.yaml:1:14: ppo.gamma: must be a number >= 0 and <= 1 (got 1.5)", None)),
        ("lora: {dropout: 1}", ("c.yaml:1:17: lora.dropout: must be a number >= 0 and < 1 (got 1)", None)),
        ("seed: 1.0", ("c.yaml:1:7: seed: must be a whole number (got 1.0)", None)),
        ("seed: 010", ("c.yaml:1:7: seed: must be a whole number (got '010')", None)),
        ("seed:", ("c.yaml:1:6: seed: must be a whole number (got nothing)", None)),
        ("seed: [1]", ("c.yaml:1:7: seed: must be a whole number (got [1])", None)),
        (
            "seed: {a: 1}",
            ("c.yaml:1:7: seed: must be a whole number (got {'a': 1})", "it is one value, not a section"),
        ),
        (
            "seed: " + "9" * 5000,
            ("c.yaml:1:7: seed: must be a whole number (got '" + "9" * 36 + "...)", None),
        ),
        ("name: 007", None),
        ("name: 12", ("c.yaml:1:7: name: must be text or null (got 12)", 'quote it: "12"')),
        ("name: 1e-5", ("c.yaml:1:7: name: must be text or null (got 1e-5)", 'quote it: "1e-5"')),
        ("name: true", ("c.yaml:1:7: name: must be text or null (got true)", 'quote it: "true"')),
        (
            "name: No",
            ("c.yaml:1:7: name: No without quotes means true or false in much YAML", 'quote it: "No"'),
        ),
        (
            "grader:\n  env: [A, yes]",
            (
                "c.yaml:2:8: grader.env: yes without quotes means true or false in much YAML",
                'quote it: "yes"',
            ),
        ),
        ("grader: {env: A}", ("c.yaml:1:15: grader.env: must be a list of text (got 'A')", None)),
        ("grader: {env: [1]}", ("c.yaml:1:15: grader.env: must be a list of text (got [1])", None)),
        ("lora: {enabled: 1}", ("c.yaml:1:17: lora.enabled: must be true, false or 'auto' (got 1)", None)),
        (
            "model: {trust_remote_code: 'yes'}",
            ("c.yaml:1:28: model.trust_remote_code: must be true or false (got 'yes')", None),
        ),
        (
            "seed: -1",
            (
                "c.yaml:1:7: seed: must be a whole number from 0 to 4294967295 (got -1)",
                "choose a smaller number that is not negative",
            ),
        ),
    ],
)
def test_one_bad_yaml_value(yaml: str, expected: Problem | None) -> None:
    if expected is None:
        load(yaml)
        return
    ((message, fix),) = problems(yaml)
    assert message == expected[0]
    if expected[1] is not None:
        assert fix == expected[1]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("seed: 1\nname: a\nseed: 2\n", "c.yaml:3:1: 'seed' is set twice, first on line 1"),
        ("ppo:\n  gamma: 1\nppo:\n  passes: 1\n", "c.yaml:3:1: 'ppo' is set twice, first on line 1"),
        ("seed: 1: 2\n", "c.yaml:1:8: a second ': ' on one line, or wrong indentation"),
        ("ppo:\n\tgamma: 1\n", "c.yaml:2:1: a tab: YAML indents with spaces"),
        ("seed: 1\nname\n", "c.yaml:3:1: a line without ': '"),
        ("ppo:\n  gamma: 1\n passes: 1\n", "c.yaml:3:2: wrong indentation"),
        ("name: 'a\n", "c.yaml:2:1: not valid YAML: found unexpected end of stream"),
        ("name: *x\n", "c.yaml:1:7: the alias 'x' has no anchor"),
        ("seed: 1\n---\nseed: 2\n", "c.yaml:2:1: a second document (---)"),
        ("- 1\n", "c.yaml:1:1: the file must hold settings as 'key: value' lines"),
        ("just text\n", "c.yaml:1:1: the file must hold settings as 'key: value' lines"),
        (
            "seed: !!python/object/apply:os.system [ls]\n",
            "c.yaml:1:7: the tag tag:yaml.org,2002:python/object/apply",
        ),
        ("seed: !!int '3'\n", "c.yaml:1:7: the tag tag:yaml.org,2002:int is not allowed"),
        ("a: &a {x: 1}\nppo:\n  <<: *a\n", "c.yaml:3:3: merge keys (<<) are not supported"),
        ("? [a]\n: 1\n", "c.yaml:1:3: a key must be a word"),
        ("seed: " + "[" * 50 + "]" * 50, "c.yaml:1:7: seed: must be a whole number"),
        ("seed: " + "[" * 100_000, "c.yaml: nested too deep to read"),
        ("seed: &a [*a]\n", "c.yaml: nested too deep to read"),
        (b"name: a\nseed: \xff\n", "c.yaml:2:7: byte 0xff is not valid UTF-8"),
        ("name: a\nseed: \x07\n", "c.yaml:2:7: the character U+0007 is not allowed in YAML"),
        ("# " + "x" * 1_000_000, "c.yaml: larger than 1 MB: not a configuration"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_files_that_are_no_settings(yaml: str | bytes, message: str) -> None:
    found = [text for text, _ in problems(yaml)]
    assert found[0].startswith(message) or any(text.startswith(message) for text in found)


def test_an_alias_bomb_is_stopped() -> None:
    levels = "\n".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    (found,) = problems(f"a: &a [x]\n{levels}\n")
    assert found[0].startswith("c.yaml:")
    assert found[0].endswith("more than 10000 values (an alias counts as what it stands for)")


def test_all_problems_at_once_the_file_first_in_its_order() -> None:
    found = problems(
        "name: no\noptim:\n  n_epochs: many\n  lr: 1\nseed: 1\nseed: 2\n",
        env={"RFT_SEEED": "1", "RFT_PPO__GAMMA": "2"},
        sets=["ppo.gama=1", "nothing", "lora=1"],
        optim__learning_rate=-1.0,
    )
    assert [message.partition(":")[0] for message, _ in found] == ["c.yaml"] * 4 + [
        "RFT_SEEED",
        "--set",
        "--set nothing",
        "--set lora",
        "RFT_PPO__GAMMA",
        "--learning-rate",
    ]
    assert [message.split(":")[1] for message, _ in found[:4]] == ["1", "3", "4", "6"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"env": {"RFT_SEEED": "1"}}, ("RFT_SEEED: no such setting", "did you mean RFT_SEED?")),
        (
            {"env": {"RFT_QQQQQQQ": "1"}},
            ("RFT_QQQQQQQ: no such setting", "unset it: variables named RFT_SECTION__KEY are settings"),
        ),
        ({"env": {"RFT_SEED": "x"}}, ("RFT_SEED: must be a whole number (got 'x')", None)),
        (
            {"env": {"RFT_NAME": "a\udcff"}},
            ("RFT_NAME: holds bytes that are not UTF-8", "write it as text in UTF-8"),
        ),
        (
            {"sets": ["seed"]},
            ("--set seed: has no '='", "write --set KEY=VALUE, for example --set optim.learning_rate=1e-5"),
        ),
        ({"sets": ["ppo=1"]}, ("--set ppo: is a section", "set one of its keys, for example ppo.kl_coef")),
        (
            {"sets": ["ppo.klcoef=1"]},
            ("--set: ppo.klcoef: unknown setting", "did you mean 'ppo.kl_coef'?"),
        ),
        (
            {"sets": ["optm.learning_rate=1"]},
            ("--set: optm.learning_rate: unknown setting", "did you mean 'optim.learning_rate'?"),
        ),
        ({"sets": ["=1"]}, ("--set: : unknown setting", None)),
        ({"sets": ["x.y.z=1"]}, ("--set: x.y.z: unknown setting", "see docs/configuration.md")),
        ({"sets": ["seed="]}, ("--set seed: must be a whole number (got null)", None)),
        ({"sets": ["seed=1.5"]}, ("--set seed: must be a whole number (got 1.5)", None)),
        ({"sets": ["seed=" + "9" * 300]}, None),
        ({"seed": 10**100}, None),
        (
            {"optim__learning_rate": float("nan")},
            ("--learning-rate: must be a number > 0 or 'auto' (got nan)", None),
        ),
        ({"data__train": [5]}, ("--training-file: must be text, a list of text or null (got [5])", None)),
        ({"sede": 1}, ("--sede: sede: unknown setting", "did you mean 'seed'?")),
    ],
)
def test_one_bad_value_elsewhere(options: dict[str, Any], expected: Problem | None) -> None:
    ((message, fix),) = problems(**options)
    if expected is None:
        assert "seed: " in message
    else:
        assert message == expected[0]
        if expected[1] is not None:
            assert fix == expected[1]


def test_internal_and_empty_variables_are_no_settings() -> None:
    env = {"RFT_DEBUG": "1", "RFT_INTERNAL_X": "1", "RFT_SEED": "", "rft_seed": "9", "RFTX": "1"}
    assert load(env=env).config == RunConfig()


def test_a_bad_value_overridden_by_a_flag_is_no_problem() -> None:
    assert load("seed: x\n", seed=3).config.seed == 3


def test_missing_and_unreadable_files() -> None:
    Path("config.yaml").touch()
    Path("folder").mkdir()
    for path, message, fix in [
        ("confg.yaml", "confg.yaml: no such file", "did you mean 'config.yaml'?"),
        ("folder", "folder: is a directory", "give the YAML file in it"),
        ("a\x00b", "a\x00b: can't be read: embedded null byte", None),
        ("n" * 5000, "n" * 5000 + ": can't be read: File name too long", None),
    ]:
        with pytest.raises(UsageErrors) as caught:
            load_config(path, env={}, sets=["seed=x"])
        first, second = caught.value.problems
        assert (first.message, first.fix) == (message, fix)
        assert second.message == "--set seed: must be a whole number (got 'x')"


def test_yaml_paths_are_relative_to_the_file() -> None:
    Path("sub/deep").mkdir(parents=True)
    Path("sub/c.yaml").write_text(
        "model: {path: ./base}\n"
        "data: {train: t.jsonl, validation: ../v.jsonl, test: /abs/x.jsonl}\n"
        "grader: {path: 'deep/scorer.py:score'}\n"
        "output_dir: runs\n"
    )
    config = load_config("sub/c.yaml", env={}).config
    assert config.model.path == "./sub/base"
    assert (config.data.train, config.data.validation, config.data.test) == (
        "sub/t.jsonl",
        "v.jsonl",
        "/abs/x.jsonl",
    )
    assert config.grader.path == "sub/deep/scorer.py:score"
    assert config.output_dir == "runs"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.path", "builtin/tiny", "builtin/tiny"),
        ("model.path", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("model.path", "../base", "base"),
        ("model.path", "./base", "./sub/base"),
        ("model.path", "~/base", "/home/u/base"),
        ("grader.path", "org/reward-model", "org/reward-model"),
        ("grader.path", "spec.json", "sub/spec.json"),
        ("grader.path", "./reward-model", "sub/reward-model"),
        ("data.train", "'-'", "-"),
        ("data.train", "~/t.jsonl", "/home/u/t.jsonl"),
    ],
)
def test_what_counts_as_a_path(key: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    Path("sub").mkdir()
    section, _, name = key.partition(".")
    Path("sub/c.yaml").write_text(f"{section}:\n  {name}: {value}\n")
    found = value_at(load_config("sub/c.yaml", env={}).config, key)
    # "../base" from sub/ is the folder beside it; the "./" tells it from a hub id.
    assert found == ("./base" if value == "../base" else expected)


def test_paths_elsewhere_are_relative_to_the_working_directory() -> None:
    Path("sub").mkdir()
    Path("sub/c.yaml").write_text("data: {train: t.jsonl}\n")
    loaded = load_config(
        "sub/c.yaml",
        env={"RFT_DATA__VALIDATION": "v.jsonl"},
        sets=["data.test=x.jsonl"],
        overrides={"grader.path": "scorer.py"},
    )
    data = loaded.config.data
    assert (data.train, data.validation, data.test) == ("sub/t.jsonl", "v.jsonl", "x.jsonl")
    assert loaded.config.grader.path == "scorer.py"


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (
            ["rollout.prompts_per_batch=7", "ppo.minibatches=3"],
            (
                "--set rollout.prompts_per_batch: a rollout batch of 7 prompts x 8 completions = 56 can't be "
                "divided into 3 minibatches x 1 process = 3 equal parts",
                "set rollout.prompts_per_batch to 6 or 9",
            ),
        ),
        (
            ["num_processes=3"],
            (
                "--set num_processes: a rollout batch of 16 prompts x 8 completions = 128 can't be "
                "divided into 2 minibatches x 3 processes = 6 equal parts",
                "set rollout.prompts_per_batch to 15 or 18",
            ),
        ),
        (
            ["rollout.prompts_per_batch=1", "rollout.group_size=5", "ppo.minibatches=4"],
            (
                "--set rollout.prompts_per_batch: a rollout batch of 1 prompts x 5 completions = 5 can't be "
                "divided into 4 minibatches x 1 process = 4 equal parts",
                "set rollout.prompts_per_batch to 4",
            ),
        ),
        (
            ["optim.micro_batch_size=24"],
            (
                "--set optim.micro_batch_size: 24 does not divide the 64 completions which one process has in a "
                "minibatch (128 in a rollout batch / 2)",
                "set optim.micro_batch_size to 16, or leave it at auto",
            ),
        ),
        (
            ["optim.micro_batch_size=100", "num_processes=4"],
            (
                "--set optim.micro_batch_size: 100 does not divide the 16 completions which one process has in a "
                "minibatch (128 in a rollout batch / 8)",
                "set optim.micro_batch_size to 16, or leave it at auto",
            ),
        ),
        (
            ["validation.samples_per_prompt=4", "validation.temperature=0"],
            (
                "--set validation.samples_per_prompt: 4 samples at validation.temperature 0 would all be the same",
                "set validation.samples_per_prompt to 1, or a validation.temperature over 0",
            ),
        ),
        (
            ["validation.seed=4294967296"],
            (
                "--set validation.seed: must be a whole number from 0 to 4294967295 (got 4294967296)",
                "choose a smaller number that is not negative",
            ),
        ),
    ],
)
def test_settings_that_do_not_go_together(sets: list[str], expected: Problem) -> None:
    assert problems(sets=sets) == [expected]


@pytest.mark.parametrize(
    "sets",
    [
        ["optim.micro_batch_size=16"],
        ["optim.micro_batch_size=64"],
        ["num_processes=4", "ppo.minibatches=4"],
        ["validation.samples_per_prompt=4"],
        ["validation.temperature=0"],
        ["seed=4294967295"],
    ],
)
def test_settings_that_do_go_together(sets: list[str]) -> None:
    assert load(sets=sets).notes == []


def test_a_conflict_that_rests_on_a_bad_value_is_not_repeated() -> None:
    assert [message for message, _ in problems(sets=["num_processes=3", "ppo.minibatches=x"])] == [
        "--set ppo.minibatches: must be a whole number >= 1 (got 'x')"
    ]


def test_a_conflict_names_its_place_in_the_file() -> None:
    ((message, _),) = problems("rollout:\n  prompts_per_batch: 5\n  group_size: 5\n")
    assert message.startswith(
        "c.yaml:2:22: rollout.prompts_per_batch: a rollout batch of 5 prompts x 5 completions"
    )


@pytest.mark.parametrize(
    ("sets", "note"),
    [
        (
            ["algorithm=grpo", "ppo.gamma=0.9", "ppo.critic=mlp", "ppo.kl_coef=0"],
            "ppo.gamma, ppo.critic: no effect with algorithm grpo, which has no critic",
        ),
        (["lora.enabled=no", "lora.r=4"], "lora.r: no effect while lora.enabled is false"),
        (["rollout.temperature=0.7"], "rollout.temperature is 0.7: the policy is sampled at it"),
        (["rollout.top_p=0.9"], "rollout.top_p is 0.9: sampled completions no longer follow the policy"),
        (["data.validation=v.jsonl", "data.test=v.jsonl"], "data.test is the validation file"),
    ],
)
def test_notes(sets: list[str], note: str) -> None:
    (found,) = load(sets=sets).notes
    assert found.startswith(note)


@pytest.mark.parametrize("critic", ["shared", "top", "adapter"])
def test_a_critic_of_earlier_versions_is_one_message(critic: str) -> None:
    found = problems(f"ppo:\n  critic: {critic}\n  value_coef: 0.5\n")
    assert found == [(f"c.yaml:2:11: ppo.critic: must be 'none' or 'mlp' (got '{critic}')", None)]


def test_settings_of_earlier_versions_are_a_note() -> None:
    yaml = "distributed:\n  hang_timeout_s: 30\n  collective_timeout_s: 50\n"
    of_file, of_set, of_environment = (
        load(yaml),
        load(sets=["distributed.hang_timeout_s=30"]),
        load(env={"RFT_DISTRIBUTED__HANG_TIMEOUT_S": "30"}),
    )
    assert of_file.config.distributed.collective_timeout_s == 50
    for found, place in (
        (of_file, "c.yaml:2:19: distributed.hang_timeout_s"),
        (of_set, "--set distributed.hang_timeout_s"),
        (of_environment, "RFT_DISTRIBUTED__HANG_TIMEOUT_S"),
    ):
        assert found.notes == [
            f"{place}: no longer a setting, ignored: distributed.collective_timeout_s alone limits how long processes "
            "wait for one another"
        ]
        assert found.removed == tuple(found.notes)
    assert load("distributed:\n  hang_timeout_s: 45.0\n").notes == []  # as every run wrote it out
    assert [message for message, _ in problems(sets=["distributed.hang_timeout=30"])] == [
        "--set: distributed.hang_timeout: unknown setting"
    ]


def test_loading_a_config_costs_no_torch() -> None:
    program = (
        "import sys\nfrom rft_cli.config.load import load_config\n"
        "from rft_cli.errors import UsageErrors\n"
        "try:\n    load_config('no.yaml', sets=['seed=x'], env={})\n"
        "except UsageErrors as error:\n    print(len(error.problems), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, env=environment()
    )
    assert done.stdout.split() == ["2", "False"]
