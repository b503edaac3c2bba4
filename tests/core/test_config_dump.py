"""A dumped configuration reads back as the same job; the docs' table is current; fuzzing finds no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rft_cli.config import RunConfig
from rft_cli.config.dump import dump_config, with_absolute_paths
from rft_cli.config.keys import all_keys
from rft_cli.config.load import load_config
from rft_cli.config.scalars import means_itself, plain
from rft_cli.config.table import BEGIN, END, config_table_markdown, with_table
from rft_cli.errors import UsageErrors

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def reload(text: str, folder: Path) -> RunConfig:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(str(file), env={}).config


def test_defaults_read_back(tmp_path: Path) -> None:
    assert reload(dump_config(RunConfig()), tmp_path) == RunConfig()


def test_paths_mean_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    sets = ["data.train=t.jsonl", "data.test=-", "grader.path=s.py:f", "model.path=runs/one", "output_dir=o"]
    sets.append("grader.judge.cache=verdicts")
    config = load_config(None, sets=sets, env={}).config
    dumped = dump_config(config)
    loaded = reload(dumped, tmp_path / "runs")
    assert loaded == with_absolute_paths(config)
    assert loaded.data.train == f"{tmp_path}/t.jsonl"
    assert loaded.data.test == "-"
    assert loaded.grader.path == f"{tmp_path}/s.py:f"
    assert loaded.model.path == f"{tmp_path}/runs/one"
    assert loaded.grader.judge.cache == f"{tmp_path}/verdicts"
    assert loaded.output_dir == "o"
    assert dump_config(loaded) == dumped


@pytest.mark.parametrize(
    "name",
    [
        "no",
        "Y",
        "1e-5",
        "007",
        "12:30:45",
        "null",
        "~",
        "",
        " a ",
        "a: b",
        "- a",
        "#a",
        "a\nb",
        "\u2028",
        "\x85",
        "é😀",
        "'\"",
        "0o17",
    ],
)
def test_awkward_text_reads_back(name: str, tmp_path: Path) -> None:
    config = RunConfig(name=name)
    dumped = dump_config(config)
    assert reload(dumped, tmp_path) == config
    assert yaml.safe_load(dumped)["name"] == name


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)  # NUL is refused


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=TEXT,
    rate=st.one_of(st.just("auto"), st.floats(min_value=1e-300, max_value=1e300)),
    env=st.lists(TEXT, max_size=3),
    columns=st.dictionaries(st.sampled_from(["prompt", "answer"]), TEXT),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_config_reads_back(
    name: str, rate: Any, env: list[str], columns: dict[str, str], seed: int, tmp_path: Path
) -> None:
    config = RunConfig.model_validate(
        {
            "name": name,
            "seed": seed,
            "optim": {"learning_rate": rate},
            "grader": {"env": env},
            "data": {"columns": columns, "system": name},
        }
    )
    assert reload(dump_config(config), tmp_path) == config


YAMLISH = st.text("aseed:ppogm{}[]&*!|>-?#'\"%@`, \n\t01.e~", max_size=60)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(YAMLISH.map(str.encode), st.binary(max_size=60)))
def test_any_file_ends_in_a_config_or_problems_with_places(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    try:
        loaded = load_config(str(file), env={})
    except UsageErrors as error:
        messages = [problem.message for problem in error.problems]
    else:
        messages = []
        assert isinstance(loaded.config, RunConfig)
    assert all(message.startswith(f"{file}:") for message in messages)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(all_keys())), TEXT)
def test_any_set_ends_in_a_config_or_problems(key: str, text: str) -> None:
    messages = []
    try:
        loaded = load_config(None, sets=[f"{key}={text}"], env={})
    except UsageErrors as caught:
        messages = [problem.message for problem in caught.problems]
    else:
        assert loaded.origins[key] == f"--set {key}"
    assert all(message.startswith(f"--set {key}: ") for message in messages)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("true", True),
        ("False", False),
        ("0", 0),
        ("-12", -12),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("-.5e-2", -0.005),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("012", "012"),
        ("0x1f", "0x1f"),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("tRUE", "tRUE"),
        ("٣", "٣"),
        ("9" * 401, "9" * 401),
    ],
)
def test_plain_words(text: str, value: object) -> None:
    assert plain(text) == value
    assert type(plain(text)) is type(value)


def test_words_that_mean_themselves() -> None:
    assert [
        text for text in ("a", "no", "Off", "1", "true", "", "null", "1e5", "ab c") if means_itself(text)
    ] == [
        "a",
        "ab c",
    ]


def test_the_table_in_the_docs_is_current() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert with_table(text) == text, "run: python -m rft_cli.config.table docs/configuration.md"


def test_the_table_has_a_row_with_a_meaning_for_every_setting() -> None:
    table = config_table_markdown()
    for key in all_keys():
        name = "data.columns" if key.startswith("data.columns.") else key
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
        cells = row.replace("\\|", "").strip("|").split("|")
        assert len(cells) == 4
        assert len(cells[3].split()) >= 3, f"{key} has no docstring"
    assert "| `ppo.kl_coef` | `0.005` | a number >= 0 |" in table
    assert "| `lora.enabled` | `auto` | true, false or 'auto' |" in table


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no markers"):
        with_table("# Settings")


def test_the_table_command_rewrites_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.md"
    file.write_text(f"# T\n{BEGIN}\nold\n{END}\nrest\n")
    subprocess.run([sys.executable, "-m", "rft_cli.config.table", str(file)], check=True)
    assert file.read_text() == f"# T\n{BEGIN}\n\n{config_table_markdown()}\n\n{END}\nrest\n"
