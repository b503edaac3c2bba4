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

from rft_cli.training.rollouts.backbone import backbone_of, replaced_forward
from rft_cli.training.rollouts.shared_prompts import can_share, distinct_prompts, states_before_each_token

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

    Args:
        model: what is called, in whatever wrapper it trains; `backbone` is the decoder inside it.
        share: prompts that several rows of a chunk have run once (`shared_prompts.py`).
    """
    labels = _labels(ids, attention, length)
    share = share and can_share(backbone)
    parts: list[Scores] = []
    taken: list[Tensor] = []

    def before_each_token(forward: Any, **inputs: Any) -> BaseModelOutputWithPast:
        taken.append(_states(backbone, forward, length, share, inputs))
        return BaseModelOutputWithPast(last_hidden_state=taken[-1])

    with replaced_forward(backbone, before_each_token):
        for start in range(0, len(ids), chunk):
            part = slice(start, start + chunk)
            with autocast():
                output = model(
                    input_ids=ids[part],
                    attention_mask=attention[part],
                    shift_labels=labels[part],
                    fused_lm_head=True,
                )
            parts.append(Scores(output.log_probs, output.entropy, taken.pop()))
    if len(parts) == 1:
        return parts[0]
    entropies = [p.entropy for p in parts if p.entropy is not None]
    return Scores(
        torch.cat([p.logps for p in parts]),
        torch.cat(entropies) if entropies else None,
        torch.cat([p.states for p in parts]),
    )


def _states(backbone: nn.Module, forward: Any, length: int, share: bool, inputs: dict[str, Any]) -> Tensor:
    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    prompt = ids.size(1) - length
    if share:
        distinct = distinct_prompts(ids[:, :prompt], attention[:, :prompt])
        if distinct.saves(prompt, length):
            return states_before_each_token(backbone, forward, ids, attention, length, distinct)
    whole: Tensor = forward(**inputs).last_hidden_state
    return whole[:, -length - 1 : -1]


def score_states(model: nn.Module, states: Tensor, ids: Tensor, attention: Tensor) -> Scores:
    """Scores from hidden states `(B, T, H)` that are there already: the head alone runs."""

    def there_already(_forward: Any, **_inputs: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=states)

    with replaced_forward(backbone_of(model), there_already):
        output: Any = model(
            input_ids=ids,
            attention_mask=attention,
            shift_labels=_labels(ids, attention, states.size(1)),
            fused_lm_head=True,
        )
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
