"""AWS's reward functions: a list of samples in, a list of scores out, known by their ids.

A sample is what Bedrock and SageMaker send: `id`, `messages` with the completion as last turn, the row's other keys,
and `reference_answer`, which Bedrock has under `metadata` with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from rft_cli.grading.wire.messages import Item
from rft_cli.grading.worker.return_values import BadValue

_PROMPTS = ("messages", "prompt")
_LONGEST_MS = 900_000


CONTEXT = SimpleNamespace(
    function_name="rft",
    function_version="$LATEST",
    invoked_function_arn="arn:aws:lambda:local:000000000000:function:rft",
    memory_limit_in_mb="0",
    aws_request_id="rft",
    log_group_name="rft",
    log_stream_name="rft",
    get_remaining_time_in_millis=lambda: _LONGEST_MS,
)
"""The attributes of AWS's context that code reads. A grade has `grader.timeout_s`, not AWS's longest time."""


def event_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The samples of these completions; the id of each is its place among them."""
    return [_sample(place, item) for place, item in enumerate(items)]


def _sample(place: int, item: Item) -> dict[str, Any]:
    row = {key: value for key, value in item.example.items() if key not in _PROMPTS}
    is_text = isinstance(item.prompt, str)
    asked = [{"role": "user", "content": item.prompt}] if is_text else list(item.prompt or ())
    if item.reference is not None:
        row.setdefault("reference_answer", item.reference)
    own = row.get("metadata")
    known = (
        dict(own)
        if isinstance(own, dict)
        else {key: value for key, value in row.items() if key != "metadata"}
    )
    if "reference_answer" in row:
        known.setdefault("reference_answer", row["reference_answer"])
    messages = [*asked, {"role": "assistant", "content": item.completion}]
    return {**row, "id": str(place), "messages": messages, "metadata": known}


def scores_of(value: Any, count: int) -> list[Any]:
    """What the function returned, in the order of the samples: a reward with components, or why there is none."""
    if isinstance(value, dict) and "body" in value:  # as a web endpoint answers
        value = json.loads(value["body"]) if isinstance(value["body"], str) else value["body"]
    if isinstance(value, dict) and "aggregate_reward_score" in value:
        value = [value]
    if not isinstance(value, list | tuple):
        raise BadValue(f"returned {type(value).__name__}, and AWS's functions return a list of scores")
    entries = [vars(entry) if hasattr(entry, "aggregate_reward_score") else entry for entry in value]
    if len(entries) == count and not any(isinstance(entry, dict) and "id" in entry for entry in entries):
        return [_score(entry) for entry in entries]
    by_id = {str(entry.get("id")): entry for entry in entries if isinstance(entry, dict)}
    return [_score(by_id.get(str(place))) for place in range(count)]


def _score(entry: Any) -> Any:
    """As a scorer's own return value; text where it is none, which is refused as such."""
    if not isinstance(entry, dict):
        return "no score with this sample's id"
    if "aggregate_reward_score" not in entry:
        return "no aggregate_reward_score"
    metrics = entry.get("metrics_list")
    parts = {
        str(metric["name"]): metric.get("value")
        for metric in (metrics if isinstance(metrics, list) else ())
        if isinstance(metric, dict) and "name" in metric
    }
    return {**parts, "reward": entry["aggregate_reward_score"]}
