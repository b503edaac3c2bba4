"""The row formats: which keys hold the prompt, and how they become a conversation.

A row belongs to the first format below whose keys it has; a file has the format of most of its rows. The more
specific keys come first: `messages` and `prompt` hold a whole prompt; `task`, `input` and `question` are
common names of free extra keys too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rft_cli.config.suggest import as_word, closest
from rft_cli.data.json_line import kind_of
from rft_cli.types import Example, Message

Format = Literal["openai", "verl", "trl", "rft", "gsm8k"]
FORMATS: tuple[Format, ...] = get_args(Format)

_PROMPT_KEYS: dict[Format, tuple[str, ...]] = {
    "openai": ("messages",),
    "verl": ("prompt",),
    "trl": ("prompt",),
    "rft": ("task", "input"),
    "gsm8k": ("question",),
}
_ROLES = ("system", "developer", "user", "assistant", "tool")
_REFERENCE_KEYS = ("reference_answer", "ground_truth", "reference", "solution", "target", "label")


class BadRow(Exception):
    """A row that has no usable prompt: the reason, and what to do."""

    def __init__(self, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one row; `dropped_turn` says that the row's conversation ended with an assistant turn."""

    value: str | list[Message]
    dropped_turn: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """Canonical column name → the key which holds it in this file's rows."""

    renamed: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.renamed.get(name, name)

    def order(self) -> list[Format]:
        """The formats, first those whose prompt key the user named."""
        return sorted(
            FORMATS, key=lambda format: not any(key in self.renamed for key in _PROMPT_KEYS[format])
        )


def format_of(row: Mapping[str, Any], keys: Keys) -> Format | None:
    """The format that the row's keys speak for."""
    for format in keys.order():
        if any(keys[name] in row for name in _PROMPT_KEYS[format]) and (
            format != "verl" or _is_verl(row, keys)
        ):
            return format
    return None


def _is_verl(row: Mapping[str, Any], keys: Keys) -> bool:
    reward_model = row.get("reward_model")
    return (
        isinstance(row[keys["prompt"]], list)
        and isinstance(reward_model, dict)
        and "ground_truth" in reward_model
    )


def prompt_of(row: Mapping[str, Any], format: Format, keys: Keys) -> Prompt:
    """The row's prompt, read as `format`. Raises BadRow."""
    present = [name for name in _PROMPT_KEYS[format] if row.get(keys[name]) is not None]
    if not present:
        raise _no_prompt(row, format, keys)
    if format == "openai":
        return _conversation(row[keys["messages"]], keys["messages"], answered=True)
    if format == "verl":
        if not isinstance(row.get("reward_model"), dict) or "ground_truth" not in row["reward_model"]:
            raise BadRow(
                "no 'reward_model.ground_truth', which the verl format has", "add it, or set data.format: trl"
            )
        return _conversation(row[keys["prompt"]], keys["prompt"], answered=False)
    if format == "trl":
        value = row[keys["prompt"]]
        if isinstance(value, list):
            return _conversation(value, keys["prompt"], answered=False)
        return Prompt(_text(value, keys["prompt"], "text or a list of messages"))
    parts = [_string(row[keys[name]], keys[name], "text") for name in present]
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise BadRow(
            f"{_quoted(keys[name] for name in present)} {'is' if len(present) == 1 else 'are'} empty",
            "write the prompt, or remove the row",
        )
    return Prompt([Message(role="user", content=text)])


def _no_prompt(row: Mapping[str, Any], format: Format, keys: Keys) -> BadRow:
    wanted = [keys[name] for name in _PROMPT_KEYS[format]]
    null = [key for key in wanted if key in row]
    if null:
        return BadRow(f"{_quoted(null)} is null", "write the prompt, or remove the row")
    guess = _looks_like(row, wanted)
    return BadRow(
        f"no prompt: the {format} format takes it from {' or '.join(map(repr, wanted))}, "
        f"the row has {_keys_of(row)}{guess}",
        "rename the key, or name it with --set data.columns.NAME=KEY",
    )


def no_known_key(row: Mapping[str, Any]) -> BadRow:
    """The reason for a row which has the prompt key of no format."""
    known = sorted({name for names in _PROMPT_KEYS.values() for name in names})
    return BadRow(
        f"no prompt: the row has {_keys_of(row)}{_looks_like(row, known)}",
        "a prompt is in 'messages', 'prompt', 'task' and 'input', or 'question'; "
        "name your own key with --set data.columns.prompt=KEY",
    )


def _looks_like(row: Mapping[str, Any], wanted: Sequence[str]) -> str:
    """The row's key which is nearly a wanted one, as the end of a message."""
    pairs = ((key, closest(key, wanted)) for key in row)
    return next((f"; '{as_word(key)}' looks like '{name}'" for key, name in pairs if name), "")


