"""How a byte-level tokenizer splits text, and llama.cpp's name for it.

A GGUF file has no tokenizer.json: it names one of the ways to split text that llama.cpp has built in
(`tokenizer.ggml.pre`). The name is taken from what tokenizer.json does, never from the architecture: the same
architecture comes with several tokenizers. Read in llama.cpp's `src/llama-vocab.cpp`, build 11028.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, pre_tokenizers

GPT2_SPLIT = "gpt2"
"""The step that ByteLevel itself does with `use_regex`."""
DIGITS = r"\p{N}"

_SUFFIXES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_WITH_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _SUFFIXES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST
_QWEN2 = _SUFFIXES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST
_QWEN35 = (
    _SUFFIXES
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = f"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*" + r"|\p{N}|" + _REST_WITH_SLASH
_GPT4O = (
    f"{_BEFORE}{_UPPER}*{_LOWER}+{_SUFFIXES}?|{_BEFORE}{_UPPER}+{_LOWER}*{_SUFFIXES}?"
    + r"|\p{N}{1,3}|"
    + _REST_WITH_SLASH
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One of llama.cpp's ways to split: `steps` in turn, each a regular expression or GPT2_SPLIT.

    `ignore_merges`: a piece that is a token is taken whole, before any merge.
    """

    name: str
    steps: tuple[str, ...]
    ignore_merges: bool = False


KNOWN = (
    PreTokenizer("gpt-2", (GPT2_SPLIT,)),
    PreTokenizer("smollm", (DIGITS, GPT2_SPLIT)),
    PreTokenizer("llama-bpe", (_LLAMA3,), ignore_merges=True),
    PreTokenizer("dbrx", (_LLAMA3,)),
    PreTokenizer("qwen2", (_QWEN2,)),
    PreTokenizer("qwen35", (_QWEN35,)),
    PreTokenizer("tekken", (_TEKKEN,), ignore_merges=True),
    PreTokenizer("gpt-4o", (_GPT4O,)),
)


def known_as(tokenizer: Mapping[str, Any]) -> PreTokenizer | None:
    """What llama.cpp has for a tokenizer.json; None where it splits in another way."""
    steps = _steps(tokenizer.get("pre_tokenizer") or {})
    ignores = bool(tokenizer["model"].get("ignore_merges"))
    for known in KNOWN:
        if known.steps == steps and known.ignore_merges == ignores:
            return known
    return None


def named(name: str) -> PreTokenizer | None:
    """The way to split that has this name."""
    return next((known for known in KNOWN if known.name == name), None)


def splitter(known: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """The same in the tokenizers library."""
    steps = [pre_tokenizers.Split(Regex(step), "isolated") for step in known.steps if step != GPT2_SPLIT]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=GPT2_SPLIT in known.steps)
    return pre_tokenizers.Sequence([*steps, last])


def _steps(pre_tokenizer: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps of one entry of tokenizer.json; one that llama.cpp can't have for what it has no word for."""
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": list(parts)}:
            return tuple(step for part in parts for step in _steps(part))
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(splits)}:
            return (GPT2_SPLIT,) if splits else ()
        case {"type": "Digits", "individual_digits": True}:
            return (DIGITS,)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return (regex,)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Removed", "invert": True}:
            return (regex,)
        case _:
            return (str(pre_tokenizer),)
