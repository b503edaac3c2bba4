"""The verdict: how judges are asked for it, and how it is read from their text. Unreadable text is never a 0."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.grading.openai.schema import JudgeModel, LabelModel, ScoreModel
from rft_cli.types import GradeError, Message

_MOST_OBJECTS = 100
"""Braces at which a JSON object is looked for; a verdict has one."""
_SHOWN = 2000
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """The reward that the judge gave. `clamped`: its number lay outside of the range."""

    reward: float
    clamped: bool = False


def response_format(spec: JudgeModel) -> dict[str, Any]:
    """The verdict's JSON schema for structured outputs; steps come first, so that the judge reasons first."""
    result: dict[str, Any] = {"type": "number"}
    if isinstance(spec, LabelModel):
        result = {"type": "string", "enum": spec.labels}
    step = _object({"description": {"type": "string"}, "conclusion": {"type": "string"}})
    schema = _object({"steps": {"type": "array", "items": step}, "result": result})
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def with_instruction(spec: JudgeModel, messages: Sequence[Message]) -> list[Message]:
    """The messages, with the verdict's form described at the end of the last user message.

    Always, because some servers accept `response_format` and ignore it. Not in a system message, because chat
    templates differ on where one may come. `developer` becomes `system`, the older name that all servers know.
    """
    sent: list[Message] = [
        {
            "role": "system" if message["role"] == "developer" else message["role"],
            # A completion may hold lone surrogates, which UTF-8 may not.
            "content": _SURROGATE.sub("\ufffd", message["content"]),
        }
        for message in messages
    ]
    text = _instruction(spec)
    if sent and sent[-1]["role"] == "user":
        sent[-1] = {"role": "user", "content": f"{sent[-1]['content']}\n\n{text}"}
    else:
        sent.append({"role": "user", "content": text})
    return sent


def read_verdict(spec: JudgeModel, text: str) -> JudgeVerdict | GradeError:
    """The verdict in what the judge wrote: one JSON object with `result`, alone, fenced or with text around it."""
    results = [item["result"] for item in _objects(text.rpartition("</think>")[2]) if "result" in item]
    if not results:
        verdict: JudgeVerdict | str = "no JSON object with a 'result' in the verdict"
    elif any(type(other) is not type(results[0]) or other != results[0] for other in results[1:]):
        verdict = "several different results in the verdict"
    else:
        verdict = _score(spec, results[0]) if isinstance(spec, ScoreModel) else _label(spec, results[0])
    if isinstance(verdict, JudgeVerdict):
        return verdict
    return GradeError("judge_parse", verdict, f"the judge wrote: {text[:_SHOWN]}")


def _score(spec: ScoreModel, result: Any) -> JudgeVerdict | str:
    number = _number(result)
    if number is None:
        return "the verdict's result is not a finite number"
    low, high = spec.bounds()
    reward = min(max(number, low), high)
    return JudgeVerdict(reward, clamped=reward != number)


def _number(result: Any) -> float | None:
    if isinstance(result, bool) or not isinstance(result, int | float | str):
        return None
    try:
        number = float(result)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _label(spec: LabelModel, result: Any) -> JudgeVerdict | str:
    if not isinstance(result, str):
        return "the verdict's result is not a label"
    same = [label for label in spec.labels if label == result] or [
        label for label in spec.labels if label.strip().casefold() == result.strip().casefold()
    ]
    if len(same) != 1:
        return "the verdict's result is none of the labels"
    return JudgeVerdict(float(same[0] in spec.passing_labels))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in a text."""
    decoder = json.JSONDecoder()
    place = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if place < 0:
            return
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield value
        place = text.find("{", end)


def _instruction(spec: JudgeModel) -> str:
    if isinstance(spec, ScoreModel):
        low, high = spec.bounds()
        result = f"a number from {low:g} to {high:g}"
    else:
        result = "one of " + ", ".join(json.dumps(label, ensure_ascii=False) for label in spec.labels)
    return (
        'Answer with one JSON object and nothing else: {"steps": [{"description": "...", "conclusion": "..."}], '
        f'"result": ...}}. "steps" holds your reasoning in short; "result" is {result}.'
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
