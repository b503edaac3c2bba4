"""A spec as a grader: outcomes of its parts, streams, inline Python, and what it refuses before a row is graded."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageErrors
from rft_cli.grading.open import open_grader
from rft_cli.grading.openai import text_graders
from rft_cli.grading.openai.templates import parse_template
from rft_cli.grading.protocol import Feed
from rft_cli.types import GradeRequest

TEXT = "{{ sample.output_text }}"


def check(text: str = TEXT, reference: str = "x", operation: str = "eq") -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": "c",
        "operation": operation,
        "input": text,
        "reference": reference,
    }


def similar(metric: str) -> dict[str, Any]:
    return {
        "type": "text_similarity",
        "name": "t",
        "evaluation_metric": metric,
        "input": TEXT,
        "reference": "x",
    }


def python(source: str) -> dict[str, Any]:
    return {"type": "python", "name": "p", "source": source}


def multi(formula: str, **graders: Any) -> dict[str, Any]:
    return {"type": "multi", "name": "m", "graders": graders, "calculate_output": formula}


def problems(spec: Any, **settings: Any) -> list[tuple[str, str | None]]:
    with pytest.raises(UsageErrors) as caught:
        open_grader(GraderConfig(spec=spec, workers=1, **settings), log_path=None)
    return [(problem.message, problem.fix) for problem in caught.value.problems]


LENGTH = python("def grade(sample, item):\n    return len(sample['output_text'])")
DIVIDE = python(
    "def grade(sample, item):\n    if not sample['output_text']: return None\n    return 1 / item['n']"
)


def test_nested_multis_and_their_components(graded: Any) -> None:
    spec = multi("inner * 10 + right", right=check(), inner=multi("length / 4", length=LENGTH))
    (grade,) = graded(spec, ["x"])
    assert grade.reward == 3.5
    assert grade.components == {"right": 1.0, "inner": 0.25, "inner.length": 1.0}


def test_a_part_that_fails_or_skips_decides_the_row(graded: Any) -> None:
    spec = multi("right + share", right=check(), share=DIVIDE)
    good, skipped = graded(spec, ["x", ""], n=4)
    assert (good.status, good.reward) == ("graded", 1.25)
    assert (skipped.status, skipped.reward, skipped.components) == ("skipped", None, {"right": 0.0})
    (failed,) = graded(spec, ["x"], n=0)
    assert (failed.status, failed.reward, failed.components) == ("failed", None, {"right": 1.0})
    assert failed.error.kind == "raised"
    assert (
        failed.error.message
        == "share: grader.spec: graders.share.source:3: ZeroDivisionError: division by zero"
    )
    assert "line 3, in grade" in failed.error.trace


def test_a_formula_without_a_value_is_a_failure(graded: Any) -> None:
    nought, whole = graded(multi("1 / length", length=LENGTH), ["", "ab"])
    assert whole.reward == 0.5
    assert (nought.status, nought.reward, nought.components) == ("failed", None, {"length": 0.0})
    assert (nought.error.kind, nought.error.message) == (
        "formula",
        "1 / length: division by zero with length = 0",
    )


@pytest.mark.parametrize(
    ("template", "completion", "kind", "message"),
    [
        ("{{ item.y }}", "", "invalid_variable", "{{ item.y }}: the row has no key 'y' (keys: x, list)"),
        ("{{ item.x.a }}", "", "invalid_variable", "{{ item.x.a }}: item.x is text, which has no 'a'"),
        (
            "{{ item.list[2] }}",
            "",
            "invalid_variable",
            "{{ item.list[2] }}: item.list has 2 items, so no [2]",
        ),
        (
            "{{ item.list.a }}",
            "",
            "invalid_variable",
            "{{ item.list.a }}: item.list is a list: name an item as [0], not 'a'",
        ),
        (
            "{{ item.list[0].a }}",
            "",
            "invalid_variable",
            "{{ item.list[0].a }}: item.list[0] is null, which has no 'a'",
        ),
        (
            "{{ item.list[1].a }}",
            "",
            "invalid_variable",
            "{{ item.list[1].a }}: item.list[1] is a number, which has no 'a'",
        ),
        (
            "{{ sample.output_tools[0].function.name }}",
            "text",
            "invalid_variable",
            "{{ sample.output_tools[0].function.name }}: sample.output_tools has 0 items, so no [0]",
        ),
    ],
)
def test_templates_without_a_value_fail(
    graded: Any, template: str, completion: str, kind: str, message: str
) -> None:
    (grade,) = graded(check(template), [completion], x="1", list=[None, 2])
    assert (grade.status, grade.reward) == ("failed", None)
    assert (grade.error.kind, grade.error.message) == (kind, message)


TEXTS = ["not json", '{"b": 1}', "[1]", "12", "", '{"a": "x"}', '{"a": "y"}']


def test_a_completion_that_is_not_json_gets_0_and_is_counted(graded: Any) -> None:
    grades = graded(check("{{ sample.output_json.a }}"), TEXTS)
    assert [grade.status for grade in grades] == ["graded"] * 7
    assert [grade.reward for grade in grades] == [0, 0, 0, 0, 0, 1, 0]
    assert [grade.components for grade in grades] == [{"sample_parse_error": 1}] * 5 + [
        {"sample_parse_error": 0}
    ] * 2


def test_other_parts_of_a_multi_still_count_where_it_is_not_json(graded: Any) -> None:
    spec = multi("0.5 * a + long", a=check("{{ sample.output_json.a }}"), long=check(TEXT, "not", "like"))
    first, *_, last = graded(spec, ["not json", '{"a": "x"}'])
    assert (first.reward, first.components) == (1, {"a": 0, "a.sample_parse_error": 1, "long": 1})
    assert (last.reward, last.components) == (0.5, {"a": 1, "a.sample_parse_error": 0, "long": 0})


def test_a_key_that_the_row_lacks_fails_the_grade(graded: Any) -> None:
    (grade,) = graded(check("{{ sample.output_json.a }}", "{{ item.none }}"), ['{"a": 1}'], x="1")
    assert grade.error.kind == "invalid_variable"


@pytest.mark.parametrize("spec", [check(), similar("bleu"), LENGTH, multi("a", a=check())])
def test_a_pass_threshold_changes_nothing(graded: Any, spec: dict[str, Any]) -> None:
    without, with_one = (graded(each, ["x", "y"]) for each in (spec, {**spec, "pass_threshold": 0.65}))
    assert [grade.reward for grade in without] == [grade.reward for grade in with_one]


def test_a_library_that_raises_fails_the_grade(graded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str, reference: list[str]) -> float:
        raise ZeroDivisionError("no n-grams")

    monkeypatch.setattr("sacrebleu.sentence_bleu", broken)
    (grade,) = graded(similar("bleu"), ["a"])
    assert (grade.error.kind, grade.error.message) == ("raised", "ZeroDivisionError: no n-grams")


def test_stats_signature_and_hash() -> None:
    spec = multi("c", c=check(), length=LENGTH)
    with open_grader(GraderConfig(spec=spec, workers=1), log_path=None) as grader:
        grader.grade([GradeRequest("x", {})])
        list(grader.stream(iter([GradeRequest("y", {})])))
        assert (grader.stats.graded, grader.stats.mean_reward) == (2, 0.5)
        assert grader.signature == "multi grader 'm' (c: string_check, length: python)"
        assert len(grader.sha256) == 64
        assert grader.log_path is None
    with open_grader(GraderConfig(spec=check()), log_path=None) as grader:
        assert grader.signature == "string_check grader 'c'"


def test_a_stream_is_in_order_and_reads_no_further_than_it_must() -> None:
    read = 0

    def requests() -> Iterator[GradeRequest]:
        nonlocal read
        for number in itertools.count():
            read += 1
            yield GradeRequest("x" * (number % 7), {})

    with open_grader(
        GraderConfig(spec=multi("length + 10 * c", c=check(), length=LENGTH), workers=1), log_path=None
    ) as grader:
        stream = itertools.chain.from_iterable(grader.stream(requests()))
        made = [grade.reward for grade in itertools.islice(stream, 1000)]
    assert made == [float(n % 7 + 10 * (n % 7 == 1)) for n in range(1000)]
    assert read < 3000


def test_requests_that_are_not_there_yet_hold_nothing_back() -> None:
    there = iter([True, True, False, False, True])
    feed = Feed((GradeRequest("", {}) for _ in range(5)), lambda: next(there))
    grader = text_graders.TextGrader(parse_template("a"), parse_template("a"), text_graders.OPERATIONS["eq"])
    assert [len(burst) for burst in grader.stream(feed)] == [3, 1, 1]


def test_inline_python_may_be_async_and_recursive(graded: Any) -> None:
    source = "async def grade(sample, item):\n    return 0.25"
    assert graded(python(source))[0].reward == 0.25
    source = "def grade(s, i):\n    return grade(s, {'n': i['n'] - 1}) + 1 if i['n'] else 0"
    assert graded(python(source), n=3)[0].reward == 3.0
    source = "try:\n    import nothing_here\nexcept ImportError:\n    def grade(s, i):\n        return 0.5"
    assert graded(python(source))[0].reward == 0.5


def test_inline_python_may_be_a_lambda(graded: Any) -> None:
    assert graded(python("grade = lambda s, i: i['n'] / 2"), n=3)[0].reward == 1.5
    assert graded(python("grade: object = lambda s, i: 2"))[0].reward == 2.0
    assert graded(python("from builtins import max as grade\ndef grade(s, i): return 3"))[0].reward == 3.0


def test_a_traceback_of_inline_python_shows_its_own_lines(graded: Any) -> None:
    grade = graded(python("def grade(s, i):\n    wrong = 'none'\n    return float(wrong)"))[0]
    assert grade.error is not None
    assert grade.error.message == (
        "grader.spec: source:3: ValueError: could not convert string to float: 'none'"
    )
    assert "line 3, in grade\n    return float(wrong)" in grade.error.trace
    assert "_rft_grade" not in grade.error.trace


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("grade = lambda sample: 1", "source:1: grade(sample) can't be called as OpenAI does"),
        ("def grade(s, i):\n  yield 1", "source:1: grade has a yield, which makes it a generator"),
        ("", "source: defines no function 'grade'"),
        ("def grade(sample, item):\n  return (", "source:2:10: '(' was never closed"),
        ("x = 1\0", "source:1: source code string cannot contain null bytes"),
        ("'\ud800'", "source: is not Python source: 'utf-8' codec can't encode character"),
        ("def score(a, b): return 1", "source: defines no function 'grade'"),
        ("class A:\n  def grade(a, b): return 1", "source: defines no function 'grade'"),
        ("\ndef grade(sample): return 1", "source:2: grade(sample) can't be called as OpenAI does"),
        (
            "def grade(sample, *item): return 1",
            "source:1: grade(sample, *item) can't be called as OpenAI does",
        ),
        ("def grade(sample, item): return 1\nx.y", "source:2: NameError: name 'x' is not defined"),
    ],
)
def test_inline_python_that_does_not_load(source: str, message: str) -> None:
    ((found, _),) = problems(python(source))
    assert found.startswith(f"grader.spec: {message}")


def test_all_problems_of_opening_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    spec = multi("a + b + c", a=python("x"), b=similar("cosine"), c=similar("meteor"))
    found = problems(spec)
    assert found[:2] == [
        (
            "grader.spec: graders.a.source: defines no function 'grade'",
            "define grade(sample, item), with exactly these two arguments",
        ),
        (
            "grader.spec: graders.b: cosine needs an embeddings endpoint",
            "set grader.embeddings.base_url, for example to https://api.openai.com/v1, or use another metric",
        ),
    ]
    assert found[2:] == [
        (
            "grader.spec: graders.c: meteor needs WordNet, which is not installed",
            "python -m nltk.downloader wordnet",
        )
    ]


def test_workers_of_a_part_end_where_another_is_refused() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    spec = multi("a + b", a=LENGTH, b=python("x"))
    assert len(problems(spec)) == 1
    assert {child.pid for child in psutil.Process().children(recursive=True)} - before == set()


@pytest.mark.parametrize(
    ("metric", "library", "extra"),
    [
        ("fuzzy_match", "rapidfuzz", "text"),
        ("bleu", "sacrebleu", "text"),
        ("gleu", "nltk", "text"),
        ("meteor", "nltk", "text"),
        ("rouge_l", "rouge_score", "text"),
        ("cosine", "openai", "judge"),
    ],
)
def test_a_missing_library(monkeypatch: pytest.MonkeyPatch, metric: str, library: str, extra: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    endpoint = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "none"}
    assert problems(multi("a", a=similar(metric)), embeddings=endpoint) == [
        (
            f"grader.spec: graders.a: text_similarity needs {library}, which is not installed",
            f"pip install 'rft-cli[{extra}]'",
        )
    ]


def test_a_spec_file_grades_as_the_inline_one(tmp_path: Path) -> None:
    spec = multi(
        "right + table", right=check(), table=python("import beside\ndef grade(s, i): return beside.N")
    )
    (tmp_path / "beside.py").write_text("N = 0.5\n")
    (tmp_path / "grader.json").write_text(json.dumps(spec))
    (tmp_path / "job.json").write_text(
        json.dumps({"method": {"type": "reinforcement", "reinforcement": {"grader": spec}}})
    )
    for name in ("grader.json", "job.json"):
        config = GraderConfig(path=str(tmp_path / name), workers=1)
        with open_grader(config, log_path=None) as grader:
            assert grader.grade([GradeRequest("x", {})])[0].reward == 1.5


def test_a_file_and_an_inline_spec_exclude_each_other(tmp_path: Path) -> None:
    config = GraderConfig(path=str(tmp_path / "grader.json"), spec=check())
    with pytest.raises(Exception, match="are both set"):
        open_grader(config, log_path=None)


def test_an_empty_spec_file(tmp_path: Path) -> None:
    file = tmp_path / "grader.yaml"
    file.write_text("\n")
    with pytest.raises(Exception, match="the file is empty"):
        open_grader(GraderConfig(path=str(file)), log_path=None)
