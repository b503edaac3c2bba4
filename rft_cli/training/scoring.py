"""Log-probabilities of completions, and the hidden states they come from: only the positions that are asked for.

TRL's fused language-model head (`add_fused_lm_head`) projects tile by tile, so no tensor has the size of the
vocabulary. Off the GPU it projects prompts and padding too, so the backbone's output is cut to the states from which
completion tokens are predicted before the head sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from rft_cli.training.backbone import backbone_of

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
    model: nn.Module, ids: Tensor, attention: Tensor, length: int, chunk: int, autocast: Autocast
) -> Scores:
    """Forward passes over `ids` `(B, P+T)`, `chunk` rows at a time; the last `length` tokens are scored."""
    labels = _labels(ids, attention, length)
    parts: list[Scores] = []
    with _before_each_token(model, length) as states:
        for rows in torch.arange(len(ids)).split(chunk):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            with autocast():
                output = model(
                    input_ids=ids[part],
                    attention_mask=attention[part],
                    shift_labels=labels[part],
                    fused_lm_head=True,
                )
            parts.append(Scores(output.log_probs, output.entropy, states.pop()))
    if len(parts) == 1:
        return parts[0]
    entropies = [p.entropy for p in parts if p.entropy is not None]
    return Scores(
        torch.cat([p.logps for p in parts]),
        torch.cat(entropies) if entropies else None,
        torch.cat([p.states for p in parts]),
    )


def score_states(model: nn.Module, states: Tensor, ids: Tensor, attention: Tensor) -> Scores:
    """The same from hidden states `(B, T, H)` that are there already: the head alone runs."""
    length = states.size(1)
    backbone: Any = backbone_of(model)
    answered = BaseModelOutputWithPast(last_hidden_state=states)
    forward = backbone.__dict__.get("forward")
    backbone.forward = lambda *_args, **_kwargs: answered
    try:
        output: Any = model(
            input_ids=ids,
            attention_mask=attention,
            shift_labels=_labels(ids, attention, length),
            fused_lm_head=True,
        )
    finally:
        if forward is None:
            del backbone.forward
        else:
            backbone.forward = forward
    return Scores(output.log_probs, output.entropy, states)


@contextmanager
def sampled_states(model: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list that takes, from each forward pass while open, the states `(B, H)` of the newest token."""
    taken: list[Tensor] = []

    def newest(_module: nn.Module, _args: Any, output: Any) -> None:
        taken.append(output.last_hidden_state[:, -1])

    handle = backbone_of(model).register_forward_hook(newest)
    try:
        yield taken
    finally:
        handle.remove()


def _labels(ids: Tensor, attention: Tensor, length: int) -> Tensor:
    return ids[:, -length:].masked_fill(attention[:, -length:] == 0, -100)


@contextmanager
def _before_each_token(model: nn.Module, length: int) -> Iterator[list[Tensor]]:
    """Cuts what the backbone returns to the states before each of the last `length` tokens; yields them a pass."""
    taken: list[Tensor] = []

    def cut(_module: nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, -length - 1 : -1]
        taken.append(output.last_hidden_state)
        return output

    handle = backbone_of(model).register_forward_hook(cut)
    try:
        yield taken
    finally:
        handle.remove()
