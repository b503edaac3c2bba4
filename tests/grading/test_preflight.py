from __future__ import annotations

from typing import Any

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageErrors
from rft_cli.grading.preflight import PreflightReport, check_grader
from rft_cli.types import Example, Source

ROWS = [
    Example(f"{i}", "p", {"question": "q", "answer": str(i)}, Source("train.jsonl", i + 1)) for i in range(12)
]
REFERENCES: list[str | None] = [str(i) for i in range(12)]


def check(path: str, references: list[str | None] = REFERENCES, **settings: Any) -> PreflightReport:
    return check_grader(GraderConfig(path=path, **settings), ROWS, references)


def problems(path: str, **settings: Any) -> list[tuple[str, str | None]]:
    with pytest.raises(UsageErrors) as caught:
        check(path, **settings)
    return [(problem.message, problem.fix) for problem in caught.value.problems]


def test_a_good_scorer(write_scorer: Any) -> None:
    path = write_scorer("def score(completion, example):\n    return completion == example['answer']\n")
    report = check(path)
    assert report.means == {"reference": 1.0, "empty completion": 0.0, "junk completion": 0.0}
    assert report.notes == (
        f"scorer: score(completion, example) of {path}",
        "scorer: 8 references graded, mean reward 1.00",
        "scorer: junk completions get 0.00",
    )
    assert report.warnings == ()


def test_without_references(write_scorer: Any) -> None:
    path = write_scorer("def score(completion):\n    return len(completion)\n")
    report = check(path, [None] * 12)
    assert report.means == {"empty completion": 0.0, "junk completion": 64.0}
    assert report.warnings == ()


def test_warnings(write_scorer: Any) -> None:
    longer = write_scorer("def score(completion):\n    return len(completion) or 99\n")
    assert check(longer, audit="none").warnings == (
        "scorer: junk completions get 64.00, more than references (1.00)",
        "scorer: empty completions get 99.00, more than references (1.00)",
    )
    same = write_scorer("def score(completion):\n    return 0.5\n", "same.py")
    assert check(same, audit="none").warnings == (
        "scorer: every completion got the same reward (0.5): nothing to learn from if a model's do",
    )


def test_it_fails_on_the_first_rows(write_scorer: Any) -> None:
    path = write_scorer("\ndef score(completion, example):\n    return completion == example['output']\n")
    assert problems(path) == [
        (
            f"{path}:3: KeyError: 'output' (grading the reference of train.jsonl:1)",
            "the row has the keys question, answer",
        )
    ]


def test_a_scorer_that_fails_on_some_texts_may_go_on_with_a_warning(write_scorer: Any) -> None:
    path = write_scorer(
        "import json\n\ndef score(completion):\n    return json.loads(completion or '0') >= 0\n"
    )
    warning = check(path, audit="none").warnings[0]
    assert warning.startswith(
        f"scorer: fails on a junk completion: {path}:4: json.decoder.JSONDecodeError: Expecting value"
    )
    assert "(train.jsonl:1); failed grades teach nothing, and too many stop a job" in warning


def test_a_wrong_type_now_and_then_is_a_warning_for_each_reason(write_scorer: Any) -> None:
    path = write_scorer(
        """
        def score(completion, example):
            if completion == "2":
                return "two"
            if not completion:
                raise ValueError("empty")
            return 1
        """
    )
    assert [warning.partition("; ")[0] for warning in check(path, audit="none").warnings] == [
        f"scorer: fails on an empty completion: {path}:6: ValueError: empty (train.jsonl:1)",
        f"scorer: fails on a reference: {path}: returned 'two' (str), which is no number: convert it with float(…) "
        "(train.jsonl:3)",
        "scorer: every completion got the same reward (1): nothing to learn from if a model's do",
    ]


@pytest.mark.parametrize(
    "body",
    [
        "json.loads(completion)['answer'] == float(example['answer'])",
        "json.loads(completion).get('answer') == 98",
        "json.loads(completion)['city'] + json.loads(completion)['street'] != ''",
        "re.search(r'<answer>(.*)</answer>', completion).group(1) == example['answer']",
        "float(re.findall(r'\\\\boxed{(.*)}', completion)[0])",
        "float(completion.split('#### ')[1])",
        "eval(json.loads(completion)['expression']) == int(example['answer'])",
        "float(completion.split('answer is ')[1].rstrip('.'))",
    ],
)
def test_a_scorer_that_reads_one_form_alone_may_go_on(write_scorer: Any, body: str) -> None:
    path = write_scorer(f"import json\nimport re\n\ndef score(completion, example):\n    return {body}\n")
    (warning, *_) = check(path).warnings
    assert warning.startswith("scorer: fails on a reference, an empty completion"), warning


