"""Log-probabilities of completions and the hidden states that predict them, at the completions' positions alone.

TRL's fused language-model head (`add_fused_lm_head`) projects tile by tile, so no tensor has the size of the
vocabulary. Off the GPU it projects prompts and padding too, so the backbone's output is cut to the states from which
completion tokens are predicted before the head reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutputWithPast

from rft_cli.training.rollouts.backbone import positions, replaced_forward
from rft_cli.training.rollouts.shared_prompts import distinct_prompts, states_before_each_token

Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Scores:
    """Of `B` completions of `T` tokens, at the temperature that the head was added with.

    `logps`, `entropy`: `(B, T)`, zero where the attention mask is; `states`: the last hidden states from which each
    token is predicted, `(B, T, H)`.
    """

    logps: Tensor
    entropy: Tensor | None
    states: Tensor


def score(
    model: nn.Module,
    backbone: nn.Module,
    ids: Tensor,
    attention: Tensor,
    length: int,
    chunk: int,
    autocast: Autocast,
    share: bool = False,
) -> Scores:
    """Forward passes over `ids` `(B, P+T)`, `chunk` rows at a time; the last `length` tokens are scored.

    Each chunk is trimmed to its own longest prompt and completion: padding is not computed.

    Args:
        model: what is called, in whatever wrapper it trains; `backbone` is the decoder inside it.
        share: prompts that several rows of a chunk have run once (`shared_prompts.py`).
    """
    parts = [
        _score_chunk(model, backbone, *rows, length, autocast, share)
        for rows in zip(ids.split(chunk), attention.split(chunk), strict=True)
    ]
    if len(parts) == 1:
        return parts[0]
    return Scores(
        torch.cat([p.logps for p in parts]),
        None if parts[0].entropy is None else torch.cat([p.entropy for p in parts if p.entropy is not None]),
        torch.cat([p.states for p in parts]),
    )


def _score_chunk(
    model: nn.Module,
    backbone: nn.Module,
    ids: Tensor,
    attention: Tensor,
    length: int,
    autocast: Autocast,
    share: bool,
) -> Scores:
    first, last = _used_columns(attention, length)
    missing = ids.size(1) - last
    length -= missing
    ids, attention = ids[:, first:last], attention[:, first:last]
    taken: list[Tensor] = []
    scored = attention[:, -length:] != 0

    def before_each_token(forward: Any, **inputs: Any) -> BaseModelOutputWithPast:
        taken.append(_states(backbone, forward, length, share, inputs))
        # The head runs on the tokens that count alone: with a large vocabulary it is much of the work.
        return BaseModelOutputWithPast(last_hidden_state=taken[-1][scored].unsqueeze(0))

    with replaced_forward(backbone, before_each_token), autocast():
        output = model(
            input_ids=ids,
            attention_mask=attention,
            **positions(backbone, attention),
            shift_labels=ids[:, -length:][scored].unsqueeze(0),
            fused_lm_head=True,
        )

    def placed(values: Tensor) -> Tensor:
        return pad(values.new_zeros(scored.shape).masked_scatter(scored, values), (0, missing))

    return Scores(
        placed(output.log_probs),
        None if output.entropy is None else placed(output.entropy),
        pad(taken[0], (0, 0, 0, missing)),
    )


def _used_columns(attention: Tensor, length: int) -> tuple[int, int]:
    """The columns `[first, last)` that any row uses: at least one of the prompt, and one of the completion."""
    prompt = attention.size(1) - length
    used = attention.any(dim=0).nonzero().squeeze(1).tolist()
    return min([*used[:1], prompt - 1]), max([*used[-1:], prompt]) + 1


def _states(backbone: nn.Module, forward: Any, length: int, share: bool, inputs: dict[str, Any]) -> Tensor:
    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    prompt = ids.size(1) - length
    if share:
        distinct = distinct_prompts(ids[:, :prompt], attention[:, :prompt])
        if distinct.saves(prompt, length):
            return states_before_each_token(backbone, forward, ids, attention, length, distinct)
    whole: Tensor = forward(**inputs).last_hidden_state
    return whole[:, -length - 1 : -1]
