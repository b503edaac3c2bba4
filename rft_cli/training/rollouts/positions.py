"""Positions of tokens in left-padded texts, as `generate` counts them."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn


def positions(backbone: nn.Module, attention: Tensor) -> dict[str, Any]:
    """`position_ids` `(B, L)` for a backbone that takes them, counted from each row's first token; else nothing.

    Models with learned positions (GPT-2) would otherwise count the padding too, and score another text than they
    sampled.
    """
    # The class's own: an instance may have a stand-in (`replaced_forward`).
    if "position_ids" not in inspect.signature(type(backbone).forward).parameters:
        return {}
    return {"position_ids": (attention.cumsum(dim=1) - 1).clamp(min=0)}
