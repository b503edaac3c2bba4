"""A row's reference: what a right completion says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rft_cli.data.messages import last_answer
from rft_cli.data.row_formats import Keys
from rft_cli.types import Example

REFERENCE_KEYS = (
    *("reference_answer", "ground_truth", "reference", "solution", "target", "label"),
    *("expected", "expected_output", "expected_answer", "correct_answer", "gold_answer", "final_answer"),
    *("answers", "answerKey", "response", "completion", "chosen"),
)
"""Keys of references beside `output` and `answer`, in the order in which they are looked for."""


def reference_of(example: Example, columns: Mapping[str, str] | None = None) -> str | None:
    """The row's reference (what a right completion says) as text, or None if the row has none.

    Looked for in this order: `output`, `answer` (GSM8K: what follows `####`), `reward_model.ground_truth`,
    `reference_answer` and its kind, the assistant turn that ends `messages` or `conversations`. A list of messages says
    what its last assistant turn says; other values come as JSON.
    """
    whole = solution_of(example, columns)
    return None if whole is None else whole.rpartition("####")[2].strip() if _ends_in_result(whole) else whole


def solution_of(example: Example, columns: Mapping[str, str] | None = None) -> str | None:
    """The reference as it was written, with the reasoning before `####`: shows how long completions get."""
    row, keys = example.fields, Keys(columns or {})
    found = next((value for value in _candidates(row, keys) if value is not None and value != ""), None)
    if found is not None:
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    for name in ("messages", "conversations", "conversation", "contents"):
        answer = last_answer(row.get(keys[name]))
        if answer is not None:
            return answer
    return None


def _candidates(row: Mapping[str, Any], keys: Keys) -> Iterator[Any]:
    yield row.get(keys["output"])
    yield row.get(keys["answer"])
    reward_model = row.get("reward_model")
    yield reward_model.get("ground_truth") if isinstance(reward_model, dict) else None
    for key in REFERENCE_KEYS:
        value = row.get(key)
        if key == "label" and isinstance(value, bool) and "completion" in row:
            # KTO's mark of the completion, which is no reference where it is a bad one.
            if value is False:
                return
            continue
        yield last_answer(value) if _are_messages(value) else value


def _are_messages(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, dict) and {"role", "from"} & v.keys() for v in value)
    )


def _ends_in_result(text: str) -> bool:
    """Whether the last line is GSM8K's `#### result`."""
    return text.strip().rpartition("\n")[2].startswith("####")