def _conversation(value: object, key: str, *, answered: bool) -> Prompt:
    """A list of messages as a prompt. `answered`: a last assistant turn is the answer and is taken off."""
    if not isinstance(value, list):
        raise BadRow(f"'{key}' must be a list of messages, not {kind_of(value)}")
    if not value:
        raise BadRow(f"'{key}' is an empty list", "write the prompt, or remove the row")
    turns = [_message(item, f"{key}[{position}]") for position, item in enumerate(value)]
    dropped = False
    if turns[-1]["role"] == "assistant":
        if not answered:
            raise BadRow(f"'{key}' ends with an assistant turn", "end it with the user's turn")
        turns.pop()
        dropped = True
    if not any(turn["role"] == "user" for turn in turns):
        raise BadRow(f"'{key}' has no user message")
    if turns[-1]["role"] in ("assistant", "system"):
        raise BadRow(f"'{key}' must end with a user turn, not {turns[-1]['role']}")
    return Prompt(turns, dropped)


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise BadRow(f"{where} must be an object with role and content, not {kind_of(value)}")
    missing = [name for name in ("role", "content") if name not in value]
    if missing:
        fix = (
            "rename 'from' to 'role' and 'value' to 'content'"
            if "from" in value and "value" in value
            else None
        )
        raise BadRow(f"{where} has no {_quoted(missing)}: it has {_keys_of(value)}", fix)
    role = value["role"]
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRow(f"{where}.role must be one of {', '.join(_ROLES)}, not {_short(role)}")
    if value.get("tool_calls"):
        raise BadRow(f"{where} calls a tool: prompts with tool calls can't be used", "write the call as text")
    # OpenAI's newer name for the same turn; chat templates of open models know `system` alone.
    role = "system" if role == "developer" else role
    return Message(role=role, content=_content(value["content"], f"{where}.content", empty_ok=role != "user"))


def _content(value: object, where: str, *, empty_ok: bool) -> str:
    if isinstance(value, list):
        texts = [_part(part, f"{where}[{position}]") for position, part in enumerate(value)]
        value = "".join(texts)
    return _string(value, where, "text") if empty_ok else _text(value, where, "text")


def _part(value: object, where: str) -> str:
    """The text of one content part; images and sound have none."""
    if not isinstance(value, dict) or value.get("type", "text") not in ("text", "input_text"):
        raise BadRow(f"{where} is not text: models are trained on text alone")
    return _string(value.get("text"), f"{where}.text", "text")


def _text(value: object, where: str, wanted: str) -> str:
    text = _string(value, where, wanted)
    if not text.strip():
        raise BadRow(f"'{where}' is empty", "write the prompt, or remove the row")
    return text


def _string(value: object, where: str, wanted: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"'{where}' must be {wanted}, not {kind_of(value)}")
    return value


def with_system(prompt: str | Sequence[Message], system: str) -> list[Message]:
    """The prompt after `system`, unless it has a system message; a plain string becomes a user turn."""
    turns = [Message(role="user", content=prompt)] if isinstance(prompt, str) else list(prompt)
    if turns[0]["role"] != "system":
        turns.insert(0, Message(role="system", content=system))
    return turns


def reference_of(example: Example, columns: Mapping[str, str] | None = None) -> str | None:
    """The row's reference (what a right completion says) as text, or None if the row has none.

    Looked for in this order: `output`, `answer` (GSM8K: what follows `####`), `reward_model.ground_truth`,
    `reference_answer` and its kind, the assistant turn that ends `messages`. What is no string comes as JSON.
    """
    whole = solution_of(example, columns)
    return None if whole is None else whole.rpartition("####")[2].strip() if _ends_in_result(whole) else whole


def solution_of(example: Example, columns: Mapping[str, str] | None = None) -> str | None:
    """The reference as it was written, with the reasoning before `####`: shows how long completions get."""
    row, keys = example.fields, Keys(columns or {})
    reward_model = row.get("reward_model")
    candidates = [
        row.get(keys["output"]),
        row.get(keys["answer"]),
        reward_model.get("ground_truth") if isinstance(reward_model, dict) else None,
        *(row.get(key) for key in _REFERENCE_KEYS),
    ]
    found = next((value for value in candidates if value is not None), None)
    if found is not None:
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    messages = row.get(keys["messages"])
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return None
    try:
        return _content(last.get("content"), "content", empty_ok=True)
    except BadRow:  # `messages` is a free extra key of another format here
        return None


def _ends_in_result(text: str) -> bool:
    """Whether the last line is GSM8K's `#### result`."""
    return text.strip().rpartition("\n")[2].startswith("####")


def _keys_of(row: Mapping[str, Any]) -> str:
    if not row:
        return "no keys"
    names = [_short(key) for key in row]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"the {'key' if len(names) == 1 else 'keys'} {', '.join(names[:8])}{more}"


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
