"""Every damaged or odd configuration: read as its words look, or all of its problems at once with line and column."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rft_cli.config import RunConfig
from rft_cli.config.dump import dump_config, with_absolute_paths
from rft_cli.config.keys import all_keys
from rft_cli.config.load import SHOWN_PROBLEMS, load_config
from rft_cli.errors import UsageErrors
from tests.command import rft

pytestmark = pytest.mark.fault("configurations")


def load(content: str | bytes, **options: Any) -> RunConfig | list[str]:
    """The configuration of this YAML file, or the messages on it."""
    Path("c.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    return load_layers("c.yaml", **options)


def load_layers(path: str | None, **options: Any) -> RunConfig | list[str]:
    try:
        return load_config(path, **{"env": {}, **options}).config
    except UsageErrors as error:
        return [problem.message for problem in error.problems]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVERYTHING_WRONG = """\
seed: 010
name: no
sede: 3
output_dir: 12:30:45
optim:
  learning_rate: fast
  lerning_rate: 1e-5
  n_epochs: 2.0
  n_epochs: 3
rollout:
  group_size: 1
lora: &lora {r: 0, enabled: maybe}
model:
  <<: *lora
  path: [tiny]
ppo: [1, 2]
grader:
  env: [A, yes]
  timeout_s: .inf
  workers: 1e3
data:
  columns: {promt: x}
  format: openapi
validation:
  samples_per_prompt: 4
  temperature: 0
