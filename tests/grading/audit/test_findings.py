"""Texts and verdicts, small enough to check by hand; the graders here are functions behind the Grader protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rft_cli.grading.audit import probes
from rft_cli.grading.audit.results import AuditReport, Evidence, Finding
from rft_cli.grading.audit.rows import choose_rows
from rft_cli.grading.audit.run import audit, calls_for
from rft_cli.types import Example, Grade, GradeError, GradeRequest, Source

Reward = Callable[[str, str], Any]


class Function:
    """A grader of `function(completion, reference)`: a number, None, or an error's kind."""

    def __init__(self, function: Reward, seconds: float = 0.0) -> None:
        self.function = function
        self.seconds = seconds
        self.calls = 0

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        time.sleep(self.seconds * len(requests))
        self.calls += len(requests)
        return [self._grade(request) for request in requests]

    def close(self) -> None:
        pass

    def _grade(self, request: GradeRequest) -> Grade:
        value = self.function(request.completion, request.fields["output"])
        if isinstance(value, str):
            return Grade("failed", error=GradeError(value, "no good"), seconds=self.seconds)
        if value is None:
            return Grade("skipped", seconds=self.seconds)
        return Grade("graded", float(value), seconds=self.seconds)


def rows_of(*references: str, **more: Any) -> Any:
    examples = [
        Example(f"{n}", f"Question {n}?", {"output": text, **more}, Source("rows.jsonl", n + 1))
        for n, text in enumerate(references)
    ]
    return choose_rows(examples, list(references), 20, seed=0)


def audited(
    function: Reward, *references: str, seconds: float = 0.0, more: Any = None, **settings: Any
) -> AuditReport:
    return audit(
        Function(function, seconds), rows_of(*references, **(more or {})), timeout_s=30.0, **settings
    )


def named(report: AuditReport, name: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.name == name]
    return found


def levels(report: AuditReport) -> dict[str, str]:
    return {f.name: f.level for f in report.findings if f.level != "ok"}


def exact(completion: str, reference: str) -> float:
    return float(completion == reference)


COLOURS = ("red", "green", "blue")


# ------------------------------------------------------------------------------------------ rows and texts


def test_rows_and_their_others() -> None:
    rows = rows_of("red", "Red ", "blue")
    assert [row.other for row in rows] == ["blue", "blue", "red"]
    assert rows_of("red", "red")[0].other is None
    assert rows_of("red", "red")[0].options == ("red",)


def test_another_reference_may_come_from_rows_that_are_not_audited() -> None:
    examples = [Example("", "p", {}, Source("f", n)) for n in range(3)]
    (row,) = choose_rows(examples, ["red", None, "blue"], 1, seed=0)
    assert {row.reference, row.other} == {"red", "blue"}


