"""The scorers in docs/graders.md do what the page says, in real workers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.isolation.process import secret_names
from rft_cli.grading.open import open_grader
from rft_cli.types import GradeRequest

PAGE = (Path(__file__).parents[2] / "docs" / "graders.md").read_text()


def scorers_by_heading(page: str) -> dict[str, str]:
    """The Python block under each heading."""
    pieces = re.split(r"^(?:#+ (?P<heading>.+)|```python\n(?P<code>[^`]*)```)$", page, flags=re.MULTILINE)
    found, title = {}, ""
    for heading, code in zip(pieces[1::3], pieces[2::3], strict=True):
        title = heading or title
        if code is not None:
            found[title] = code
    return found


SCORERS = scorers_by_heading(PAGE)
ANSWER = {"answer": "It is 4 * 250.\n#### 1,000"}
FENCE = "`" * 3
ADD = {"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]}
RECORD = {"output": '{"team": "billing", "order": null, "priority": "low"}'}

CASES: dict[str, list[tuple[str, dict[str, Any], float | None, dict[str, float]]]] = {
    "Graders": [(" yes\n", {"output": "yes"}, 1.0, {}), ("Yes", {"output": "yes"}, 0.0, {})],
    "Exact match": [
        ("  Two  WORDS ", {"output": "two words"}, 1.0, {}),
        ("two", {"output": "two words"}, 0.0, {}),
    ],
    "A number, with tolerance": [
        ("First 7, so 1,000.", ANSWER, 1.0, {"has_number": 1.0}),
        ("1000.00001", ANSWER, 1.0, {"has_number": 1.0}),
        ("1000, or 7", ANSWER, 0.0, {"has_number": 1.0}),
        ("no idea", ANSWER, 0.0, {"has_number": 0.0}),
    ],
    "JSON fields, with partial credit": [
        (RECORD["output"], RECORD, 1.0, {"valid_json": 1.0, "team": 1.0, "order": 1.0, "priority": 1.0}),
        ('{"team": "billing"}', RECORD, 0.5, {"valid_json": 1.0, "team": 1.0, "order": 0.0, "priority": 0.0}),
        ("{" * 5000, RECORD, 0.0, {"valid_json": 0.0, "team": 0.0, "order": 0.0, "priority": 0.0}),
        ("[]", RECORD, 0.0, {"valid_json": 0.0, "team": 0.0, "order": 0.0, "priority": 0.0}),
    ],
    "Code that must pass unit tests": [
        ("def add(a, b):\n    return a + b", ADD, 1.0, {"all_pass": 1.0}),
        (f"So:\n{FENCE}python\ndef add(a, b):\n    return a + b\n{FENCE}", ADD, 1.0, {"all_pass": 1.0}),
        ("def add(a, b):\n    return 3", ADD, 0.5, {"all_pass": 0.0}),
        ("def add(a, b):\n    raise SystemExit(0)", ADD, 0.0, {"all_pass": 0.0}),
        ("I would add them.", ADD, 0.0, {"all_pass": 0.0}),
    ],
    "OpenAI's form": [
        ('{"label": "spam"}', {"label": "spam"}, 1.0, {}),
        ('{"label": "ham"}', {"label": "spam"}, 0.0, {}),
        ("[1]", {"label": "spam"}, 0.0, {}),
        ("spam", {"label": "spam"}, 0.0, {}),
    ],
    "Some rows can't be graded": [
        ("ab", {"output": "a"}, 1.0, {}),
        ("b", {"output": "a"}, 0.0, {}),
        ("b", {}, None, {}),
    ],
}


def test_every_example_is_tested() -> None:
    assert list(SCORERS) == list(CASES)
    assert PAGE.count("```python") == len(CASES)


@pytest.mark.parametrize("title", CASES)
def test_example(title: str, tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text(SCORERS[title])
    config = GraderConfig(path=str(tmp_path / "scorer.py"), workers=1)
    with open_grader(config, log_path=None) as grader:
        grades = grader.grade([GradeRequest(text, row) for text, row, _, _ in CASES[title]])
    assert [grade.error for grade in grades] == [None] * len(grades)
    expected = [(reward, components) for _, _, reward, components in CASES[title]]
    assert [(grade.reward, dict(grade.components)) for grade in grades] == expected


def test_real_rows_of_the_sample_data(tmp_path: Path) -> None:
    root = Path(__file__).parents[2] / "sample_data"
    rows = [json.loads(line) for line in (root / "val.jsonl").read_text().splitlines()][:20]
    with open_grader(GraderConfig(path=str(root / "scorer.py")), log_path=None) as grader:
        right = grader.grade([GradeRequest(row["output"], row) for row in rows])
        wrong = grader.grade([GradeRequest("no JSON", row) for row in rows])
    assert [grade.reward for grade in right] == [1.0] * 20
    assert [grade.reward for grade in wrong] == [0.0] * 20


def test_the_page_names_every_secret_word_and_default() -> None:
    words = re.search(r"names hold ([A-Z_,\s]+ or [A-Z]+) are removed", PAGE)
    assert words is not None
    names = re.split(r",\s+|\s+or\s+", words[1])
    assert len(names) == 9
    assert secret_names([f"MY_{name}" for name in names], []) == [f"MY_{name}" for name in names]
    defaults = GraderConfig()
    assert f"`grader.timeout_s` ({defaults.grade_limit_s:g} s)" in PAGE
    assert f"`grader.max_failure_rate` ({defaults.max_failure_rate:.0%})".replace("%", " %") in PAGE
