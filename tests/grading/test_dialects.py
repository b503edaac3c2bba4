"""Reward functions as their owners wrote them, through the real command line and real workers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.command import RFT, environment

HERE = Path(__file__).parent / "dialects"
PLAIN, VERL = "plain.jsonl", "verl_math.jsonl"
WRONG = "no idea whatsoever, but this text is a lot longer than forty letters"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the rows, each once with its right completion and once with a wrong one, and a helper package."""
    for name in (PLAIN, VERL):
        lines = (HERE / name).read_text().splitlines()
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        rows = [json.loads(line) for line in lines]
        done = [
            {**row, "completion": text}
            for row in rows
            for text in (str(row.get("answer") or row["reward_model"]["ground_truth"]), WRONG)
        ]
        (tmp_path / f"done-{name}").write_text("".join(f"{json.dumps(row)}\n" for row in done))
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "text.py").write_text("def tidy(text):\n    return text.strip()\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.json").write_text(json.dumps({"3": 1, "7": 1, "11": 1, "15": 1}))
    return tmp_path


def rft(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Like the installed command, `python -m` does not look for modules in the folder first.
    alone = {**environment(), "PYTHONSAFEPATH": "1"}
    return subprocess.run([*RFT, *words], cwd=folder, env=alone, capture_output=True, text=True, timeout=120)


def grades(folder: Path, scorers: list[str], rows: str) -> tuple[list[Any], list[dict[str, float]], str]:
    """Rewards and components of the rows with completions, and what was said."""
    flags = [word for scorer in scorers for word in ("--reward-model", scorer)]
    ended = rft(folder, "grade", *flags, f"done-{rows}")
    assert ended.returncode == 0, ended.stderr
    found = [json.loads(line)["grade"] for line in ended.stdout.splitlines()]
    return [grade["reward"] for grade in found], [grade["components"] for grade in found], ended.stderr


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        ("trl_columns", PLAIN, [1, 0] * 4),
        ("trl_keywords", PLAIN, [1, 0] * 4),
        ("trl_messages", PLAIN, [1, 0] * 4),
        ("trl_messages", VERL, [1, 0] * 4),
        ("trl_async", PLAIN, [1, 0, 1, 0, 1, 0, None, None]),
        ("verl_score", VERL, [1, 0] * 4),
        ("verl_score", PLAIN, [1, 0] * 4),
        ("verl_components", VERL, [1, 0] * 4),
        ("three_arguments", PLAIN, [1, 0] * 4),
        ("together", PLAIN, [1, 0] * 4),
        ("together", VERL, [1, 0] * 4),
        ("openrlhf", PLAIN, [1, 0] * 4),
        ("openrlhf", VERL, [1, 0] * 4),
        ("lambda_handler", VERL, [0, 0, 1, 0, 0, 0, 0, 0]),
        ("lambda_metrics", VERL, [1, 0] * 4),
        ("lambda_metrics", PLAIN, [1, 0] * 4),
        ("uses_project", PLAIN, [1, 0] * 4),
    ],
)
def test_it_runs_as_it_stands(project: Path, name: str, rows: str, expected: list[Any]) -> None:
    assert grades(project, [str(HERE / f"{name}.py")], rows)[0] == expected


def test_components_of_other_forms(project: Path) -> None:
    assert grades(project, [str(HERE / "verl_components.py")], VERL)[1][:2] == [{"acc": 1}, {"acc": 0}]
    assert grades(project, [str(HERE / "lambda_metrics.py")], VERL)[1][0] == {"words": 1}
    assert grades(project, [str(HERE / "openrlhf.py")], PLAIN)[1][:2] == [
        {"length": 1},
        {"length": len(WRONG)},
    ]


def test_several_are_added_up(project: Path) -> None:
    verl, short = str(HERE / "verl_components.py"), str(HERE / "trl_messages.py")
    rewards, components, said = grades(project, [verl, f"{short}:short=-0.5"], VERL)
    assert rewards == [0.5, 0] * 4
    assert components[:2] == [
        {"compute_score": 1, "compute_score.acc": 1, "short": 1},
        {"compute_score": 0, "compute_score.acc": 0, "short": 0},
    ]
    assert "+ -0.5 x short(completions, kwargs): 8 rows" in said