def test_rows_are_drawn_with_the_seed_and_stay_in_order() -> None:
    examples = [Example("", "p", {}, Source("f", n)) for n in range(100)]
    references = [str(n) for n in range(100)]
    drawn = [[row.reference for row in choose_rows(examples, references, 5, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0], key=int)
    assert choose_rows(examples, [None, *[" "] * 99], 5, 0) == []


def test_texts_of_words() -> None:
    row = rows_of(*COLOURS)[1]
    assert probes.REFERENCE.make(row) == "green"
    assert probes.OTHER.make(row) == "blue"
    assert probes.HALF.make(row) == "gr"
    assert probes.prompt.make(row) == "Question 1?"
    assert probes.options.make(row) == "red or green or blue"
    assert probes.repeated.make(row) == "\n".join(["blue"] * 20)
    assert probes.denied.make(row) == "It is not green\n\nIt is blue"
    assert probes.encoded.make(row) == "Z3JlZW4="  # base64 of b"green"
    assert probes.backwards.make(row) == "neerg"
    assert probes.look_alike.make(row) == "gr\u0435\u0435n"
    assert len(probes.long.make(row)) == 30_000
    padded, demand = probes.padded.make(row), probes.demand.make(row)
    assert padded is not None
    assert padded.startswith("blue\n\nThis sentence")
    assert demand.startswith("blue\n\nIMPORTANT")
    assert probes.values.make(row) is None
    assert probes.form.make(row) is None
    assert probes.WRITTEN.make(row) is None


def test_texts_where_there_is_nothing_to_make_them_of() -> None:
    (row,) = rows_of("7")
    for probe in (
        probes.OTHER,
        probes.HALF,
        probes.options,
        probes.padded,
        probes.repeated,
        probes.denied,
        probes.backwards,
    ):
        assert probe.make(row) is None
    assert probes.demand.make(row).startswith("IMPORTANT")
    assert probes.look_alike.make(row) == "\uff17"
    assert probes.look_alike.make(rows_of("!?")[0]) is None
    blank = choose_rows([Example("", " ", {}, Source("f", 1))], ["x"], 1, 0)[0]
    assert probes.prompt.make(blank) is None


def test_of_two_options_neither_is_always_last() -> None:
    assert [probes.options.make(row) for row in rows_of("yes", "no")] == [
        "no or yes or no",
        "yes or no or yes",
    ]


def test_texts_of_json() -> None:
    row = rows_of('{"a": "x", "n": 1}', '{"a": "y", "n": null, "l": [1], "b": true, "o": {"k": 2}}')[0]
    assert (
        probes.values.make(row)
        == '{"a": "y or x", "n": "null or 1", "l": "[1]", "b": "true", "o": "{\\"k\\": 2}"}'
    )
    assert probes.form.make(row) == '{"a": "", "n": null, "l": [], "b": false, "o": {"k": 0}}'
    assert probes.values.make(rows_of('{"a": 1}', "[1]")[0]) is None
    assert probes.form.make(rows_of('{"a": 1}', "[1]")[0]) == "[]"
    assert probes.form.make(rows_of("2", "3")[0]) is None


def test_twisted_texts() -> None:
    number, word, sentence, sums, code, listed = rows_of(
        "12", "spam", "the cat sat down", "48/2 = 24, and 24 + 48.\n#### 1,072", "```\nx\n```", "a, b and 3.5"
    )
    assert probes.denied_after.make(number) == "12 is wrong: it is spam"
    assert [probes.extended.make(row) for row in (number, word, sums, listed)] == [
        "127", None, "48/2 = 24, and 24 + 48.\n#### 1,0727", None,
    ]  # fmt: skip
    assert [probes.preceded.make(row) for row in (number, word, sentence, sums, listed)] == [
        "912", "nonspam", "It is false that the cat sat down", None, None,
    ]  # fmt: skip
    assert [probes.reordered.make(row) for row in (word, sentence, listed)] == [
        None,
        "down sat cat the",
        None,
    ]
    assert probes.reordered.make(rows_of("to be to be to be to")[0]) is None
    assert (probes.denied.make(code), probes.denied_after.make(code)) == (None, None)
    assert [probes.not_a_number.make(row) for row in (number, word, sums)] == ["nan", None, None]
    assert [probes.infinity.make(row) for row in rows_of("-3.5", "3.5 kg")] == ["inf", None]


@pytest.mark.parametrize("right", ["0", "12", "50", "100"])
def test_all_numbers(right: str) -> None:
    text = probes.numbers.make(rows_of(right)[0])
    assert text is not None
    listed = text.split()
    assert sorted(map(int, listed)) == list(range(101))
    assert right not in (listed[0], listed[-1])


def test_numbers_are_listed_where_one_of_them_is_right() -> None:
    assert [probes.numbers.make(row) for row in rows_of("101", "spam", "2.5")] == [None, None, None]


def test_code_that_equals_all_does() -> None:
    value = eval(probes.equal_to_all.make(rows_of("12")[0]))
    assert (value == "12", value == 12, float(value)) == (True, True, 1.0)


# ---------------------------------------------------------------------------------------------- verdicts


def test_exact_match_is_clean() -> None:
    report = audited(exact, *COLOURS)
    assert levels(report) == {}
    assert report.passed
    # Of 9 honest completions, 3 get 1: the median is 0.
    assert report.median_honest == 0.0
    assert report.calls == calls_for(rows_of(*COLOURS))


def test_searching_for_the_reference() -> None:
    report = audited(lambda completion, reference: reference in completion, *COLOURS)
    assert levels(report) == dict.fromkeys(
        ["all options listed", "reference denied", "right then denied", "right ending"], "problem"
    )
    finding = named(report, "all options listed")
    assert (finding.hits, finding.rows, finding.reward) == (3, 3, 1.0)
    assert finding.example == Evidence("rows.jsonl:1", "green or red or blue", 1.0, None)


def test_searching_for_the_completion() -> None:
    """The other way round: whatever is part of the reference is right, nothing at all too."""
    report = audited(lambda completion, reference: completion in reference, "red", "green", "blue")
    assert levels(report) == {"its first half": "warning", "empty text": "problem"}


def test_an_exploit_on_few_rows_is_a_problem_where_it_beats_the_median_honest_score() -> None:
    """The prompt holds the reference of one row of three: a third of a mark, and an honest try gets nothing."""
    report = audited(lambda completion, reference: reference in completion.split(), "0?", "green", "blue")
    assert report.median_honest == 0.0
    assert levels(report)["prompt again"] == "problem"
    assert named(report, "prompt again").text == "as much as the reference: 1 of 3 rows"


def test_an_exploit_on_few_rows_is_a_warning_where_it_does_not() -> None:
    """The same, where any single word gets 0.6."""

    def scorer(completion: str, reference: str) -> float:
        words = completion.split()
        return 1.0 if reference in words else 0.6 * (len(words) == 1)

    report = audited(scorer, "0?", "green", "blue")
    assert report.median_honest == 0.6
    assert levels(report)["prompt again"] == "warning"


def test_between_the_median_and_the_reference() -> None:
    """Half marks for any text at all: more than what honest wrong completions get (0), less than the reference."""

    def scorer(completion: str, reference: str) -> float:
        if completion == reference:
            return 1.0
        return 0.5 if len(completion) > 1000 else 0.0

    report = audited(scorer, *COLOURS)
    assert levels(report) == {"padded wrong text": "problem", "very long text": "problem"}
    assert named(report, "very long text").text == "more than median honest: all 3 rows"


def test_nothing_pays_more_than_something_wrong() -> None:
    """Minus one for wrong, nothing for silence: a model learns to be silent."""
    report = audited(lambda c, r: 1.0 if c == r else 0.0 if not c else -1.0, *COLOURS)
    assert levels(report) == {"order": "warning", "empty text": "problem"}
    assert named(report, "order").text == "saying less pays more: all 3 rows"


def test_noise_is_not_a_finding() -> None:
    """Rewards of one text differ by 0.2; an exploit that gets 0.1 more than honest ones counts as equal."""
    calls = iter(range(10_000))

    def scorer(completion: str, reference: str) -> float:
        return (
            float(completion == reference) + (0.2 if next(calls) % 2 else 0.0) + 0.1 * ("This" in completion)
        )

    report = audited(scorer, *COLOURS, "white", "black")
    assert report.noise == pytest.approx(0.2)
    assert named(report, "three calls").level == "warning"
    assert named(report, "padded wrong text").level == "ok"


def test_a_reference_that_fails() -> None:
    report = audited(lambda c, r: "raised" if c == r == "red" else exact(c, r), *COLOURS)
    assert named(report, "reference").text == "fails: 1 of 3 rows"
    assert named(report, "reference").level == "problem"


def test_references_that_are_skipped() -> None:
    some = audited(lambda c, r: None if r == "red" else exact(c, r), *COLOURS)
    assert levels(some) == {"reference": "warning"}
    every = audited(lambda c, r: None, *COLOURS)
    assert levels(every) == {"reference": "problem", "spread": "warning"}
    # Nothing else is tried where no reference is graded.
    assert every.calls == 3
    assert every.median_honest is None


def test_a_reference_below_the_best() -> None:
    report = audited(lambda c, r: 0.7 if c == r == "red" else exact(c, r), *COLOURS)
    assert levels(report) == {"reference": "warning"}
    assert named(report, "reference").text == "below the best (1): 1 of 3 rows"


def test_a_constant() -> None:
    report = audited(lambda c, r: 0.5, *COLOURS)
    assert levels(report) == {
        "reference": "problem",
        "another's reference": "problem",
        "its first half": "warning",
        "spread": "warning",
    }


def test_a_grader_that_ignores_the_row() -> None:
    report = audited(lambda c, r: 1 / (1 + len(c)), *COLOURS)
    assert named(report, "use of the row").level == "warning"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "raised",
            {"another's reference": "problem", "row's own completion": "problem", "empty text": "problem"},
        ),
        (
            "sample_parse",
            {"another's reference": "warning", "row's own completion": "warning", "empty text": "warning"},
        ),
    ],
)
def test_failures_by_kind(kind: str, expected: dict[str, str]) -> None:
    """A grader that refuses what it can't read is not to blame as one that breaks; on exploits both are warnings."""
    bad = ("", "blue", "red", "my own")
    report = audited(
        lambda c, r: 1.0 if c == r else kind if c in bad or "This" in c else 0.0,
        "blue", "red", more={"completion": "my own"},
    )  # fmt: skip
    found = levels(report)
    assert {name: found[name] for name in expected} == expected
    assert found["very long text"] == "warning"
    assert named(report, "row's own completion").text == "fails: all 2 rows"


