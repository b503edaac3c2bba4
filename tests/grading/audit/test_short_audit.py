"""The short audit in `rft validate` and before a job: it warns, and stops nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

VAL = ["-v", "sample_data/val.jsonl", "-t", "sample_data/train.jsonl"]
SCORERS = "tests/grading/audit/scorers"


def check(rft: Any, scorer: str, *more: str) -> Any:
    path = scorer if "/" in scorer else f"{SCORERS}/{scorer}.py"
    return rft("validate", *VAL, "--reward-model", path, *more)


def audit_line(out: str) -> str:
    return " ".join(next(line for line in out.splitlines() if "grader audit" in line).split())


def test_a_clean_scorer(rft: Any) -> None:
    found = check(rft, "sample_data/scorer.py")
    # Four rows, 3 honest texts three times and 17 exploits each.
    assert (found.code, found.err) == (0, "")
    assert audit_line(found.out) == f"ok grader audit {4 * 9 + 4 * 17} grades on 4 rows: no problem"


def test_a_weak_scorer_is_a_warning(rft: Any) -> None:
    found = check(rft, "weak")
    assert found.code == 0
    assert audit_line(found.out).startswith("warning grader audit 104 grades on 4 rows: ")
    assert found.err.startswith(
        "warning: scorer: some texts that are not answers earn as much as right ones: "
    )
    assert "all options listed, all values per field" in found.err
    assert found.err.count("\n") == 1


def test_the_same_as_json(rft: Any) -> None:
    found = check(rft, "weak", "--json")
    document = json.loads(found.out)
    assert document["status"] == "ok"
    assert next(check for check in document["checks"] if check["name"] == "grader audit")["ok"] is True
    assert [warning[:18] for warning in document["warnings"]] == ["scorer: some texts"]


def test_a_flaky_scorer_is_a_warning(rft: Any) -> None:
    found = check(rft, "flaky")
    assert found.code == 0
    assert "warning: scorer: three calls with one completion differ by up to 0." in found.err


def test_references_that_all_fail_are_a_warning(rft: Any) -> None:
    warned = check(rft, "wrong_key")
    assert warned.code == 0
    assert (
        "warning: scorer: on all 4 rows the reference earns no more than wrong texts (sample_data/train.jsonl:"
        in warned.err
    )
    assert "that is fine if the scorer wants more than the bare reference" in warned.err
    as_before = check(rft, "wrong_key", "--set", "grader.audit=stop")  # the default once
    assert (as_before.code, as_before.err) == (0, warned.err)
    left_out = check(rft, "wrong_key", "--set", "grader.audit=none")
    assert left_out.code == 0
    assert audit_line(left_out.out).startswith("– grader audit")


@pytest.mark.parametrize("body", ["len(completion)", "1 / (1 + len(completion))"])
def test_a_scorer_that_means_the_text_alone_may_go_on(rft: Any, tmp_path: Any, body: str) -> None:
    (tmp_path / "scorer.py").write_text(f"def score(completion):\n    return {body}\n")
    found = check(rft, str(tmp_path / "scorer.py"))
    assert found.code == 0
    assert "warning: scorer: some texts that are not answers earn as much as right ones: " in found.err


def test_a_slow_scorer_is_not_waited_for(rft: Any, tmp_path: Any) -> None:
    (tmp_path / "scorer.py").write_text(
        "import time\n\ndef score(completion, example):\n    time.sleep(0.5)\n"
        "    return completion == example['output']\n"
    )
    found = rft("validate", "-v", "sample_data/val.jsonl", "--reward-model", str(tmp_path / "scorer.py"))
    assert found.code == 0
    assert "warning: scorer: too slow for the short audit" in found.err
    assert "3 grades on 3 rows" in audit_line(found.out)


MATH = [
    {"data_source": "math", "prompt": [{"role": "user", "content": f"What is {n} + 2? Step by step.\nAnswer: $NUMBER"}],
     "reward_model": {"style": "rule", "ground_truth": str(n + 2)}, "extra_info": {"index": str(n)}}
    for n in range(6)
]  # fmt: skip
STEPS = """
import re

def score(completion, example):
    found = re.search(r"^Answer: (\\d+)\\s*$", completion, re.MULTILINE)
    steps = completion.count("\\n")
    return float(bool(found) and steps > 0 and found[1] == example["reward_model"]["ground_truth"])
"""
NUMBERS = [{"question": f"What is {n} + 90? Reply as JSON.", "answer": str(n + 90)} for n in range(6)]
RECORD = """
import json

def score(completion, example):
    record = json.loads(completion)
    return float(record["answer"] == int(example["answer"]))
"""
COUNTDOWN = [
    {
        "messages": [{"role": "user", "content": f"target: {n}. Reply with JSON: expression."}],
        "target": str(n),
    }
    for n in range(6)
]
SPEC = {
    "type": "python",
    "name": "countdown",
    "source": "def grade(sample, item):\n    return float(sample['output_json'].get('expression') == item['target'])\n",
}


@pytest.mark.parametrize(
    ("rows", "file", "scorer"),
    [
        (MATH, "scorer.py", STEPS),
        (NUMBERS, "scorer.py", RECORD),
        (COUNTDOWN, "grader.json", json.dumps(SPEC)),
    ],
    ids=["steps", "json", "countdown"],
)
def test_a_scorer_that_wants_more_than_the_reference_may_go_on(
    rft: Any, tmp_path: Any, rows: Any, file: str, scorer: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / file).write_text(scorer)
    found = rft("validate", "-t", str(tmp_path / "rows.jsonl"), "--reward-model", str(tmp_path / file))
    assert found.code == 0, found.err
    assert "warning: scorer: " in found.err
    assert "ok       grader  " in found.out
    assert "Traceback" not in found.err


def test_what_fails_on_everything_stops_a_job_before_a_model_loads(rft: Any, tmp_path: Any) -> None:
    (tmp_path / "scorer.py").write_text(
        "def score(completion, example):\n    return completion == example['no']\n"
    )
    started = ("--reward-model", str(tmp_path / "scorer.py"), "--output-dir", str(tmp_path / "runs"))
    found = rft("create", *VAL, *started)
    assert found.code == 2
    assert "scorer.py:2: KeyError: 'no' (grading the reference of sample_data/train.jsonl:1)" in found.err
    assert not (tmp_path / "runs").exists()