def test_all_different_problems_at_once(write_scorer: Any) -> None:
    path = write_scorer(
        """
        def score(completion, example):
            if completion == "2":
                return "two"
            raise ValueError(completion[:6])
        """
    )
    assert problems(path)[:3] == [
        (
            f"{path}:5: ValueError: 0 (grading the reference of train.jsonl:1)",
            "correct the scorer, or this row (its keys: question, answer): rft grade --gold FILE shows more",
        ),
        (
            f"{path}:5: ValueError (grading the empty completion of train.jsonl:1)",
            "give such a completion a low reward: a model will write the like (the row's keys: question, answer)",
        ),
        (
            f"{path}:5: ValueError: Sure! (grading the junk completion of train.jsonl:1)",
            "give such a completion a low reward: a model will write the like (the row's keys: question, answer)",
        ),
    ]


def test_a_scorer_that_hangs_on_one_text_may_go_on(write_scorer: Any) -> None:
    path = write_scorer(
        "import time\ndef score(completion):\n    return time.sleep(60 * (not completion)) or 1\n"
    )
    assert [warning.partition(" (")[0] for warning in check(path, timeout_s=0.3).warnings] == [
        f"scorer: fails on an empty completion: {path}:3: no result after 0.3 s",
        "scorer: every completion got the same reward",
    ]


def test_a_hanging_scorer_is_tried_twice(write_scorer: Any) -> None:
    path = write_scorer("import time\ndef score(completion):\n    time.sleep(60)\n")
    assert problems(path, timeout_s=0.3) == [
        (
            f"{path}:3: no result after 0.3 s (grader.timeout_s) (grading the reference of train.jsonl:1)",
            "make it faster, or raise grader.timeout_s",
        )
    ]


def test_a_missing_return(write_scorer: Any) -> None:
    path = write_scorer("def score(completion):\n    completion == 'yes'\n")
    report = check(path)
    assert report.means == {}
    assert report.warnings[0] == (
        "scorer: returned None for all of 32 completions: is a return missing? None means that one can't be graded, "
        "and nothing can be learned from it"
    )


def test_some_skipped(write_scorer: Any) -> None:
    path = write_scorer(
        "def score(completion, example):\n    return completion == example['answer'] if completion else None\n"
    )
    report = check(path)
    assert report.warnings == ()
    assert report.means == {"reference": 1.0, "junk completion": 0.0}


def test_negative_rewards_where_only_references_are_graded(write_scorer: Any) -> None:
    path = write_scorer("def score(completion):\n    return -1 if completion.isdigit() else None\n")
    report = check(path, audit="none")
    assert (report.means, report.warnings) == ({"reference": -1.0}, ())


def test_no_rows(write_scorer: Any) -> None:
    path = write_scorer("def score(completion):\n    return 1\n")
    report = check_grader(GraderConfig(path=path), [], [])
    assert (report.means, report.warnings) == ({}, ())


def test_a_spec_that_reads_json_gives_nothing_to_completions_that_are_none() -> None:
    spec = {
        "type": "string_check",
        "name": "s",
        "operation": "eq",
        "input": "{{ sample.output_json }}",
        "reference": "{{ item.answer }}",
    }
    report = check_grader(GraderConfig(spec=spec), ROWS, REFERENCES)
    assert report.means == {"reference": 1.0, "empty completion": 0.0, "junk completion": 0.0}
    assert [warning for warning in report.warnings if "fails" in warning] == []


def test_templates_are_checked_on_every_row() -> None:
    spec = {
        "type": "string_check",
        "name": "s",
        "operation": "eq",
        "input": "a",
        "reference": "{{ item.hint }}",
    }
    rows = [Example("0", "p", {"hint": "h"}, Source("train.jsonl", 1)), *ROWS[1:3]]
    with pytest.raises(UsageErrors) as caught:
        check_grader(GraderConfig(spec=spec), rows, ["r"] * 3, n=1, rows=rows)
    assert [problem.message for problem in caught.value.problems] == [
        "train.jsonl:2: {{ item.hint }}: the row has no key 'hint' (keys: question, answer), and so in 1 more",
    ]
