"""The short audit in `rft validate`, and when it stops a job."""

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
    assert found.err.startswith("warning: scorer: pays for completions that are no answers: ")
    assert "all options listed, all values per field" in found.err
    assert found.err.count("\n") == 1


def test_the_same_as_json(rft: Any) -> None:
    found = check(rft, "weak", "--json")
    document = json.loads(found.out)
    assert document["status"] == "ok"
    assert next(check for check in document["checks"] if check["name"] == "grader audit")["ok"] is True
    assert [warning[:12] for warning in document["warnings"]] == ["scorer: pays"]


def test_a_flaky_scorer_is_a_warning(rft: Any) -> None:
    found = check(rft, "flaky")
    assert found.code == 0
    assert "warning: scorer: three calls with one completion differ by up to 0." in found.err


def test_a_job_whose_references_all_fail_does_not_start(rft: Any) -> None:
    found = check(rft, "wrong_key")
    assert found.code == 2
    assert (
        "wrong_key.py: the reference of every row that was tried fails: no more than wrong ones: all 4"
        in found.err
    )
    assert "--set grader.audit=warn" in found.err
    warned = check(rft, "wrong_key", "--set", "grader.audit=warn")
    assert warned.code == 0
    assert (
        "warning: scorer: reference: no more than wrong ones: all 4 rows (sample_data/train.jsonl:"
        in warned.err
    )
    left_out = check(rft, "wrong_key", "--set", "grader.audit=none")
    assert left_out.code == 0
    assert audit_line(left_out.out).startswith("– grader audit")


def test_create_stops_too_before_a_model_loads(rft: Any, tmp_path: Any) -> None:
    found = rft(
        "create", *VAL, "--reward-model", f"{SCORERS}/wrong_key.py", "--output-dir", str(tmp_path / "runs")
    )
    assert found.code == 2
    assert "the reference of every row that was tried fails" in found.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("body", ["len(completion)", "1 / (1 + len(completion))"])
def test_a_scorer_that_means_the_text_alone_may_go_on(rft: Any, tmp_path: Any, body: str) -> None:
    (tmp_path / "scorer.py").write_text(f"def score(completion):\n    return {body}\n")
    found = check(rft, str(tmp_path / "scorer.py"))
    assert found.code == 0
    assert "warning: scorer: pays for completions that are no answers: " in found.err


def test_a_slow_scorer_is_not_waited_for(rft: Any, tmp_path: Any) -> None:
    (tmp_path / "scorer.py").write_text(
        "import time\n\ndef score(completion, example):\n    time.sleep(0.5)\n"
        "    return completion == example['output']\n"
    )
    found = rft("validate", "-v", "sample_data/val.jsonl", "--reward-model", str(tmp_path / "scorer.py"))
    assert found.code == 0
    assert "warning: scorer: too slow for the short audit" in found.err
    assert "3 grades on 3 rows" in audit_line(found.out)
