"""A tokenizer as GGUF's fields: tokens, their types, merges or scores, special ids, chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gguf import GGUFWriter, TokenType

from rft_cli.errors import UsageError
from rft_cli.training.export.gguf_file.pre_tokenizers import known_as

BYTE_LEVEL = "gpt2"
SENTENCEPIECE = "llama"
UNUSED_SCORE = -1e6
PHI3 = ("phi-3", "phi3")
NEVER_STRIPS = ("<unk>", "<s>", "<|endoftext|>")
"""Tokens of Phi-3 after which white space stays."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer. `model`: BYTE_LEVEL (has merges) or SENTENCEPIECE (has scores).

    `stop`: the ids that end a completion, the tokenizer's own end first.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str]
    scores: Sequence[float]
    special: Mapping[str, int]
    stop: Sequence[int]
    adds_begin: bool
    adds_end: bool
    adds_space: bool
    chat_template: str | None


def vocabulary_of(tokenizer: Any, rows: int, stop: Sequence[int]) -> Vocabulary:
    """The fields for a tokenizer whose model has `rows` embeddings.

    Raises UsageError where llama.cpp has no tokenizer of its kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused("it has no tokenizer.json")
    inner = json.loads(backend.to_str())
    if inner["model"]["type"] != "BPE":
        raise _refused(f"its model is {inner['model']['type']}, not BPE")
    tokens, types = _tokens(inner, rows)
    if inner["model"].get("byte_fallback"):
        model, pre, space = SENTENCEPIECE, "default", _prefix_space(inner)
        merges: list[str] = []
        scores = _scores(inner["model"]["merges"], tokens)
    else:
        known = known_as(inner)
        if known is None:
            raise _refused("it splits text in a way that llama.cpp has no name for")
        if (inner.get("normalizer") or {"type": "NFC"})["type"] != "NFC":
            raise _refused(f"it changes text first ({inner['normalizer']['type']})")
        model, pre, space, scores = BYTE_LEVEL, known.name, False, []
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in inner["model"]["merges"]]
    added = tokenizer.encode("a")
    bare = tokenizer.encode("a", add_special_tokens=False)
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        # By name: the one that a conversation without tools gets.
        template = template.get("default")
    return Vocabulary(
        model=model,
        pre=pre,
        tokens=tokens,
        types=types,
        merges=merges,
        scores=scores,
        special=_special(tokenizer),
        stop=sorted(stop, key=lambda end: end != tokenizer.eos_token_id),
        adds_begin=added != bare and added[:1] == [tokenizer.bos_token_id],
        adds_end=added != bare and added[-1:] == [tokenizer.eos_token_id],
        adds_space=space,
        chat_template=template if isinstance(template, str) else None,
    )


def write_vocabulary(writer: GGUFWriter, found: Vocabulary) -> None:
    """Put the fields into a GGUF file."""
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(list(found.tokens))
    writer.add_token_types(list(found.types))
    if found.model == SENTENCEPIECE:
        writer.add_token_scores(list(found.scores))
        writer.add_add_space_prefix(found.adds_space)
    else:
        writer.add_token_merges(list(found.merges))
    adders = {"bos": writer.add_bos_token_id, "unk": writer.add_unk_token_id, "pad": writer.add_pad_token_id}
    for name, number in found.special.items():
        adders[name](number)
    writer.add_eos_token_id(found.stop[0])
    if found.stop[1:]:
        # llama.cpp ends at it too; a third one stands in the Modelfile and on the card alone.
        writer.add_eot_token_id(found.stop[1])
    writer.add_add_bos_token(found.adds_begin)
    writer.add_add_eos_token(found.adds_end)
    if found.chat_template is not None:
        writer.add_chat_template(found.chat_template)


def strips_after_tokens(name: str) -> bool:
    """Whether llama.cpp drops white space after special tokens: it knows Phi-3 by the model's name alone."""
    return any(word in name.lower() for word in PHI3)


def model_name(name: str, found: Vocabulary, architecture: str) -> str:
    """A name by which llama.cpp takes the model for a Phi-3 if it is one, and for none if not: it fails at once where
    Phi-3's tokens are missing."""
    if architecture == "phi3" and "</s>" in found.tokens:
        return name if strips_after_tokens(name) else f"Phi-3 {name}"
    return re.sub("phi-?3", "phi 3", name, flags=re.IGNORECASE)


def _tokens(inner: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Every id's token and type; a model may have more embeddings than its tokenizer has tokens."""
    vocabulary = {number: token for token, number in inner["model"]["vocab"].items()}
    added = {token["id"]: token for token in inner.get("added_tokens") or []}
    highest = max([*vocabulary, *added])
    if highest >= rows:
        raise _refused(f"it has {highest + 1} tokens, the model {rows}")
    unknown = inner["model"].get("unk_token")
    tokens, types = [], []
    for number in range(rows):
        if number in added:
            token = added[number]["content"]
            kind = TokenType.CONTROL if added[number]["special"] else TokenType.USER_DEFINED
        elif number in vocabulary:
            token, kind = vocabulary[number], TokenType.NORMAL
            if inner["model"].get("byte_fallback") and _is_byte(token):
                kind = TokenType.BYTE
        else:
            token, kind = f"[PAD{number}]", TokenType.UNUSED
        if token == unknown:
            kind = TokenType.UNKNOWN
        tokens.append(token)
        types.append(int(kind))
    return tokens, types


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _scores(merges: Sequence[Any], tokens: Sequence[str]) -> list[float]:
    """SentencePiece merges the pair whose joined token has the highest score: minus the rank of its first merge."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(first + second, rank)
    return [-float(ranks[token]) if token in ranks else UNUSED_SCORE for token in tokens]


def _prefix_space(inner: Mapping[str, Any]) -> bool:
    """Whether a text gets a space in front, by the normalizer or the pre-tokenizer."""
    text = json.dumps([inner.get("normalizer"), inner.get("pre_tokenizer")])
    return '"Prepend"' in text or '"prepend_scheme": "first"' in text or '"prepend_scheme": "always"' in text


def _special(tokenizer: Any) -> dict[str, int]:
    found = {
        "bos": tokenizer.bos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    return {name: int(number) for name, number in found.items() if number is not None}


def _refused(why: str) -> UsageError:
    return UsageError(
        f"llama.cpp has no tokenizer like this model's: {why}", "export whole weights with --format merged"
    )