---
seed: 1
"""
ALL_PROBLEMS = [
    "c.yaml:1:7: seed: must be a whole number (got '010')",
    "c.yaml:2:7: name: no without quotes means true or false in much YAML",
    "c.yaml:3:1: sede: unknown setting",
    "c.yaml:6:18: optim.learning_rate: must be a number > 0 or 'auto' (got 'fast')",
    "c.yaml:7:3: optim.lerning_rate: unknown setting",
    "c.yaml:8:13: optim.n_epochs: must be a whole number >= 1 or 'auto' (got 2.0)",
    "c.yaml:9:3: 'n_epochs' is set twice, first on line 8",
    "c.yaml:11:15: rollout.group_size: must be a whole number >= 2 (got 1)",
    "c.yaml:12:17: lora.r: must be a whole number >= 1 (got 0)",
    "c.yaml:12:29: lora.enabled: must be true, false or 'auto' (got 'maybe')",
    "c.yaml:14:3: merge keys (<<) are not supported",
    "c.yaml:15:9: model.path: must be text (got ['tiny'])",
    "c.yaml:16:6: ppo is a section",
    "c.yaml:18:8: grader.env: yes without quotes means true or false in much YAML",
    "c.yaml:19:14: grader.timeout_s: must be a number > 0 or 'auto' (got .inf)",
    "c.yaml:20:12: grader.workers: must be a whole number >= 1 or 'auto' (got 1e3)",
    "c.yaml:22:13: data.columns.promt: unknown column",
    "c.yaml:23:11: data.format: must be 'auto', 'openai', 'sharegpt', 'verl', 'trl', 'alpaca', 'rft', 'gsm8k', 'qa' "
    "or 'preference' (got 'openapi')",
    "c.yaml:25:23: validation.samples_per_prompt: 4 samples at validation.temperature 0 would all be the same",
    "c.yaml:27:1: a second document (---)",
    "RFT_OPTIM__LERNING_RATE: no such setting",
    "--set: ppo.gama: unknown setting",
    "RFT_PPO__GAMMA: must be a number >= 0 and <= 1 (got 'high')",
    "--set ppo.passes: must be a whole number >= 1 (got 0)",
]


def test_everything_that_is_wrong_comes_at_once_through_the_command(folder: Path) -> None:
    (folder / "c.yaml").write_text(EVERYTHING_WRONG)
    env = {"RFT_OPTIM__LERNING_RATE": "1", "RFT_PPO__GAMMA": "high", "RFT_NAME": ""}
    done = rft("validate", "c.yaml", "--set", "ppo.gama=1", "--set", "ppo.passes=0", folder=folder, env=env)
    assert done.code == 2
    assert done.problems == ALL_PROBLEMS
    assert done.stdout == b""
    assert "  fix: did you mean 'optim.learning_rate'?" in done.err


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: a\nseed: \x00\n", "c.yaml:2:7: the character U+0000 is not allowed in YAML"),
        ("name: 'a\u2028b'\n", "c.yaml:1:9: the character U+2028 is not allowed in YAML"),
        ("data: {system: a\x85b}\n", "c.yaml:1:17: the character U+0085 is not allowed in YAML"),
        ("seed: 1\n".encode("utf-16"), "c.yaml:1:1: the file is UTF-16, UTF-32 or no text"),
        (b"\x00" * 100, "c.yaml:1:1: the file is UTF-16, UTF-32 or no text"),
        (b"\x89PNG\r\n\x1a\n", "c.yaml:1:1: byte 0x89 is not valid UTF-8"),
        ("\tseed: 1\n", "c.yaml:1:1: a tab: YAML indents with spaces"),
        ("ppo:\n\tgamma: 1\n", "c.yaml:2:1: a tab: YAML indents with spaces"),
        ('name: "a\\0b"\n', "c.yaml:1:7: name: holds a NUL character"),
        ('grader: {env: ["A", "\\ud800"]}\n', "c.yaml:1:15: grader.env: holds half of a surrogate pair"),
        ("grader: {spec: {type: x, deep: {a: ['\\x00']}}}\n", None),
        ('grader: {spec: {type: x, deep: {a: ["\\x00"]}}}\n', "c.yaml:1:16: grader.spec: holds a NUL character"),
        ("seed: 1\n...\nname: x\n", "c.yaml:3:1: "),
        ("name: !!python/object/apply:os.system [x]\n", "c.yaml:1:7: the tag tag:yaml.org,2002:python/object/apply:os"),
        ("seed: 1 # \u202e\nname: [\n", "c.yaml:3:1: not valid YAML: expected the node content"),
        ("? [a, b]\n: 1\n", "c.yaml:1:3: a key must be a word"),
        ("{seed: 1, seed: 2}\n", "c.yaml:1:11: 'seed' is set twice, first on line 1"),
        ('"a\\nb": 1\n', "c.yaml:1:1: a\\nb: unknown setting"),
        ("x" * 500 + ": 1\n", "c.yaml:1:1: " + "x" * 59 + "…: unknown setting"),
        (BOMB, "c.yaml:1:4: more than 10000 values (an alias counts as what it stands for)"),
        ("seed: " + "[" * 100_000, "c.yaml: nested too deep to read"),
        ("x: " + "{a: " * 100_000, "c.yaml: nested too deep to read"),
        ("- " * 100_000, "c.yaml: nested too deep to read"),
        ("? " * 100_000, "c.yaml: nested too deep to read"),
        ("#" * 1_000_001, "c.yaml: larger than 1 MB: not a configuration"),
        ("seed: [" + "1, " * 20_000 + "]", "c.yaml:1:30002: more than 10000 values"),
    ],
    ids=lambda value: ascii(value and value[:30]),
)  # fmt: skip
def test_one_fault(content: str | bytes, message: str | None) -> None:
    began = time.process_time()
    found = load(content)
    assert time.process_time() - began < 5
    if message is None:
        assert isinstance(found, RunConfig)
    else:
        assert isinstance(found, list)
        assert any(said.startswith(message) for said in found), found


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("optim: {learning_rate: 1e-5}", "optim.learning_rate", 1e-5),
        ("name: 12:30:45", "name", "12:30:45"),
        ("name: 010", "name", "010"),
        ("name: 0x1F", "name", "0x1F"),
        ("name: 2026-01-01", "name", "2026-01-01"),
        ("lora: {enabled: no}", "lora.enabled", False),
        ("ppo: &p {gamma: 0.5}", "ppo.gamma", 0.5),
        ("seed: &s 5\nvalidation: {seed: *s}", "validation.seed", 5),
        ("\ufeffseed: 3\r\nname: x\r\n", "seed", 3),
        ("%YAML 1.2\n---\nseed: 3\n...\n", "seed", 3),
        ('data: {system: "a\\u2028b\\N\\e[31m"}', "data.system", "a\u2028b\x85\x1b[31m"),
        ("data:\n  system: |\n    one\n     two\n", "data.system", "one\n two\n"),
        ("data: {train: 'a b/ü.jsonl'}", "data.train", "a b/ü.jsonl"),
    ],
)  # fmt: skip
def test_what_is_read_is_what_stands_there(content: str, key: str, value: object) -> None:
    found: Any = load(content)
    for name in key.split("."):
        found = getattr(found, name)
    assert (type(found), found) == (type(value), value)


def test_thousands_of_problems_are_cut_and_counted() -> None:
    began = time.process_time()
    found = load("".join(f"key{n}: {n}\n" for n in range(4_000)))
    assert time.process_time() - began < 20
    assert isinstance(found, list)
    assert len(found) == SHOWN_PROBLEMS + 1
    assert found[SHOWN_PROBLEMS - 1].startswith("c.yaml:50:1: key49: unknown setting")
    assert found[-1] == "and 3,950 more problems in the settings"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rollout: {prompts_per_batch: 5, group_size: 5}", "c.yaml:1:30: rollout.prompts_per_batch: a rollout"),
        ("num_processes: 3", "c.yaml:1:16: num_processes: a rollout batch of 16 prompts x 8"),
        ("optim: {micro_batch_size: 24}", "c.yaml:1:27: optim.micro_batch_size: 24 does not divide the 64 completions"),
        ("grader: {path: s.py, spec: {type: multi}}", "c.yaml:1:16: grader.path: a grader file and an inline spec"),
        ("validation: {every_epochs: 1, every_completions: 600}",
         "c.yaml:1:50: validation.every_completions: set beside validation.every_epochs: both say when to validate"),
        ("seed: -1\nvalidation: {seed: 4294967296}", "c.yaml:1:7: seed: must be a whole number from 0 to 4294967295"),
    ],
)  # fmt: skip
def test_settings_that_can_not_go_together(content: str, message: str) -> None:
    found = load(content)
    assert isinstance(found, list)
    assert any(said.startswith(message) for said in found), found


@pytest.mark.parametrize(
    ("sets", "note"),
    [
        (["ppo.critic_passes=3"], "ppo.critic_passes: no effect without a critic (ppo.critic)"),
        (["ppo.value_coef=1"], "--set ppo.value_coef: no longer a setting, ignored"),
        (["validation.every_epochs=5", "optim.n_epochs=2"], "validation.every_epochs is 5: a job of 2 epochs"),
        (["data.train=a.jsonl", "data.validation=./a.jsonl"], "data.validation is the training file"),
    ],
)  # fmt: skip
def test_settings_that_have_no_effect_are_noted(sets: list[str], note: str) -> None:
    (found,) = load_config(None, sets=sets, env={}).notes
    assert found.startswith(note)


def test_the_context_is_held_against_the_completions_before_a_model_loads(folder: Path) -> None:
    (folder / "t.jsonl").write_text('{"prompt": "p"}\n')
    (folder / "v.jsonl").write_text('{"prompt": "q"}\n')
    (folder / "s.py").write_text("def score(completion):\n    return float(len(completion))\n")
    (folder / "c.yaml").write_text(
        "data: {train: t.jsonl, validation: v.jsonl}\ngrader: {path: s.py, audit: none}\n"
        "rollout:\n  max_completion_tokens: 512\n"
    )
    done = rft("validate", "c.yaml", folder=folder)
    (problem,) = done.problems
    reason = "512 tokens leave no room for a prompt: the context of builtin/tiny is 512"
    assert (done.code, problem) == (2, f"c.yaml:4:26: rollout.max_completion_tokens: {reason}")
    done = rft("create", "--config", "c.yaml", "--set", "rollout.max_completion_tokens=511", "--output-dir", "c.yaml",
               folder=folder)  # fmt: skip
    assert done.problems == ["cannot make a run in c.yaml"]
    done = rft("validate", "/dev/zero", folder=folder)
    assert (done.code, done.problems) == (2, ["/dev/zero: larger than 1 MB: not a configuration"])


# ------------------------------------------------------------------------------------------------ fuzz

VALID = dump_config(RunConfig.model_validate({"data": {"train": "t.jsonl"}, "grader": {"path": "s.py"}}))
WORDS = st.sampled_from(
    ["yes", "no", "on", "1e-5", ".inf", ".nan", "010", "12:30:45", "~", "null", "-1", "1e999", "9" * 500, "!!int 3",
     "!x", "&a", "*a", "<<", "? ", "- ", "---", "...", "{", "}", "[", "]", "'", '"', "|", ">", "#", ": ", ",", "\n",
     "\n  ", "\t", "\r", "\ufeff", "\u2028", "\x85", "\x00", "%YAML 1.1", "seed", "ppo", "grader", "\\ud800",
     "=", "@", "`"],
)  # fmt: skip
MESSAGE = re.compile(r"c\.yaml(:\d+:\d+)?: |and \d+ more")


def check(content: str | bytes) -> None:
    """A configuration, or problems that name the file; never anything else, and never for long."""
    began = time.process_time()
    found = load(content)
    assert time.process_time() - began < 5
    if isinstance(found, list):
        assert found
        assert all(MESSAGE.match(said) for said in found), found
    else:
        Path("again.yaml").write_text(dump_config(found))
        assert load_layers("again.yaml") == with_absolute_paths(found)


@given(st.text(max_size=200))
def test_any_text(content: str) -> None:
    check(content.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    check(content)


@given(st.lists(WORDS | st.text(max_size=4), max_size=25).map("".join))
def test_any_pieces_of_yaml(content: str) -> None:
    check(content.encode("utf-8", "surrogatepass"))


@given(st.data())
def test_any_damage_to_a_good_file(data: st.DataObject) -> None:
    content = VALID
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        piece = data.draw(WORDS | st.text(max_size=3))
        content = content[:place] + piece + content[place + data.draw(st.integers(0, 5)) :]
    check(content.encode("utf-8", "surrogatepass"))


KEYS = st.sampled_from(list(all_keys()))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_any_value_of_any_key_in_yaml(values: dict[str, Any]) -> None:
    root: dict[str, Any] = {}
    for key, value in values.items():
        inner = root
        *sections, name = key.split(".")
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    check(yaml.safe_dump(root).encode("utf-8", "surrogatepass"))


@given(KEYS, LEAVES.map(str) | WORDS | st.text(max_size=30))
def test_any_text_for_any_key_elsewhere(key: str, text: str) -> None:
    found = load_layers(None, sets=[f"{key}={text}"])
    if isinstance(found, list):
        assert all(said.startswith(f"--set {key}: ") for said in found), found
    if "\0" not in text:
        name = "RFT_" + key.replace(".", "__").upper()
        found = load_layers(None, env={name: text})
        if isinstance(found, list):
            assert all(said.startswith(name) for said in found), found
    found = load_layers(None, overrides={key: text})
    if isinstance(found, list):
        assert all(said.startswith("--") for said in found), found


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_name_elsewhere(name: str, text: str) -> None:
    for found in (
        load_layers(None, sets=[f"{name}={text}", name]),
        load_layers(None, env={f"RFT_{name}": text}),
    ):
        if isinstance(found, list):
            assert all(said.isprintable() for said in found), found
