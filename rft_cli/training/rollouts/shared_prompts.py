"""Prompts that several completions share run through the model once.

A rollout batch holds each prompt `group_size` times. Its keys and values are computed for one row and given to all rows
of the group, in sampling and in scoring, with gradients through them: the result is the same to rounding, for
U·P + B·T tokens instead of B·(P + T). Completions of similar length are scored together: few tokens are padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import DynamicCache

from rft_cli.training.rollouts.backbone import backbone_of, positions, replaced_forward

SHORT = 16
WORTH = 0.9
"""Share of the tokens above which splitting a pass in two costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Distinct:
    """`rows` `(U,)`: one row for each distinct prompt; `where` `(B,)`: which of them a row has."""

    rows: Tensor
    where: Tensor

    def saves(self, prompt: int, completion: int) -> bool:
        """Whether running prompts once is worth it, for lengths in tokens."""
        rows = self.where.numel()
        return self.rows.numel() * prompt + rows * completion <= WORTH * rows * (prompt + completion)


def distinct_prompts(ids: Tensor, attention: Tensor) -> Distinct:
    """Group rows of left-padded prompts `(B, P)` that are equal."""
    _, where = torch.unique(torch.cat([ids, attention.to(ids.dtype)], dim=1), dim=0, return_inverse=True)
    rows = where.new_zeros(int(where.max()) + 1)
    rows[where] = torch.arange(where.numel(), device=where.device)
    return Distinct(rows, where)


@torch.no_grad()
def splitting_is_exact(model: Any, device: torch.device) -> bool:
    """Whether this model gives the same states in two passes as in one, tried on a few tokens.

    Caches differ by architecture: one whose state can't be handed from row to row fails here, and is not split.
    """
    backbone: Any = backbone_of(model)
    # Spread over the vocabulary: rare tokens next to each other round badly in 16 bits.
    ids = (
        torch.arange(1, 1 + 4 * 10, device=device).view(4, 10) * 7919
    ) % model.config.get_text_config().vocab_size
    ids[2:, :6] = ids[0, :6]
    attention = torch.ones_like(ids)
    attention[[0, 2, 3], :2] = 0
    was_training = model.training
    model.eval()
    try:
        places = positions(backbone, attention)
        output = backbone(input_ids=ids, attention_mask=attention, use_cache=False, **places)
        whole = output.last_hidden_state[:, 5:-1]
        distinct = distinct_prompts(ids[:, :6], attention[:, :6])
        split = states_before_each_token(backbone, backbone, ids, attention, 4, distinct)
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(was_training)
    tolerance = 1e-3 if whole.dtype == torch.float32 else 5e-2
    return bool((whole - split).abs().max() <= tolerance * whole.abs().max())


def states_before_each_token(
    backbone: Any, forward: Any, ids: Tensor, attention: Tensor, length: int, distinct: Distinct
) -> Tensor:
    """Last hidden states from which each of the last `length` tokens is predicted, `(B, T, H)`.

    Args:
        forward: the backbone's own forward; ids, attention: `(B, P+T)`.
        distinct: of the prompts `(B, P)`.
    """
    prompt = ids.size(1) - length
    places = positions(backbone, attention)
    before = {name: value[:, :prompt][distinct.rows] for name, value in places.items()}
    first, cache = run_prompts(backbone, forward, ids[:, :prompt], attention[:, :prompt], distinct, **before)
    last: Tensor = first.last_hidden_state[distinct.where, -1:]
    order, parts = [], []
    for rows, longest in by_length(attention[:, prompt:].sum(dim=1)):
        # The last token is predicted from this position.
        end = prompt + longest - 1
        order.append(rows)
        if end == prompt:
            parts.append(last.new_zeros(len(rows), length - 1, last.size(-1)))
            continue
        rest = forward(
            input_ids=ids[rows, prompt:end],
            attention_mask=attention[rows, :end],
            past_key_values=cache_of_rows(cache, distinct.where[rows]),
            use_cache=True,
            **{name: value[rows, prompt:end] for name, value in places.items()},
        )
        parts.append(pad(rest.last_hidden_state, (0, 0, 0, length - longest)))
    return torch.cat([last, torch.cat(parts)[torch.cat(order).argsort()]], dim=1)


def by_length(lengths: Tensor) -> list[tuple[Tensor, int]]:
    """Rows `(B,)` of similar length together, and the longest of each part: padding is at most half of it.

    Lengths halve from part to part down to SHORT tokens, below which a pass of its own costs more than it saves.
    """
    parts, above = [], int(lengths.max())
    while above >= 1:
        below = above // 2 if above > SHORT else 0
        rows = ((lengths <= above) & (lengths > below)).nonzero().squeeze(1)
        if len(rows):
            parts.append((rows, int(lengths[rows].max())))
        above = below
    empty = (lengths < 1).nonzero().squeeze(1)
    return [*parts, (empty, 1)] if len(empty) else parts


def cache_of_rows(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """A cache of these rows of `cache`, which stays as it is."""
    own = copy(cache)
    own.layers = [copy(layer) for layer in cache.layers]
    own.batch_select_indices(rows)
    return own


@contextmanager
def prompts_sampled_once(model: nn.Module) -> Iterator[None]:
    """While open, `generate` runs each distinct prompt of its batch once."""
    backbone: Any = backbone_of(model)

    def sampling(forward: Any, **inputs: Any) -> Any:
        ids, attention, cache = (inputs.get(k) for k in ("input_ids", "attention_mask", "past_key_values"))
        if not isinstance(ids, Tensor) or not isinstance(cache, DynamicCache) or cache.get_seq_length() > 0:
            return forward(**inputs)
        if attention is None:
            attention = torch.ones_like(ids)
        if not isinstance(attention, Tensor) or attention.shape != ids.shape:
            return forward(**inputs)
        distinct = distinct_prompts(ids, attention)
        if distinct.saves(ids.size(1), 0):
            positions = inputs.get("position_ids")
            extra = (
                {} if positions is None else {"position_ids": positions.expand(len(ids), -1)[distinct.rows]}
            )
            output, filled = run_prompts(backbone, forward, ids, attention, distinct, **extra)
            filled.batch_select_indices(distinct.where)
            last = output.last_hidden_state[:, -1][distinct.where]
            output.past_key_values = filled
        else:
            output = forward(**inputs)
            last = output.last_hidden_state[:, -1]
        # Contiguous: over strided rows the head's product would copy its weights once a row.
        output.last_hidden_state = last.contiguous().unsqueeze(1)
        return output

    with replaced_forward(backbone, sampling):
        yield


def run_prompts(
    backbone: Any, forward: Any, ids: Tensor, attention: Tensor, distinct: Distinct, **extra: Any
) -> tuple[Any, DynamicCache]:
    """The backbone's output for the distinct prompts `(U, P)`, and their keys and values."""
    cache = DynamicCache(config=backbone.config)
    output = forward(
        input_ids=ids[distinct.rows],
        attention_mask=attention[distinct.rows],
        past_key_values=cache,
        use_cache=True,
        **extra,
    )
    return output, cache
