"""The row formats: which keys hold the prompt, and how they become a conversation.

A row belongs to the first format below whose keys it has; a file has the format of most of its rows. The more
specific keys come first: `messages`, `conversations` and `prompt` hold a whole prompt; `task`, `input` and `question`
are common names of free extra keys too. `chosen` is last: beside a prompt it is the reference.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from rft_cli.config.keys import COLUMN_NAMES
from rft_cli.config.suggest import as_word, closest
from rft_cli.data.bad_row import BadRow, keys_of, quoted
from rft_cli.data.json_line import kind_of
from rft_cli.data.messages import Remark, after_system, are_messages, conversation, listed, string, text
from rft_cli.types import Message

Format = Literal["openai", "sharegpt", "verl", "trl", "alpaca", "rft", "gsm8k", "qa", "preference"]
FORMATS: tuple[Format, ...] = get_args(Format)

_PROMPT_KEYS: dict[Format, tuple[str, ...]] = {
    "openai": ("messages",),
    "sharegpt": ("conversations", "conversation", "contents"),
    "verl": ("prompt",),
    "trl": ("prompt",),
    "alpaca": ("instruction",),
    "rft": ("task", "input"),
    "gsm8k": ("question",),
    "qa": ("problem", "query"),
    "preference": ("chosen",),
}
_CONVERSATIONS: tuple[Format, ...] = ("openai", "sharegpt", "preference")
"""Formats whose prompt is a conversation that may end with the answer."""
_BESIDE: dict[Format, tuple[str, ...]] = {
    "alpaca": ("input", "context"),
    "gsm8k": ("context",),
    "qa": ("context",),
}
"""Keys whose text follows that of the prompt key, the first of them that has any."""
_AS_JSON = frozenset(("input", "context"))
"""Keys whose value may be something else than text: it is put into the prompt as JSON."""
_SYSTEM_KEYS = ("system", "system_prompt", "systemInstruction")
"""Where a row may have its system message, if not among its messages. Not in rft's own format."""
_NOT_TEXT = frozenset(("image", "images", "audio", "audios", "video", "videos"))
"""Keys of what models trained on text can't read."""
_ASKING = frozenset(
    (
        *("instruction", "task", "input", "question", "problem", "query"),
        *("context", "passage", "choices", "options", "history", *_SYSTEM_KEYS),
    )
)
"""Keys that often hold a part of the prompt: a remark names those that are not in it."""
_LEFT: dict[Format, frozenset[str]] = {
    format: _ASKING.difference(names, _BESIDE.get(format, ())[:1]) for format, names in _PROMPT_KEYS.items()
}
"""Those of them that a format does not put into the prompt in any case."""


class Keys:
    """Canonical column name → the key which holds it in this file's rows."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self.renamed = renamed
        # Once a file, not once a row: the formats, first those whose prompt key the user named, each with its keys.
        order = sorted(FORMATS, key=lambda format: not any(key in renamed for key in _PROMPT_KEYS[format]))
        self.order = [(format, frozenset(self[name] for name in _PROMPT_KEYS[format])) for format in order]

    def __getitem__(self, name: str) -> str:
        return self.renamed.get(name, name)


def format_of(row: Mapping[str, Any], keys: Keys) -> Format | None:
    """The format that the row's keys speak for."""
    for format, names in keys.order:
        if not names.isdisjoint(row) and (format != "verl" or _is_verl(row, keys)):
            return format
    return None


def two_formats(row: Mapping[str, Any], format: Format, keys: Keys) -> str | None:
    """The two formats that the row fits, in words; None if it fits one."""
    if keys.renamed:
        return None
    if format == "trl" and {"input", "output"} <= row.keys():
        return "trl ('prompt') and rft ('input', 'output')"
    if format == "trl" and isinstance(row.get("instruction"), str):
        return "trl ('prompt') and alpaca ('instruction')"
    if format == "alpaca" and isinstance(row.get("task"), str):
        return "alpaca ('instruction') and rft ('task')"
    return None


