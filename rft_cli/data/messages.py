"""Converts lists of messages to the one form that chat templates take.

OpenAI's `role` and `content`, ShareGPT's `from` and `value`; text in parts; tool calls; JSON inside a string, as CSV
has it. What is ignored or changed goes to `Remark`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rft_cli.data.bad_row import BadRow, keys_of, quoted, short
from rft_cli.data.json_line import kind_of
from rft_cli.types import Message

Remark = Callable[[str], None]
"""Takes a remark on a row; each is reported once for the file."""

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool", "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "chatbot": "assistant",
    "observation": "tool", "function_response": "tool", "tool_response": "tool",
    "function_call": "assistant", "tool_call": "assistant",
}  # fmt: skip
"""Every name of a role, in small letters → the role that chat templates know."""
_KNOWN = ("system", "developer", "user", "assistant", "tool")
_READ = {
    "role",
    "content",
    "from",
    "value",
    "parts",
    "tool_calls",
    "tool_call_id",
    "name",
    "prefix",
    "reasoning_content",
}
_CALLS = ("function_call", "tool_call")
"""ShareGPT's roles whose text is a call of a tool."""


def conversation(value: object, key: str, remark: Remark, *, answered: bool) -> list[Message]:
    """The prompt in a list of messages. Raises BadRow.

    A last assistant turn is the completion and removed if `answered`, else the beginning of the completion and kept; a
    turn with `prefix: true` is always kept.
    """
    value = unpacked(value, key, remark)
    if not isinstance(value, list):
        raise BadRow(f"'{key}' must be a list of messages, not {kind_of(value)}")
    if not value:
        raise BadRow(f"'{key}' is an empty list", "write the prompt, or remove the row")
    turns = [_message(item, f"{key}[{place}]", remark) for place, item in enumerate(value)]
    if turns[-1]["role"] == "assistant":
        kept = not answered or (isinstance(value[-1], dict) and value[-1].get("prefix") is True)
        _end(turns, key, kept, remark)
    if not any(turn["role"] == "user" for turn in turns):
        raise BadRow(f"'{key}' has no user message", "give the message that asks the role user")
    if turns[-1]["role"] == "system":
        raise BadRow(f"'{key}' must end with a user turn, not system")
    return turns


def _end(turns: list[Message], key: str, kept: bool, remark: Remark) -> None:
    """Take off the assistant turn at the end of `turns`, or keep it as the beginning of the completion."""
    last = turns[-1]
    if last.get("tool_calls") and kept:
        raise BadRow(
            f"'{key}' ends with a tool call", "end it with the user's turn or with the tool's answer"
        )
    if kept and last["content"].strip():
        remark(
            f"'{key}' ends with an assistant turn: it is the beginning of the completion, which the model continues"
        )
        return
    turns.pop()
    if kept:
        remark(f"'{key}' ends with an empty assistant turn: it is left out")
        return
    remark(
        "the conversation ends with an assistant turn: it is left out of the prompt (the grader still sees it)"
    )
    if turns and turns[-1]["role"] == "assistant":
        raise BadRow(f"'{key}' must end with a user turn, not assistant", "join the last two assistant turns")


def unpacked(value: object, key: str, remark: Remark) -> object:
    """The list that a string holds, as JSON or as Python prints it; every other value unchanged."""
    found = listed(value) if isinstance(value, str) else None
    if found is None:
        return value
    remark(f"'{key}' is a list written as text: it is read as the list")
    return found


def listed(text: str) -> list[Any] | None:
    """The list in a text that is one; None if it is something else."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    except RecursionError:
        return None
    return found if isinstance(found, list) else None


def are_messages(value: object) -> bool:
    """Whether this is a list of messages beyond doubt."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict)
            and (("role" in item and "content" in item) or ("from" in item and "value" in item))
            for item in value
        )
    )


def last_answer(value: object) -> str | None:
    """What the assistant turn at the end of a list of messages says; None if there is none."""
    value = listed(value) if isinstance(value, str) else value
    last = value[-1] if isinstance(value, list) and value else None
    if not isinstance(last, dict):
        return None
    try:
        turn = _message(last, "", lambda _: None)
    except BadRow:
        # a free extra key of that name
        return None
    return turn["content"] if turn["role"] == "assistant" and "tool_calls" not in turn else None


