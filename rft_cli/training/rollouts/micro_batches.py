"""A rollout batch cut into micro-batches that keep a prompt's completions together.

Rows that share a prompt run it once (`shared_prompts.py`), and a group's advantages, which sum to about zero, stand in
one step. TRL shuffles single rows instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def shuffled_groups(prompts: Tensor, attention: Tensor) -> Tensor:
    """A random order `(B,)` of rows in which neighbours with the same prompt `(B, P)` stay neighbours."""
    same = (prompts[1:] == prompts[:-1]).all(dim=1) & (attention[1:] == attention[:-1]).all(dim=1)
    starts = [0, *((~same).nonzero().squeeze(1) + 1).tolist(), len(prompts)]
    groups = [torch.arange(start, end) for start, end in pairwise(starts)]
    return torch.cat([groups[i] for i in torch.randperm(len(groups)).tolist()])


def split(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """`count` micro-batches of equal size: tensors and lists with an entry a row are divided, the rest is repeated."""
    rows = batch["prompt_ids"].size(0)
    order = shuffled_groups(batch["prompt_ids"], batch["prompt_mask"])
    parts = order.split(rows // count)[:count]
    return [{name: _rows(value, part, rows) for name, value in batch.items()} for part in parts]


def parts(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """A micro-batch in at most `count` parts of neighbouring rows, all but the last of equal size."""
    rows = batch["prompt_ids"].size(0)
    if count == 1:
        return [dict(batch)]
    return [
        {name: _rows(value, part, rows) for name, value in batch.items()}
        for part in torch.arange(rows).split(-(-rows // count))
    ]


def _rows(value: Any, index: Tensor, rows: int) -> Any:
    if isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == rows:
        return value[index.to(value.device)]
    if isinstance(value, list) and len(value) == rows:
        return [value[i] for i in index.tolist()]
    return value
