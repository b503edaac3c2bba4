"""A hundred functions of all forms, valid and broken, through the real command and workers: exit 0 or 2."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rft_cli.cli import app

ROWS = """\
{"prompt": [{"role": "user", "content": "1 + 2?"}], "answer": "3", "level": 1}
{"prompt": [{"role": "user", "content": "2 + 2?"}], "answer": "4", "level": 2}
"""
FORMS = {
    "rft": "score(completion, example)",
    "batch": "score_batch(completions, examples)",
    "openai": "grade(sample, item)",
    "trl": "matches(prompts, completions, answer, **kwargs)",
    "trl_async": "async matches(completions, level, **kwargs)",
    "verl": "compute_score(data_source, solution_str, ground_truth, extra_info=None)",
    "predibase": "reward(prompt, completion, example)",
    "together": "reward(prediction, target)",
    "openrlhf": "reward_func(queries, prompts, labels, **kwargs)",
    "aws": "lambda_handler(event, context)",
}
LISTS = ("batch", "trl", "trl_async", "openrlhf", "aws")
BODIES = {
    "number": "1.0",
    "length": "len(str(list(locals().values())[0])) / 100",
    "nothing": "None",
    "text": "'good'",
    "not_finite": "float('inf')",
    "raises": "1 / 0",
    "misses_a_key": "{}['nowhere']",
    "odd_dict": "{'points': 1}",
    "recursion": "again()",
    "ends": "__import__('sys').exit(3)",
}


def source_of(form: str, body: str) -> str:
    """A scorer file: the expression is what one completion gets; a function of lists gives one for each."""
    signature = FORMS[form].removeprefix("async ")
    first = signature.partition("(")[2].partition(",")[0].rstrip(")")
    value = BODIES[body]
    if form == "aws":
        value = f"[{{'id': s['id'], 'aggregate_reward_score': {value}}} for s in event]"
    elif form in LISTS:
        value = f"[{value} for _ in {first}]"
    asynchronous = "async " if FORMS[form].startswith("async ") else ""
    return f"def again():\n    return again()\n\n\n{asynchronous}def {signature}:\n    return {value}\n"


@pytest.mark.slow
@pytest.mark.parametrize(("form", "body"), list(product(FORMS, BODIES)))
def test_any_function_is_taken_or_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, body: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS)
    Path("scorer.py").write_text(source_of(form, body))
    flags = ["--set", "grader.timeout_s=5", "--set", "grader.audit=none", "--set", "grader.workers=1"]
    name = FORMS[form].removeprefix("async ").partition("(")[0]
    scorer = ["--reward-model", f"scorer.py:{name}"]
    ended = CliRunner().invoke(app, ["validate", "-t", "rows.jsonl", *scorer, *flags])
    assert ended.exit_code in (0, 2), ended.output
    assert "internal error" not in ended.output
    assert "Traceback" not in ended.output
    assert (ended.exit_code == 0) == (body in ("number", "length", "nothing"))
    if ended.exit_code == 2:
        assert "scorer.py" in ended.output