def test_none_of_one_is_left_out_of_the_sum(project: Path) -> None:
    asynchronous, together = str(HERE / "trl_async.py"), str(HERE / "together.py")
    assert grades(project, [asynchronous, f"{together}=0.5"], PLAIN)[0] == [1.5, 0] * 3 + [0.5, 0]


def test_one_that_fails_fails_the_completion(project: Path) -> None:
    (project / "bad.py").write_text("def bad(completion):\n    return float(completion)\n")
    ended = rft(
        project,
        "grade",
        "--reward-model",
        "bad.py",
        "--reward-model",
        str(HERE / "together.py"),
        f"done-{PLAIN}",
    )
    found = [json.loads(line)["grade"] for line in ended.stdout.splitlines()]
    assert ended.returncode == 3
    assert [grade["status"] for grade in found] == ["graded", "failed"] * 4
    assert [grade["reward"] for grade in found] == [4, None, 8, None, 12, None, 16, None]


@pytest.mark.parametrize(
    ("scorers", "message"),
    [
        (["a.py", "b.py:short=x"], "b.py:short=x: the weight 'x' is not a finite number"),
        (["a.py", "b.py:short=nan"], "b.py:short=nan: the weight 'nan' is not a finite number"),
        (["b.py=-inf"], "b.py=-inf: the weight '-inf' is not a finite number"),
        (["a.py=0", "b.py=0"], "every weight is 0: there is nothing to learn"),
        (["a.py", "a.py"], "a.py and a.py: both would be the component a.score"),
        (["a.py", "none.py"], "none.py: no such file"),
        (["a.py", "spec.json"], "spec.json: only Python scorers can be added up"),
        (["a.py", "needs.py"], "needs.py:1: score requires 'rubric', which rft has no value for"),
    ],
)
@pytest.mark.parametrize("command", ["grade", "validate"])
def test_weights_and_parts_that_are_wrong(
    project: Path, command: str, scorers: list[str], message: str
) -> None:
    (project / "a.py").write_text("def score(completion):\n    return 1\n")
    (project / "b.py").write_text("def short(completion):\n    return 1\n")
    (project / "needs.py").write_text("def score(completion, rubric):\n    return 1\n")
    flags = [word for scorer in scorers for word in ("--reward-model", scorer)]
    rows = [f"done-{PLAIN}"] if command == "grade" else ["-t", PLAIN]
    ended = rft(project, command, *flags, *rows)
    assert ended.returncode == 2
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_what_is_guessed_is_said_once_with_its_row(project: Path) -> None:
    (project / "odd.py").write_text("def score(first, second):\n    return second['answer'] in first\n")
    said = grades(project, ["odd.py"], PLAIN)[2].splitlines()
    guessed = "scorer: 'first' gets the completion and 'second' gets the row: by position, as no name decides"
    assert said.count(guessed) == 1
    said = grades(project, [str(HERE / "together.py")], VERL)[2].splitlines()
    assert f"scorer: 'target' gets the row's reference: done-{VERL}:1 has no key 'target'" in said
    validated = rft(project, "validate", "-t", PLAIN, "--reward-model", str(HERE / "together.py"))
    assert f"{PLAIN}:1 has no key 'target'" in " ".join(validated.stdout.split())


def test_what_nobody_can_fill_is_refused(project: Path) -> None:
    (project / "needs.py").write_text("def score(completion, rubric):\n    return 1\n")
    for words in (
        ["grade", f"done-{PLAIN}"],
        ["grade", "--gold", PLAIN],
        ["validate", "-t", PLAIN],
        ["grade", "--audit", PLAIN],
    ):
        ended = rft(project, *words, "--reward-model", "needs.py")
        assert ended.returncode == 2
        assert "needs.py:1: score requires 'rubric', which rft has no value for" in ended.stderr
        assert "plain.jsonl:1 has the keys 'answer', " in ended.stderr


def test_a_module_of_the_standard_library_is_not_hidden_by_the_project(project: Path) -> None:
    (project / "colorsys.py").write_text("raise ValueError('the wrong one')\n")
    (project / "deep").mkdir()
    (project / "deep" / "scorer.py").write_text(
        "import colorsys\nfrom helpers.text import tidy\ndef score(completion):\n    return len(tidy(completion))\n"
    )
    assert grades(project, ["deep/scorer.py"], PLAIN)[0][0] == 1
