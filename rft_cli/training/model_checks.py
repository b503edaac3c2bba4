"""Refuses models that can't be trained: by architecture, by token ids without an embedding, by their first errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.training.distributed.channel import Cause, cause_of
from rft_cli.types import Example

FIX = "take a decoder that continues text: docs/models.md lists the architectures that were tried"
_OURS = Path(__file__).resolve().parents[1]
MODEL_ERRORS = (
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a model's own code raises where it can't do what is asked of it."""


def check_architecture(model: str, config: Any) -> None:
    """UsageError where the architecture is not that of a causal language model."""
    kind = f"model {model!r} ({config.model_type})"
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(f"{kind} is an encoder-decoder; rft trains causal language models", FIX)
    remote = getattr(config, "auto_map", None) or {}
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in remote
    decodes = causal and getattr(config, "is_decoder", None) is not False
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not decodes:
        raise UsageError(f"{kind} is an encoder: it fills gaps in a text and does not continue one", FIX)
    if not causal:
        what = "a multimodal model" if hasattr(config, "vision_config") else "a model of another kind"
        raise UsageError(f"{kind} is {what}: transformers has no causal language model for it", FIX)


def check_token_ids(
    model: str,
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Sequence[int]],
    what_holds: str = "prompt",
) -> None:
    """UsageError where padding or a prompt has token ids that the model has no embedding for.

    `what_holds`: what messages call the texts that `prompts` are the tokens of.
    """
    size = getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(size, int):
        return
    fix = "give the tokenizer that the model was trained with, or a model whose embeddings were resized to it"
    for what, token in (("pads with", tokenizer.pad_token_id), ("ends a text with", tokenizer.eos_token_id)):
        if token is not None and token >= size:
            raise UsageError(
                f"{_small(model, size)}, and its tokenizer {what} {_named(tokenizer, token)}", fix
            )
    beyond = [(e, max(ids)) for e, ids in zip(examples, prompts, strict=True) if max(ids, default=0) >= size]
    if beyond:
        example, token = beyond[0]
        more = f" (and {counted(len(beyond) - 1, 'more row')})" if len(beyond) > 1 else ""
        said = f"{example.source}{more}: the {what_holds} holds {_named(tokenizer, token)}; {_small(model, size)}"
        raise UsageError(said, fix)


def _small(model: str, size: int) -> str:
    return f"model {model!r} has embeddings for {size} tokens"


def _named(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    return f"token {token} ({tokenizer.convert_ids_to_tokens(token)!r})"


@contextmanager
def first_use(model: Any, run: Run, resumed: bool) -> Iterator[None]:
    """Raise UsageError that names the model where a library fails on it before the run's first step.

    Libraries assume much of an architecture, and their errors where that does not hold mean nothing to a user. Errors
    of the device, of the group of processes and of rft's own code pass unchanged.
    """
    try:
        yield
    except MODEL_ERRORS as error:
        if resumed or any(True for _ in run.metrics()) or _not_of_the_model(error):
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = f"{type(model).__name__} ({model.config.model_type})"
        raise UsageError(f"{kind} can't be trained here: {type(error).__name__}: {said}", FIX) from error


def _not_of_the_model(error: Exception) -> bool:
    """Whether the error is of memory, a GPU's driver, the group of processes, or raised by a line of this package."""
    if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError | dist.DistError):
        return True
    if str(error).startswith(("CUDA error", "NCCL")) or cause_of(error) is not Cause.OWN:
        return True
    frames = extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(_OURS)
