"""Scorers as people write them in a hurry, caught by the exploit that is meant for them; and good ones left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config.schema import DataConfig, GraderConfig
from rft_cli.data.dataset import read_examples
from rft_cli.data.references import reference_of
from rft_cli.grading.audit.results import AuditReport
from rft_cli.grading.audit.rows import choose_rows
from rft_cli.grading.audit.run import audit
from rft_cli.grading.open import open_grader
from tests.grading.audit.test_findings import audited, levels

ROOT = Path(__file__).parents[3]
SUMS = ("3", "42", "38", "95", "14", "73", "27", "123", "501", "6")
COLOURS = ("red", "green", "blue", "white", "black")
SENTENCES = (
    "the cat sat on the mat",
    "a dog ran over the hill",
    "we go home after dark",
    "rain falls on every roof",
)

Scorer = Callable[[str, str], Any]


def first_number(completion: str, reference: str) -> bool:
    found = re.search(r"-?\d+", completion)
    return found is not None and found[0] == reference


def within_a_cent(completion: str, reference: str) -> float:
    """NaN is not further away than a cent, nor nearer."""
    try:
        given = float(completion)
    except ValueError:
        return 0.0
    return 0.0 if abs(given - float(reference)) > 0.01 else 1.0


def at_least(completion: str, reference: str) -> bool:
    try:
        return float(completion) >= float(reference)
    except ValueError:
        return False


def evaluated(completion: str, reference: str) -> bool:
    try:
        return bool(eval(completion, {}) == float(reference))
    except Exception:
        return False


def behind_the_marks(completion: str, reference: str) -> bool:
    found = re.search(r"####(.*)", completion)
    return found is not None and found[1].strip() in reference


def words_in_common(completion: str, reference: str) -> float:
    wanted = set(reference.split())
    return len(wanted & set(completion.split())) / len(wanted)


WEAK: list[tuple[Scorer, tuple[str, ...], set[str]]] = [
    (lambda c, r: r in c, SUMS, {"reference denied", "right beginning", "right ending", "numbers from 0 to 100"}),
    (lambda c, r: r in c, COLOURS, {"reference denied", "right then denied", "all options listed"}),
    (lambda c, r: c.startswith(r), SUMS, {"right then denied", "right beginning"}),
    (lambda c, r: c.startswith(r), COLOURS, {"right then denied"}),
    (lambda c, r: c.startswith(r), SENTENCES, {"right then denied"}),
    (lambda c, r: c.endswith(r), SUMS, {"right ending"}),
    (lambda c, r: c.endswith(r), COLOURS, {"right ending"}),
    (lambda c, r: c.endswith(r), SENTENCES, {"right ending"}),
    (lambda c, r: c.strip() in r, COLOURS, {"empty text"}),
    (lambda c, r: min(len(c) / 1000, 1.0), SENTENCES, {"padded wrong text", "repeated wrong text", "very long text"}),
    (lambda c, r: 1.0, COLOURS, {"reference", "another's reference"}),
    (first_number, SUMS, {"reference denied", "right then denied"}),
    (lambda c, r: r in re.findall(r"\d+", c), SUMS, {"numbers from 0 to 100", "all options listed"}),
    (words_in_common, SENTENCES, {"all options listed", "reference denied", "right then denied"}),
    (within_a_cent, SUMS, {"not a number"}),
    (at_least, SUMS, {"infinity", "right beginning", "right ending"}),
    (evaluated, SUMS, {"code that equals all"}),
    (lambda c, r: behind_the_marks(c, r) or c == r, SUMS, {"marks without answer"}),
]  # fmt: skip


@pytest.mark.parametrize(("scorer", "references", "expected"), WEAK)
def test_a_weak_scorer_is_caught(scorer: Scorer, references: tuple[str, ...], expected: set[str]) -> None:
    report = audited(scorer, *references)
    problems = {finding.name for finding in report.of_level("problem")}
    assert expected <= problems
    assert not report.passed


def test_a_bag_of_words_is_a_warning() -> None:
    """The order of words may be of no matter: a person has to say."""
    report = audited(lambda c, r: sorted(c.split()) == sorted(r.split()), *SENTENCES)
    assert levels(report) == {"its words backwards": "warning"}


def last_number(completion: str, reference: str) -> bool:
    found = re.findall(r"-?[0-9]+", completion)
    return bool(found) and found[-1] == reference


def last_word(completion: str, reference: str) -> bool:
    found = re.findall(r"\b\w+\b", completion)
    return bool(found) and found[-1] == reference


def near(completion: str, reference: str) -> float:
    """Partial credit by distance: of a number that is a little off, more than of another."""
    found = re.fullmatch(r"[0-9]{1,9}", completion)
    return 0.0 if found is None else 1 / (1 + abs(int(completion) - int(reference)))


def alike(completion: str, reference: str) -> float:
    """Partial credit for a beginning in common, less for what is too much."""
    same = next((n for n, (a, b) in enumerate(zip(completion, reference, strict=False)) if a != b), None)
    length = max(len(completion), len(reference), 1)
    return (min(len(completion), len(reference)) if same is None else same) / length


@pytest.mark.parametrize(
    ("scorer", "references"),
    [
        (lambda c, r: " ".join(c.lower().split()) == r, SUMS),
        (lambda c, r: " ".join(c.lower().split()) == r, COLOURS),
        (lambda c, r: " ".join(c.lower().split()) == r, SENTENCES),
        (last_number, SUMS),
        (last_word, SUMS),
        (last_word, COLOURS),
        (near, SUMS),
        (lambda c, r: c.strip().rstrip(".").split(" ")[-1] == r, COLOURS),
    ],
)
def test_a_good_scorer_is_left_alone(scorer: Scorer, references: tuple[str, ...]) -> None:
    assert levels(audited(scorer, *references)) == {}


@pytest.mark.parametrize("references", [SUMS, COLOURS, SENTENCES])
def test_a_part_of_the_marks_for_a_near_miss_is_fair(references: tuple[str, ...]) -> None:
    found = levels(audited(alike, *references))
    assert not set(found) & {"right then denied", "right beginning", "right ending", "its words backwards"}


# ------------------------------------------------------------------------------- the scorers of the docs


def example(title: str) -> str:
    page = (ROOT / "docs" / "graders.md").read_text(encoding="utf-8")
    return page.partition(f"### {title}\n\n```python\n")[2].partition("```\n")[0]


def audit_of(source: str, rows: list[dict[str, Any]], folder: Path) -> AuditReport:
    (folder / "scorer.py").write_text(source)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig()
    examples = read_examples(str(folder / "rows.jsonl"), format=data.format, columns={}, system=None).examples
    chosen = choose_rows(examples, [reference_of(one, {}) for one in examples], 20, seed=0)
    with open_grader(GraderConfig(path=str(folder / "scorer.py"), workers=1), log_path=None) as grader:
        return audit(grader, chosen, timeout_s=30.0)


def code(body: str, fenced: bool) -> str:
    return f"```python\n{body}\n```" if fenced else body


@pytest.mark.parametrize("fenced", [False, True])
def test_the_docs_scorer_that_runs_unit_tests(tmp_path: Path, fenced: bool) -> None:
    rows = [
        {"prompt": "Add.", "output": code("def f(a, b):\n    return a + b", fenced), "tests": ["assert f(2, 3) == 5"]},
        {"prompt": "Take.", "output": code("def f(a, b):\n    return a - b", fenced), "tests": ["assert f(2, 3) < 0"]},
    ]  # fmt: skip
    report = audit_of(example("Code that must pass unit tests"), rows, tmp_path)
    assert report.of_level("problem") == []


def test_the_docs_scorer_of_numbers_on_gsm8k_rows(tmp_path: Path) -> None:
    rows = [
        {"question": f"{a} times {b}?", "answer": f"It is <<{a}*{b}={a * b}>>{a * b}.\n#### {a * b:,}"}
        for a, b in [(3, 4), (20, 21), (7, 8), (50, 50), (9, 9)]
    ]  # fmt: skip
    assert levels(audit_of(example("A number, with tolerance"), rows, tmp_path)) == {}
