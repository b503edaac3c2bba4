"""A GGUF file read back: its tokenizer as llama.cpp reads it, its weights as transformers does."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, TokenType
from tokenizers import AddedToken, Tokenizer, models, normalizers
from transformers import AutoConfig

from rft_cli.config.schema import ModelConfig
from rft_cli.runs.model_source import ModelSource
from rft_cli.training.export.gguf_file.pre_tokenizers import named, splitter
from rft_cli.training.export.gguf_file.vocabulary import (
    BYTE_LEVEL,
    NEVER_STRIPS,
    UNUSED_SCORE,
    Vocabulary,
    strips_after_tokens,
)
from rft_cli.training.models import load_model, place_of

SPACE = "▁"
"""How SentencePiece writes a space."""
HARD_TEXTS = (
    "3 apples, 12 pears and 1,234,567.89 more: 100%",
    "  two  spaces,\ttabs\t\tand\n\nempty lines \n \n end ",
    "I'll say it's HERS; DON'T you'd we've they're",
    "def f(x):\n    return {'a': x ** 2}  # naïve\r\n",
    "Größe, café, 東京 2024年, здравствуй, 👩‍💻🏳️‍🌈",
    "word word2 3word _under_score CamelCaseWord HTTPServer",
    "....!!!??? -- ---- <tag attr='v'/> https://example.org/a?b=c&d=e",
)
"""Texts on which ways to split differ."""
UNREAD = (
    "rope_parameters", "sliding_window", "layer_types", "attn_logit_softcapping", "final_logit_softcapping",
    "query_pre_attn_scalar", "use_sliding_window", "original_max_position_embeddings", "head_dim",
)  # fmt: skip
"""Settings that transformers does not read from GGUF files, or not from those of each architecture."""
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "rms_norm_eps",
)  # fmt: skip


class Fields:
    """The metadata of a GGUF file."""

    def __init__(self, file: Path) -> None:
        self._fields: Mapping[str, Any] = GGUFReader(file).fields

    def get(self, name: str, default: Any = None) -> Any:
        found = self._fields.get(name)
        return default if found is None else found.contents()


def tokenizer_of(fields: Fields) -> Tokenizer:
    """The tokenizer that llama.cpp makes of these fields; ValueError where the way to split has no name."""
    tokens, kinds = fields.get("tokenizer.ggml.tokens"), fields.get("tokenizer.ggml.token_type")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    byte_level = fields.get("tokenizer.ggml.model") == BYTE_LEVEL
    made = _byte_level(fields, vocabulary) if byte_level else _sentencepiece(fields, vocabulary)
    whole = (int(TokenType.CONTROL), int(TokenType.USER_DEFINED))
    strips = strips_after_tokens(fields.get("general.name"))
    made.add_tokens(
        [
            AddedToken(token, normalized=False, rstrip=strips and token not in NEVER_STRIPS)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in whole
        ]
    )
    return made


def _byte_level(fields: Fields, vocabulary: dict[str, int]) -> Tokenizer:
    known = named(fields.get("tokenizer.ggml.pre"))
    if known is None:
        raise ValueError(f"tokenizer.ggml.pre is {fields.get('tokenizer.ggml.pre')!r}")
    merges = [tuple(merge.split(" ", 1)) for merge in fields.get("tokenizer.ggml.merges")]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=known.ignore_merges))
    made.pre_tokenizer = splitter(known)
    return made


def _sentencepiece(fields: Fields, vocabulary: dict[str, int]) -> Tokenizer:
    """The two neighbours whose joined token has the highest score are merged first; spaces are ▁."""
    scores = fields.get("tokenizer.ggml.scores")
    unknown = fields.get("tokenizer.ggml.unknown_token_id")
    ranked = sorted(vocabulary, key=lambda token: -scores[vocabulary[token]])
    merges = [
        (token[:cut], token[cut:])
        for token in ranked
        if scores[vocabulary[token]] > UNUSED_SCORE
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    made = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=None if unknown is None else fields.get("tokenizer.ggml.tokens")[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    steps: list[Any] = [normalizers.Replace(" ", SPACE)]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend(SPACE))
    made.normalizer = normalizers.Sequence(steps)
    return made


def tokenizer_faults(file: Path, wanted: Vocabulary, original: Any, texts: Sequence[str]) -> list[str]:
    """What in the file's tokenizer is not as `wanted`, or gives other ids than `original` for `texts`."""
    fields = Fields(file)
    faults = []
    if fields.get("tokenizer.chat_template") != wanted.chat_template:
        faults.append("its chat template is not the model's")
    if fields.get("tokenizer.ggml.pre") != wanted.pre:
        faults.append(f"it splits text as {fields.get('tokenizer.ggml.pre')!r}, not as {wanted.pre!r}")
    ends = [fields.get("tokenizer.ggml.eos_token_id"), fields.get("tokenizer.ggml.eot_token_id")]
    if [end for end in ends if end is not None] != list(wanted.stop[:2]):
        faults.append(f"it ends completions at {ends}, not at {list(wanted.stop[:2])}")
    added = [fields.get(f"tokenizer.ggml.add_{which}_token", False) for which in ("bos", "eos")]
    if added != [wanted.adds_begin, wanted.adds_end]:
        faults.append("it adds other tokens at a prompt's ends")
    try:
        made = tokenizer_of(fields)
    except ValueError as error:
        return [*faults, str(error)]
    return faults + _other_ids(made, original, texts)


def _other_ids(made: Tokenizer, original: Any, texts: Sequence[str]) -> list[str]:
    """The first text with other ids than the model's own tokenizer gives, in words."""
    for text in texts:
        ids = made.encode(text, add_special_tokens=False).ids
        if ids != list(original.encode(text, add_special_tokens=False)):
            return [f"its tokenizer gives other ids for {text[:60]!r}"]
    return []


def read_model(file: Path, config: ModelConfig, original: Any) -> tuple[Any, list[str]]:
    """The file's model in float32, by transformers' own reader, and which of its sizes are not `original`'s.

    What that reader does not look for (the scaling of rotary frequencies, windows) is taken from `original`, the
    model's configuration.
    """
    source = ModelSource(str(file))
    # Its progress bar knows no switch.
    with contextlib.redirect_stderr(io.StringIO()):
        read = AutoConfig.from_pretrained(**place_of(source))
        faults = [
            f"its {name} is {getattr(read, name)}, not {getattr(original, name)}"
            for name in SIZES
            if not _same(getattr(read, name), getattr(original, name))
        ]
        for name in UNREAD:
            if hasattr(original, name):
                setattr(read, name, getattr(original, name))
        own = config.model_copy(update={"path": str(file), "revision": None})
        return load_model(source, own, torch.float32, read), faults


def _same(first: float, second: float) -> bool:
    """GGUF has numbers in float32."""
    return abs(first - second) <= 1e-6 * abs(second)