def _is_verl(row: Mapping[str, Any], keys: Keys) -> bool:
    reward_model = row.get("reward_model")
    return (
        isinstance(row[keys["prompt"]], list)
        and isinstance(reward_model, dict)
        and "ground_truth" in reward_model
    )


def prompt_of(row: Mapping[str, Any], format: Format, keys: Keys, remark: Remark) -> str | list[Message]:
    """The row's prompt, read as `format`. Raises BadRow; `remark` gets what is ignored or changed."""
    present = [name for name in _PROMPT_KEYS[format] if row.get(keys[name]) is not None]
    if not present:
        raise _no_prompt(row, format, keys)
    if not _NOT_TEXT.isdisjoint(row):
        _tell_not_text(row, remark)
    key = keys[present[0]]
    if format in _CONVERSATIONS:
        turns = conversation(row[key], key, remark, answered=True)
        return _with_own_system(turns, row, keys, remark)
    if format == "verl":
        if not isinstance(row.get("reward_model"), dict) or "ground_truth" not in row["reward_model"]:
            raise BadRow(
                "no 'reward_model.ground_truth', which the verl format has", "add it, or set data.format: trl"
            )
        return _with_own_system(conversation(row[key], key, remark, answered=False), row, keys, remark)
    if format == "trl":
        return _trl(row, key, keys, remark)
    user = Message(role="user", content=_joined(row, [keys[name] for name in present], format, keys, remark))
    turns = [*_history(row, remark), user] if format == "alpaca" else [user]
    if format != "rft":
        turns = _with_own_system(turns, row, keys, remark)
    if not _LEFT[format].isdisjoint(row):
        _tell_left_out(row, format, turns, remark)
    return turns


def _trl(row: Mapping[str, Any], key: str, keys: Keys, remark: Remark) -> str | list[Message]:
    value = row[key]
    if isinstance(value, list) or (isinstance(value, str) and are_messages(listed(value))):
        return _with_own_system(conversation(value, key, remark, answered=False), row, keys, remark)
    found = text(value, key, "text or a list of messages")
    if not _LEFT["trl"].isdisjoint(row):
        _tell_left_out(row, "trl", [Message(role="user", content=found)], remark)
    return found


def _joined(
    row: Mapping[str, Any], present: Sequence[str], format: Format, keys: Keys, remark: Remark
) -> str:
    """The texts of the keys that hold the prompt, a blank line between them."""
    parts = [_as_text(row[key], key, keys, remark) for key in present]
    found = "\n\n".join(part for part in parts if part.strip())
    if not found:
        raise BadRow(
            f"{quoted(present)} {'is' if len(present) == 1 else 'are'} empty",
            "write the prompt, or remove the row",
        )
    for name in _BESIDE.get(format, ()):
        beside = row.get(keys[name])
        beside = _as_text(beside, keys[name], keys, remark) if beside not in (None, [], {}) else ""
        if beside.strip():
            if format != "alpaca":
                remark(f"'{keys[name]}' is in the prompt, after the question")
            return f"{found}\n\n{beside}"
    return found


def _as_text(value: object, key: str, keys: Keys, remark: Remark) -> str:
    """A text, or what stands where more than a text may, as JSON. Raises BadRow."""
    if isinstance(value, str) or not any(key == keys[name] for name in _AS_JSON):
        return string(value, key, "text")
    remark(f"'{key}' is {kind_of(value)}: it is in the prompt as JSON")
    return json.dumps(value, ensure_ascii=False)


def _history(row: Mapping[str, Any], remark: Remark) -> list[Message]:
    """The turns before an Alpaca row's instruction: pairs of what was asked and answered."""
    history = row.get("history")
    if not history:
        return []
    turns = []
    for pair in history if isinstance(history, list) else [history]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(said, str) for said in pair)):
            raise BadRow("'history' must be a list of pairs: what was asked, what was answered")
        turns += [Message(role="user", content=pair[0]), Message(role="assistant", content=pair[1])]
    remark("'history' is read as the turns before the instruction")
    return turns


