"""The row formats: which keys hold the prompt, and how they become a conversation.

A row belongs to the first format below whose keys it has; a file has the format of most of its rows. The more
specific keys come first: `messages`, `conversations` and `prompt` hold a whole prompt; `task`, `input` and `question`
are common names of free extra keys too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from rft_cli.config.suggest import as_word, closest
from rft_cli.data.bad_row import BadRow, keys_of, quoted
from rft_cli.data.messages import Remark, after_system, are_messages, conversation, listed, string, text
from rft_cli.types import Message

Format = Literal["openai", "sharegpt", "verl", "trl", "alpaca", "rft", "gsm8k", "qa"]
FORMATS: tuple[Format, ...] = get_args(Format)

_PROMPT_KEYS: dict[Format, tuple[str, ...]] = {
    "openai": ("messages",),
    "sharegpt": ("conversations", "conversation"),
    "verl": ("prompt",),
    "trl": ("prompt",),
    "alpaca": ("instruction",),
    "rft": ("task", "input"),
    "gsm8k": ("question",),
    "qa": ("problem", "query"),
}
_BESIDE: dict[Format, tuple[str, ...]] = {
    "alpaca": ("input", "context"),
    "gsm8k": ("context",),
    "qa": ("context",),
}
"""Keys whose text follows that of the prompt key, the first of them that has any."""
_SYSTEM_KEYS = ("system", "system_prompt")
_HAVE_SYSTEM: tuple[Format, ...] = ("sharegpt", "alpaca", "gsm8k", "qa")
"""Formats whose rows may have their system message under a key of its own."""
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
    key = keys[present[0]]
    if format in ("openai", "sharegpt"):
        turns = conversation(row[key], key, remark, answered=True)
        return _with_own_system(turns, row, format, keys, remark)
    if format == "verl":
        if not isinstance(row.get("reward_model"), dict) or "ground_truth" not in row["reward_model"]:
            raise BadRow(
                "no 'reward_model.ground_truth', which the verl format has", "add it, or set data.format: trl"
            )
        return conversation(row[key], key, remark, answered=False)
    if format == "trl":
        return _trl(row, key, remark)
    user = Message(role="user", content=_joined(row, [keys[name] for name in present], format, keys, remark))
    turns = [*_history(row, remark), user] if format == "alpaca" else [user]
    turns = _with_own_system(turns, row, format, keys, remark)
    if not _LEFT[format].isdisjoint(row):
        _tell_left_out(row, format, turns, remark)
    return turns


def _trl(row: Mapping[str, Any], key: str, remark: Remark) -> str | list[Message]:
    value = row[key]
    if isinstance(value, list) or (isinstance(value, str) and are_messages(listed(value))):
        return conversation(value, key, remark, answered=False)
    found = text(value, key, "text or a list of messages")
    if not _LEFT["trl"].isdisjoint(row):
        _tell_left_out(row, "trl", [Message(role="user", content=found)], remark)
    return found


def _joined(
    row: Mapping[str, Any], present: Sequence[str], format: Format, keys: Keys, remark: Remark
) -> str:
    """The texts of the keys that hold the prompt, a blank line between them."""
    parts = [string(row[key], key, "text") for key in present]
    found = "\n\n".join(part for part in parts if part.strip())
    if not found:
        raise BadRow(
            f"{quoted(present)} {'is' if len(present) == 1 else 'are'} empty",
            "write the prompt, or remove the row",
        )
    for name in _BESIDE.get(format, ()):
        beside = row.get(keys[name])
        if name == "input" and beside is not None:
            string(beside, keys[name], "text")
        if isinstance(beside, str) and beside.strip():
            if format != "alpaca":
                remark(f"'{keys[name]}' is in the prompt, after the question")
            return f"{found}\n\n{beside}"
    return found


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
    turns: list[Message], row: Mapping[str, Any], format: Format, keys: Keys, remark: Remark
) -> list[Message]:
    if format not in _HAVE_SYSTEM:
        return turns
    for name in _SYSTEM_KEYS:
        said = row.get(keys[name])
        if isinstance(said, str) and said.strip():
            if turns[0]["role"] != "system":
                remark(f"'{keys[name]}' is read as the system message")
            return after_system(turns, said)
    return turns


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
    guess = _looks_like(row, wanted)
    return BadRow(
        f"no prompt: the {format} format takes it from {' or '.join(map(repr, wanted))}, "
        f"the row has {keys_of(row)}{guess}",
        "rename the key, or name it with --set data.columns.NAME=KEY",
    )


def no_known_key(row: Mapping[str, Any]) -> BadRow:
    """The error for a row without any format's prompt key."""
    known = sorted({name for names in _PROMPT_KEYS.values() for name in names})
    return BadRow(
        f"no prompt: the row has {keys_of(row)}{_looks_like(row, known)}",
        f"a prompt is in {', '.join(map(repr, known))}; name your own key with --set data.columns.prompt=KEY",
    )


def _looks_like(row: Mapping[str, Any], wanted: Sequence[str]) -> str:
    """The end of a message: the row's key that is nearly a wanted one."""
    pairs = ((key, closest(key, wanted)) for key in row)
    return next((f"; '{as_word(key)}' looks like '{name}'" for key, name in pairs if name), "")
