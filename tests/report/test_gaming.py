"""Verdicts on the stored figures of twelve real runs; the figures behind them; cases made by hand."""

import json

import pytest

from rft_cli.report.gaming import figures
from rft_cli.report.gaming.evidence import GamingEvidence, others
from rft_cli.report.gaming.verdict import Gaming, judge
from rft_cli.report.pairs import Pair
from rft_cli.types import Grade, Sample
from tests.gaming.stored import FILE, GAMED, HONEST, evidence_of

JOBS = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", GAMED)
def test_a_gamed_run_is_named_with_two_examples_of_each_sign(name):
    found = judge(evidence_of(JOBS[name]))
    assert (found.verdict, found.kind) == ("gamed", name)
    assert found.sentence.startswith("Looks gamed: the grader pays for ")
    assert all(len(sign.examples) == 2 for sign in found.signs if sign.name != "audit")
    first = found.signs[0]
    assert found.lines()[1].lower() == f"{first.text}.".lower()
    assert found.lines()[2:4] == [f"  {line}" for line in first.examples]
    assert Gaming.from_json(json.loads(json.dumps(found.to_json()))).lines() == found.lines()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_run_is_not_named(name):
    found = judge(evidence_of(JOBS[name]))
    assert (found.verdict, found.kind, found.sentence) == ("not gamed", "", "")


def graded(row, text, reward):
    return Sample(row, f"line-{row + 1}", f"prompt {row}", text, 3, False, Grade("graded", reward))


def case(before, after, references, swapped, swapped_base):
    """GamingEvidence of rows with these rewards."""
    given = {"b": before, "a": after, "r": references, "s": swapped, "t": swapped_base}
    sides = [
        [graded(row, f"text {row}", value) for row, value in enumerate(values)] for values in given.values()
    ]
    return GamingEvidence(Pair("validation", sides[0], sides[1]), *sides[2:])


def test_the_share_of_the_gain_that_other_rows_make_too():
    zeros, ones = [0.0] * 8, [1.0] * 8
    less = [0.9] * 8
    gamed = judge(case(zeros, ones, less, [0.8] * 8, zeros))
    assert (gamed.verdict, gamed.kind) == ("gamed", "unknown")
    assert gamed.signs[0].value == pytest.approx(0.8)
    assert "80 % of the gain does not depend on the row" in gamed.sentence
    assert judge(case(zeros, ones, less, [0.7] * 8, zeros)).verdict == "not gamed"
    # What the base earned on other rows already is no gain.
    assert judge(case(zeros, ones, less, [0.8] * 8, [0.5] * 8)).verdict == "not gamed"
    form = judge(case(zeros, ones, ones, ones, zeros))
    assert (form.verdict, form.kind) == ("gamed", "form")


def test_a_job_that_has_learned_the_form_first_is_not_named():
    """Right answers are worth 1 and the form 1: the base had the answers, and all of the gain is the form."""
    half = [1.0, 0.0] * 4
    honest = judge(case(half, [1 + v for v in half], [2.0] * 8, [1.0] * 8, [0.0] * 8))
    assert (honest.verdict, honest.sentence) == ("not gamed", "")
    assert [sign.name for sign in honest.signs] == ["row_blind"]
    assert "100 % of the gain does not depend on the row" in honest.lines()[0]


def test_a_gain_that_may_be_chance_is_not_judged():
    noisy = judge(case([0.0, 1.0] * 4, [1.0, 0.1] * 4, [1.0] * 8, [1.0, 0.1] * 4, [0.0, 1.0] * 4))
    assert noisy.verdict == "not gamed"


def test_references_that_the_scorer_refuses_are_no_yardstick():
    """The rows hold bare answers and the scorer wants a form: every completion earns more than its reference."""
    honest = judge(case([0.2] * 8, [1.0] * 8, [0.0] * 8, [0.2] * 8, [0.1] * 8))
    assert (honest.verdict, honest.signs) == ("not gamed", [])
    better = judge(case([0.2] * 8, [1.0] * 8, [0.6] * 8, [0.2] * 8, [0.1] * 8))
    assert better.verdict == "not gamed"
    assert [sign.name for sign in better.signs] == ["over_reference"]
    assert "8 of 8 completions earn more than their row's own reference." in better.lines()[0]


def test_without_references_there_is_no_verdict():
    empty = GamingEvidence(Pair("validation", [graded(0, "b", 0.0)], [graded(0, "a", 1.0)]))
    why = "the rows have no references, or all the same one"
    assert judge(empty).to_json() == {"verdict": "not measured", "kind": None, "why": why, "signs": []}
    assert judge(empty).lines() == [f"Whether the scorer was fooled was not measured: {why}."]
    worded = Pair(
        "validation",
        [graded(row, f"b{row}", 0.0) for row in range(4)],
        [graded(row, f"a{row} please", 1.0) for row in range(4)],
    )
    audit = ["scorer: the prompt itself: earns as much"]
    found = judge(GamingEvidence(worded, batches=[{"judge_requests": 3}], audit=audit))
    assert (found.verdict, [sign.name for sign in found.signs]) == ("not measured", ["keyword", "audit"])
    assert "a judge grades" in found.lines()[0]
    assert found.lines()[1].startswith(
        '"please" stands in 100 % of the completions, before in 0 %; correlation'
    )


def test_each_row_borrows_from_the_next_one_with_another_reference():
    assert others(["x", "x", "y"]) == {0: 2, 1: 2, 2: 0}
    assert others(["x", None, "y"]) == {0: 2, 2: 0}
    assert others(["x", "x"]) == {}


def test_rank_correlation_by_hand():
    assert figures.rank_correlation([1, 2, 3, 4], [10, 20, 30, 1e300]) == pytest.approx(1.0)
    assert figures.rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    # Ranks 0, 1.5, 1.5, 3 and 0, 2, 1, 3: 4.5 of sqrt(4.5 * 5).
    assert figures.rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert figures.rank_correlation([1, 2, 3], [5, 5, 5]) is None
    assert figures.rank_correlation([1, 2], [1, 2]) is None


def test_words_and_overlap_by_hand():
    assert figures.words('{"Team": "a-b"}') == {"team", "a", "b"}
    assert figures.overlap("one two three four", "Two, four!") == 0.5
    assert figures.overlap("", "x") == 0.0
    assert figures.shares([{"a", "b"}, {"a"}]) == {"a": 1.0, "b": 0.5}