def _with_own_system(
    turns: list[Message], row: Mapping[str, Any], keys: Keys, remark: Remark
) -> list[Message]:
    for name in _SYSTEM_KEYS:
        said = _system_text(row.get(keys[name]))
        if said.strip():
            if turns[0]["role"] != "system":
                remark(f"'{keys[name]}' is read as the system message")
            elif turns[0]["content"].strip() != said.strip():
                remark(f"'{keys[name]}' is not in the prompt, which has a system message of its own")
            return after_system(turns, said)
    return turns


def _system_text(value: object) -> str:
    """The text of a system message: a string, or the parts of Gemini's and Bedrock's rows; else none."""
    if isinstance(value, dict):
        value = value.get("parts")
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        value = "".join(part["text"] for part in value if isinstance(part.get("text"), str))
    return value if isinstance(value, str) else ""


def _tell_not_text(row: Mapping[str, Any], remark: Remark) -> None:
    for key in row.keys() & _NOT_TEXT:
        if row[key]:
            remark(f"'{key}' is not in the prompt: models are trained on text alone")


def _tell_left_out(row: Mapping[str, Any], format: Format, turns: Sequence[Message], remark: Remark) -> None:
    """Say which keys seem to belong to the prompt and are not in it."""
    for key in row.keys() & _LEFT[format]:
        value = row[key]
        if not value or not isinstance(value, str | list | dict) or (key == "history" and len(turns) > 2):
            continue
        if isinstance(value, str) and any(value.strip() in turn["content"] for turn in turns):
            continue
        remark(f"'{key}' is not in the prompt (the grader still sees it)")


def _no_prompt(row: Mapping[str, Any], format: Format, keys: Keys) -> BadRow:
    wanted = [keys[name] for name in _PROMPT_KEYS[format]]
    null = [key for key in wanted if key in row]
    if null:
        return BadRow(f"{quoted(null)} is null", "write the prompt, or remove the row")
    other = format_of(row, keys)
    guess = _looks_like(row, wanted)
    said = (
        f"no prompt: the {format} format takes it from {' or '.join(map(repr, wanted))}, "
        f"the row has {keys_of(row)}{_said(guess)}"
    )
    if other is not None and other != format:
        return BadRow(said, f"put rows of the {other} format into a file of their own: several may be given")
    return BadRow(said, _renaming(guess) or "rename the key, or name it with --set data.columns.NAME=KEY")


def no_known_key(row: Mapping[str, Any]) -> BadRow:
    """The error for a row without any format's prompt key."""
    known = sorted({name for names in _PROMPT_KEYS.values() for name in names})
    guess = _looks_like(row, known)
    return BadRow(
        f"no prompt: the row has {keys_of(row)}{_said(guess)}",
        _renaming(guess)
        or f"name the key of the prompt: --set data.columns.prompt=KEY; known ones are {', '.join(map(repr, known))}",
    )


def _looks_like(row: Mapping[str, Any], wanted: Sequence[str]) -> tuple[str, str] | None:
    """The row's key that is nearly a wanted one, and that one."""
    pairs = ((key, closest(key, wanted, 0.7)) for key in row)
    return next(((key, name) for key, name in pairs if name), None)


def _said(guess: tuple[str, str] | None) -> str:
    return "" if guess is None else f"; '{as_word(guess[0])}' looks like '{guess[1]}'"


def _renaming(guess: tuple[str, str] | None) -> str | None:
    """What reads the key as the one that it looks like."""
    if guess is None or guess[1] not in COLUMN_NAMES:
        return None
    return f"rename it, or: --set {shlex.quote(f'data.columns.{guess[1]}={as_word(guess[0])}')}"