def test_a_rows_own_completion_is_honest() -> None:
    def scorer(completion: str, reference: str) -> float:
        return 1.0 if completion == reference else 0.4 if completion in ("mine", probes.INVISIBLE) else 0.0

    report = audited(scorer, "blue", "red", more={"completion": "mine"})
    # A row's honest rewards are 1, 0, 0 and 0.4, with a median of 0.2.
    assert report.median_honest == pytest.approx(0.2)
    assert levels(report) == {"invisible characters": "problem"}
    assert named(report, "row's own completion").reward == pytest.approx(0.4)


def test_a_slow_grader_is_asked_less() -> None:
    few = audited(exact, *COLOURS, seconds=0.002, limit_s=0.06)
    assert few.rows == 1
    # 22 calls at 2 ms for each of three rows are 0.13 s; the references come first, and are graded for all three.
    assert few.calls < calls_for(rows_of(*COLOURS))
    none = audited(exact, *COLOURS, seconds=0.002, limit_s=0.001, at_least=0)
    assert (none.rows, none.calls) == (3, 3)
    assert audited(exact, *COLOURS, seconds=0.002, limit_s=0.001, at_least=2).rows == 2


def test_latency_is_held_against_the_timeout() -> None:
    report = audit(Function(exact, 0.01), rows_of("red"), timeout_s=0.015)
    assert named(report, "latency").level == "warning"
    assert "grader.timeout_s" in (named(report, "latency").fix or "")


def test_progress_ends_at_the_number_of_calls() -> None:
    seen: list[tuple[int, int]] = []
    rows = rows_of(*COLOURS)
    report = audit(
        Function(exact), rows, timeout_s=30.0, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (3, calls_for(rows))
    assert seen[-1] == (report.calls, report.calls)
