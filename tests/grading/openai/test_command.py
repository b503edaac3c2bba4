"""Specs at the command line: rft grade and rft validate, as a user runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.command import ROOT

SIMILAR = {
    "type": "text_similarity",
    "name": "near",
    "evaluation_metric": "rouge_l",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
}
ROWS = [{"question": f"q{n}", "answer": f"word {n}"} for n in range(6)]
INLINE = """
grader:
  type: multi
  name: both
  graders:
    near: {type: text_similarity, name: near, evaluation_metric: rouge_1, input: "{{ sample.output_text }}",
           reference: "{{ item.answer }}"}
    short: {type: string_check, name: s, operation: ne, input: "{{ sample.output_text }}", reference: no}
  calculate_output: 0.5 * near + 0.5 * short
  workers: 1
"""


def test_grade_with_a_file(rft: Any, write: Any) -> None:
    spec = write("grader.json", SIMILAR)
    rows = write("rows.jsonl", [{"completion": "word 9", "answer": "word 1"}, {"completion": "a"}])
    result = rft("grade", "--reward-model", spec, rows)
    assert [json.loads(line)["grade"] for line in result.out.splitlines()] == [
        {"status": "graded", "reward": 0.5, "components": {}, "error": None},
        {
            "status": "failed",
            "reward": None,
            "components": {},
            "error": {
                "kind": "invalid_variable",
                "message": "{{ item.answer }}: the row has no key 'answer' (keys: completion)",
            },
        },
    ]
    assert result.code == 3  # half of the rows failed


def test_a_spec_as_the_grader_section_of_a_config(rft: Any, write: Any) -> None:
    config = write("job.yaml", INLINE)
    rows = write(
        "rows.jsonl", [{"completion": "word 9", "answer": "word 1"}, {"completion": "no", "answer": "a"}]
    )
    result = rft("grade", "--config", config, rows)
    assert result.code == 0, result.err
    assert [json.loads(line)["grade"]["reward"] for line in result.out.splitlines()] == [0.75, 0.0]


def test_validate_accepts_a_good_spec(rft: Any, write: Any) -> None:
    train = write("train.jsonl", ROWS)
    result = rft("validate", "--reward-model", write("grader.json", SIMILAR), "-t", train, "--json")
    assert result.code == 0, result.err
    (check,) = [check for check in json.loads(result.out)["checks"] if check["name"] == "grader"]
    assert check["detail"] == (
        "text_similarity grader 'near' of grader.json; 3 references graded, mean reward 1.00; "
        "junk completions get 0.00"
    )
    assert rft("validate", "--reward-model", "grader.json").code == 0  # no rows needed


def test_validate_reports_every_problem_of_a_spec_at_once(rft: Any, write: Any) -> None:
    spec = {
        "type": "multi",
        "name": "m",
        "graders": {
            "near": {**SIMILAR, "reference": "{{ itm.answer }}"},
            "odd": {"type": "string_chek"},
            "even": {"type": "string_check", "name": "e", "operation": "eq", "input": "a", "referense": "b"},
        },
        "calculate_output": "near + / odd",
    }
    train = write("train.jsonl", ROWS)
    result = rft("validate", "--reward-model", write("grader.json", spec), "-t", train)
    assert result.code == 2
    assert [line for line in result.err.splitlines() if line.startswith("error")] == [
        "error: grader.json:10:20: graders.near.reference: {{ itm.answer }}: there is no namespace 'itm'",
        'error: grader.json:13:15: graders.odd.type: no such type: "string_chek"',
        "error: grader.json:15:13: graders.even.reference: is missing",
        "error: grader.json:20:7: graders.even.referense: unknown field",
        "error: grader.json:23:23: calculate_output: column 8: expected a number, a grader or '(', not '/'",
    ]


def test_a_key_that_a_later_row_lacks(rft: Any, write: Any) -> None:
    train = write("train.jsonl", [*ROWS, {"question": "q", "answr": "a"}])
    result = rft("validate", "--reward-model", write("grader.json", SIMILAR), "-t", train)
    assert result.code == 2
    assert (
        "train.jsonl:7: {{ item.answer }}: the row has no key 'answer' (keys: question, answr)\n"
        in result.err
    )
    assert "grader.json: reference names it: correct the template, or the row" in result.err


def test_meteor_without_wordnet(rft: Any, write: Any, tmp_path: Any) -> None:
    spec = write("grader.json", {**SIMILAR, "evaluation_metric": "meteor"})
    result = rft("validate", "--reward-model", spec, env={"NLTK_DATA": str(tmp_path), "HOME": str(tmp_path)})
    assert result.code == 2
    assert "grader.json: meteor needs WordNet, which is not installed" in result.err
    assert "python -m nltk.downloader wordnet" in result.err


def test_grading_with_a_spec_loads_no_torch(rft: Any, write: Any, tmp_path: Path) -> None:
    spec = write("grader.json", SIMILAR)
    rows = write("rows.jsonl", [{"completion": "a", "answer": "a"}])
    write(
        "sitecustomize.py",
        "import sys\nprint('no torch here', file=sys.stderr)\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n",
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    result = rft("grade", "--reward-model", spec, rows, env={"PYTHONPATH": path})
    assert result.code == 0, result.err
    assert "no torch here" in result.err


def test_prints_of_a_python_grader_go_to_stderr_with_their_row(rft: Any, write: Any) -> None:
    source = "print('loaded')\ndef grade(sample, item):\n    print('looking at', sample['output_text'])\n    return 1\n"
    spec = write("grader.json", {"type": "python", "name": "p", "source": source})
    text = '{"completion": "word"}\n\n{"completion": "two\\nlines"}\n'
    result = rft("grade", "--reward-model", spec, write("rows.jsonl", text))
    assert result.code == 0, result.err
    assert "looking at" not in result.out
    assert result.err.splitlines()[:4] == [
        "grader.json: loaded",
        "rows.jsonl:1: looking at word",
        "rows.jsonl:3: looking at two",
        "rows.jsonl:3: lines",
    ]
    quiet = rft("grade", "--quiet", "--reward-model", spec, "rows.jsonl")
    assert (quiet.code, quiet.err) == (0, "")


def test_openai_run_prints_what_the_api_would_answer(rft: Any, write: Any) -> None:
    spec = write("grader.json", SIMILAR)
    rows = write("rows.jsonl", [{"completion": "word 9", "answer": "word 1"}, {"completion": "a"}])
    result = rft("grade", "--reward-model", spec, "--format", "openai-run", rows)
    first, second = [json.loads(line) for line in result.out.splitlines()]
    assert first["reward"] == 0.5
    assert (first["metadata"]["name"], first["metadata"]["type"]) == ("near", "text_similarity")
    assert not any(first["metadata"]["errors"].values())
    assert second["reward"] == 0.0
    assert [name for name, said in second["metadata"]["errors"].items() if said] == ["invalid_variable_error"]


def test_a_scorer_that_finds_new_components_for_ever(rft: Any, write: Any, tmp_path: Path) -> None:
    text = "def score(completion, example):\n    return {'reward': 1, f\"c{example['n']:03}\": 0.5}\n"
    (tmp_path / "scorer.py").write_text(text)
    rows = write("rows.jsonl", [{"completion": "a", "n": number} for number in range(150)])
    result = rft("grade", "--reward-model", "scorer.py", rows)
    assert json.loads(result.out.splitlines()[-1])["grade"]["components"] == {"c149": 0.5}
    assert "  components: c000 0.5000, c001 0.5000, " in result.err
    assert "c019 0.5000, and 80 more\n  50 values of components are in no mean" in result.err


def test_openai_run_of_a_scorer(rft: Any, tmp_path: Path, write: Any) -> None:
    (tmp_path / "scorer.py").write_text("def score(completion):\n    return 1 / len(completion)\n")
    rows = write("rows.jsonl", [{"completion": "four"}, {"completion": ""}])
    result = rft("grade", "--reward-model", str(tmp_path / "scorer.py"), "--format", "openai-run", rows)
    first, second = [json.loads(line) for line in result.out.splitlines()]
    assert (first["reward"], second["reward"]) == (0.25, 0.0)
    errors = second["metadata"]["errors"]
    assert errors["python_grader_runtime_error"] is True
    assert "ZeroDivisionError" in errors["python_grader_runtime_error_details"]


def test_a_format_that_is_none(rft: Any, write: Any) -> None:
    result = rft("grade", "--reward-model", write("grader.json", SIMILAR), "--format", "yaml", "rows.jsonl")
    assert result.code == 2
    assert "openai-run" in result.err