def _message(value: object, where: str, remark: Remark) -> Message:
    if not isinstance(value, dict):
        raise BadRow(f"{where} must be an object with role and content, not {kind_of(value)}")
    if "role" not in value and "from" in value and "value" in value:
        remark("messages have 'from' and 'value': they are read as 'role' and 'content'")
        value = {**value, "role": value["from"], "content": value["value"]}
    if "content" not in value and isinstance(value.get("parts"), list):
        remark("messages have 'parts': they are read as 'content'")
        value = {**value, "content": value["parts"]}
    calls = _calls(value, where, remark)
    if calls and "content" not in value:
        value = {**value, "content": None}
    missing = [name for name in ("role", "content") if name not in value]
    if missing:
        raise BadRow(f"{where} has no {quoted(missing)}: it has {keys_of(value)}")
    role = _role(value["role"], where)
    if calls and role != "assistant":
        raise BadRow(f"{where} calls a tool, which only assistant turns do")
    if value["role"] in _CALLS:
        calls, value = [_as_call(value["content"], where)], {**value, "content": ""}
    content = _content(value["content"], f"{where}.content", empty_ok=role != "user", null_ok=bool(calls))
    message = Message(role=role, content=content)
    if calls:
        message["tool_calls"] = calls
    if role == "tool":
        for name in ("tool_call_id", "name"):
            if isinstance(value.get(name), str):
                message[name] = value[name]
    if isinstance(value.get("reasoning_content"), str):
        message["reasoning_content"] = value["reasoning_content"]
    for name in value.keys() - _READ - set(_CALLS):
        if value[name] not in (None, "", [], {}):
            remark(f"'{short_key(name)}' of messages is left out of the prompt")
    return message


def short_key(name: object) -> str:
    """A key as messages show it."""
    return short(name)[1:-1]


def _role(role: object, where: str) -> str:
    known = _ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        raise BadRow(f"{where}.role must be one of {', '.join(_KNOWN)}, not {short(role)}")
    return known


def _calls(value: Mapping[str, Any], where: str, remark: Remark) -> list[dict[str, Any]]:
    """The tool calls of a message, their arguments as objects; OpenAI's older `function_call` too."""
    given = value.get("tool_calls")
    if not given and isinstance(value.get("function_call"), dict):
        given = [value["function_call"]]
    if not given:
        return []
    if not isinstance(given, list):
        raise BadRow(f"{where}.tool_calls must be a list, not {kind_of(given)}")
    return [_call(call, f"{where}.tool_calls[{place}]", remark) for place, call in enumerate(given)]


def _call(value: object, where: str, remark: Remark) -> dict[str, Any]:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise BadRow(f"{where} must be a call of a tool: {{function: {{name, arguments}}}}")
    assert isinstance(value, dict)
    arguments = inner.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except ValueError:
            raise BadRow(f"{where}: the arguments are no JSON", "write them as an object") from None
        remark("arguments of tool calls are JSON in a string: the chat template gets them as objects")
    called = {"name": inner["name"], "arguments": without_nulls({} if arguments is None else arguments)}
    known = {"id": value["id"]} if isinstance(value.get("id"), str) else {}
    return {**known, "type": "function", "function": called}


def _as_call(text: object, where: str) -> dict[str, Any]:
    """The call in the text of ShareGPT's `function_call` turn."""
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRow(f"{where} must hold the call as JSON: {{name, arguments}}")
    return _call(found, where, lambda _: None)


def without_nulls(value: Any) -> Any:
    """The value without keys that are null: columns of Parquet give every object the keys of all others."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _content(value: object, where: str, *, empty_ok: bool, null_ok: bool = False) -> str:
    if value is None and null_ok:
        return ""
    if isinstance(value, list):
        value = "".join(_part(part, f"{where}[{place}]") for place, part in enumerate(value))
    return string(value, where, "text") if empty_ok else text(value, where, "text")


def _part(value: object, where: str) -> str:
    """The text of one content part; images and sound have none."""
    if not isinstance(value, dict) or value.get("type", "text") not in ("text", "input_text", "output_text"):
        raise BadRow(f"{where} is not text: models are trained on text alone", "remove the part, or the row")
    return string(value.get("text"), f"{where}.text", "text")


def text(value: object, where: str, wanted: str) -> str:
    """A string that is not empty; raises BadRow."""
    found = string(value, where, wanted)
    if not found.strip():
        raise BadRow(f"'{where}' is empty", "write the prompt, or remove the row")
    return found


def string(value: object, where: str, wanted: str) -> str:
    """A string; raises BadRow."""
    if not isinstance(value, str):
        raise BadRow(f"'{where}' must be {wanted}, not {kind_of(value)}")
    return value


def after_system(prompt: Iterable[Message], system: str) -> list[Message]:
    """The conversation after `system`, unless it has a system message."""
    turns = list(prompt)
    if turns[0]["role"] != "system":
        turns.insert(0, Message(role="system", content=system))
    return turns
