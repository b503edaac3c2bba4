"""Checks on a job's first rollout batch that sampling, scoring and the model's own logits agree.

Where they don't, PPO's ratio and KL are wrong: an architecture whose cache, padding or head does not fit the shortcuts
here would train on wrong log-probabilities unnoticed. A few rows are enough to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rft_cli.training.rollouts.sampling import SEGMENT, SamplingSettings

ROWS = 4
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.15}
"""Mean difference of a token's log-probabilities, in nats, that rounding explains."""

Scorer = Callable[[Tensor, Tensor, int], Tensor]
"""`ids` and `attention` `(B, P+T)` and T -> log-probabilities `(B, T)`."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Mean distance in nats a token of what was sampled from, and of the scores, to the model's own logits."""

    sampled: float
    scored: float


@contextmanager
def sampled_logits(model: Any) -> Iterator[list[Tensor]]:
    """Yields a list of the logits `(ROWS, V)` that the first tokens of the first rows are sampled from."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    taken: list[Tensor] = []

    def take(_module: Any, _args: Any, output: Any) -> None:
        if len(taken) < SEGMENT:
            taken.append(output.logits[:ROWS, -1].float().clone())

    handle = inner.register_forward_hook(take)
    try:
        yield taken
    finally:
        handle.remove()


@torch.no_grad()
def compare(
    model: Any,
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    sampled: Sequence[Tensor],
    settings: SamplingSettings,
) -> Agreement:
    """Compare a few rows, each alone and without padding under the model's own forward pass.

    Args:
        sampled: of `sampled_logits`, taken while these completions were sampled.
    """
    rows = [(list(p), list(c)) for p, c in zip(prompts[:ROWS], completions[:ROWS], strict=True)]
    ids, attention, length = padded(rows, settings.pad)
    scores = scorer(ids.to(model.device), attention.to(model.device), length).float().cpu()
    off_sampled, off_scored = [], []
    for row, (prompt, completion) in enumerate(rows):
        whole = torch.tensor([prompt + completion], device=model.device)
        logits = model(input_ids=whole).logits[0, len(prompt) - 1 : -1]
        own = _chosen(logits.float().cpu(), completion, settings.temperature)
        off_scored.append((scores[row, : len(completion)] - own).abs())
        first = min(len(sampled), len(completion))
        if first:
            drawn = torch.stack([step[row] for step in sampled[:first]]).cpu()
            off_sampled.append((_chosen(drawn, completion[:first], settings.temperature) - own[:first]).abs())
    return Agreement(_mean(off_sampled), _mean(off_scored))


def padded(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor, int]:
    """Prompts padded on the left and completions on the right: ids and attention `(B, P+T)`, and T."""
    before, length = max(len(p) for p, _ in rows), max(len(c) for _, c in rows)
    ids = [[pad] * (before - len(p)) + p + c + [pad] * (length - len(c)) for p, c in rows]
    attention = [[0] * (before - len(p)) + [1] * (len(p) + len(c)) + [0] * (length - len(c)) for p, c in rows]
    return torch.tensor(ids), torch.tensor(attention), length


def _chosen(logits: Tensor, tokens: Sequence[int], temperature: float) -> Tensor:
    """Log-probabilities of `tokens` `(T,)` under `logits` `(T, V)`."""
    logps = (logits / temperature).log_softmax(dim=-1)
    return logps.gather(1, torch.tensor(tokens).unsqueeze(1)).squeeze(1)


def _mean(parts: Sequence[Tensor]) -> float:
    return float(torch.cat(list(parts)).mean()) if parts else 0.0
