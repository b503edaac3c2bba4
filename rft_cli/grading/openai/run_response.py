"""One grade in the shape in which OpenAI's /fine_tuning/alpha/graders/run answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rft_cli.grading.openai.grader import SpecGrader
from rft_cli.grading.openai.templates import SAMPLE_PARSE
from rft_cli.grading.openai.text_graders import UNPARSED
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.protocol import Grader
from rft_cli.types import Grade, GradeError, TokenUse

_FLAGS = {
    "formula": "formula_parse_error",
    "sample_parse": "sample_parse_error",
    "invalid_variable": "invalid_variable_error",
    "raised": "python_grader_runtime_error",
    "bad_value": "python_grader_runtime_error",
    "timeout": "python_grader_server_error",
    "died": "python_grader_server_error",
    "judge_server": "model_grader_server_error",
    "judge_timeout": "model_grader_server_error",
    "judge_rate_limit": "model_grader_server_error",
    "judge_refusal": "model_grader_refusal_error",
    "judge_parse": "model_grader_parse_error",
}
"""Our kinds of failure → OpenAI's flag; every other kind is its other_error."""
_ALL_FLAGS = (
    *dict.fromkeys(_FLAGS.values()),
    "truncated_observation_error",
    "unresponsive_reward_error",
    "other_error",
)


def run_lines(grader: Grader) -> Callable[[Grade], bytes]:
    """A function that writes a grade of `grader` as a line of JSON, in the shape of `to_openai_run`.

    A scorer is of OpenAI's type "python"; a reward model, of which OpenAI has none, is "reward_model".
    """
    if isinstance(grader, SpecGrader):
        name, type = grader.spec.name, str(grader.spec.type)
    else:
        name, type = grader.signature, "python" if isinstance(grader, ScorerGrader) else "reward_model"

    def line(grade: Grade) -> bytes:
        text = json.dumps(to_openai_run(grade, name=name, type=type), ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace") + b"\n"

    return line


def to_openai_run(grade: Grade, *, name: str, type: str) -> dict[str, Any]:
    """The response of a run of the grader `name` of the type `type`.

    The shape wants a number as reward and a failure has none: as in OpenAI's answer it is 0.0 there, and a flag in
    `errors` says that it is not a reward. A grader that returns None has failed there. Tokens are those that were
    spent: none where a verdict came from the cache.
    """
    unparsed = _unparsed(grade)
    models = {model: _usage(used) for model, used in grade.usage.items() if used is not None}
    return {
        "reward": 0.0 if grade.reward is None else grade.reward,
        "sub_rewards": {name: value for name, value in grade.components.items() if name not in unparsed},
        "model_grader_token_usage_per_model": models,
        "metadata": {
            "name": name,
            "type": type,
            "execution_time": grade.seconds,
            "scores": {
                name: value
                for name, value in grade.components.items()
                if "." not in name and name not in unparsed
            },
            "token_usage": sum(counts["total_tokens"] for counts in models.values()) if models else None,
            "sampled_model_name": next(iter(grade.usage)) if len(grade.usage) == 1 else None,
            "errors": _errors(grade),
        },
    }


def _unparsed(grade: Grade) -> set[str]:
    """Components that count completions which are not JSON: OpenAI has a flag for them."""
    return {name for name in grade.components if name.rpartition(".")[2] == UNPARSED}


def _usage(used: TokenUse) -> dict[str, int]:
    return {
        "prompt_tokens": used.read,
        "completion_tokens": used.written,
        "total_tokens": used.read + used.written,
    }


def _errors(grade: Grade) -> dict[str, Any]:
    error = grade.error
    if error is None and grade.reward is None:
        error = GradeError(
            "bad_value", "returned None, which is not a number (rft leaves such a completion out)"
        )
    if error is None and any(grade.components.get(name) for name in _unparsed(grade)):
        error = GradeError(SAMPLE_PARSE, "")
    flag = None if error is None else _FLAGS.get(error.kind, "other_error")
    message = "" if error is None else error.message
    return {
        **{name: name == flag for name in _ALL_FLAGS},
        "python_grader_server_error_type": error.kind
        if error and flag == "python_grader_server_error"
        else None,
        "python_grader_runtime_error_details": message if flag == "python_grader_runtime_error" else None,
        "model_grader_server_error_details": message if flag == "model_grader_server_error" else None,
    }
