"""A rollout batch in micro-batches that keep a prompt's completions together, smaller ones where memory runs out.

Rows that share a prompt run it once (`shared_prompts.py`), and a group's advantages, which sum to about zero, are in
one step. TRL shuffles single rows instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rft_cli.events import Note
from rft_cli.training.rollouts.base_trainer import BaseTrainer


def shuffled_groups(prompts: Tensor, attention: Tensor) -> Tensor:
    """A random order `(B,)` of rows in which neighbours with the same prompt `(B, P)` stay neighbours."""
    same = (prompts[1:] == prompts[:-1]).all(dim=1) & (attention[1:] == attention[:-1]).all(dim=1)
    starts = [0, *((~same).nonzero().squeeze(1) + 1).tolist(), len(prompts)]
    groups = [torch.arange(start, end) for start, end in pairwise(starts)]
    return torch.cat([groups[i] for i in torch.randperm(len(groups)).tolist()])


def split(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """`count` micro-batches of equal size: tensors and lists with an entry a row are divided, the rest is repeated."""
    order = shuffled_groups(batch["prompt_ids"], batch["prompt_mask"])
    return _divided(batch, order.split(len(order) // count)[:count])


def parts(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """A micro-batch in at most `count` parts of neighbouring rows, all but the last of equal size."""
    rows = batch["prompt_ids"].size(0)
    return [dict(batch)] if count == 1 else _divided(batch, torch.arange(rows).split(-(-rows // count)))


def _divided(batch: Mapping[str, Any], indices: Sequence[Tensor]) -> list[dict[str, Any]]:
    rows = batch["prompt_ids"].size(0)
    return [{name: _rows(value, index, rows) for name, value in batch.items()} for index in indices]


def redeal(buffer: list[dict[str, Any]] | None, count: int) -> list[dict[str, Any]] | None:
    """A rollout batch in `count` equal micro-batches; None where its rows do not divide: it is sampled again."""
    if not buffer:
        return None
    if len(buffer) == count:
        return buffer
    whole = {key: _joined([part[key] for part in buffer]) for key in buffer[0]}
    return parts(whole, count) if len(whole["prompt_ids"]) % count == 0 else None


def _rows(value: Any, index: Tensor, rows: int) -> Any:
    if isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == rows:
        return value[index.to(value.device)]
    if isinstance(value, list) and len(value) == rows:
        return [value[i] for i in index.tolist()]
    return value


def _joined(values: list[Any]) -> Any:
    """The rows of all parts; a figure of the whole batch is the same in each part."""
    first = values[0]
    if isinstance(first, list):
        return [row for rows in values for row in rows]
    return torch.cat(values) if isinstance(first, Tensor) and first.ndim else first


class SplitsMicroBatches(BaseTrainer):
    """Where memory runs out in an update, halves what one pass holds, from then on to the job's end.

    Gradients add up, so that a step of parts is the step of the whole but for rounding. One process alone does this: of
    several, those with memory left would wait for the one without.
    """

    loss_is_mean_of_rows = False
    """Whether a micro-batch's loss is a mean over its rows; else a sum over tokens, divided by the step's tokens."""
    _parts = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The step's micro-batches so far: a pass that fails loses their gradients too.
        self._passed: list[dict[str, Any]] = []

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The micro-batch's loss. In one process its gradients are there already, and the loss is a leaf."""
        if self.accelerator.num_processes > 1 or self._sharded:
            return super().compute_loss(model, inputs, *args, **kwargs)
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._passed.clear()
        self._passed.append(inputs)
        loss = self._passed_back(model, [inputs])
        while loss is None:
            self._halve(inputs["prompt_ids"].size(0))
            loss = self._passed_back(model, self._passed)
        return loss.requires_grad_()

    def _passed_back(self, model: nn.Module, batches: Sequence[dict[str, Any]]) -> Tensor | None:
        """Forward and backward of all; the last one's loss, None where memory ran out."""
        last_of_step = self.accelerator.sync_gradients
        loss = torch.zeros((), device=self.accelerator.device)
        try:
            for inputs in batches:
                loss = torch.zeros_like(loss)
                pieces = parts(inputs, self._parts)
                for number, part in enumerate(pieces):
                    # Metrics of a step are noted with its last pass.
                    last = inputs is batches[-1] and number == len(pieces) - 1
                    self.accelerator.sync_gradients = last_of_step and last
                    loss += self._one_pass(model, part, inputs)
        except torch.OutOfMemoryError:
            if self._parts >= batches[-1]["prompt_ids"].size(0):
                raise
            return None
        finally:
            self.accelerator.sync_gradients = last_of_step
        return loss

    def _one_pass(self, model: nn.Module, part: dict[str, Any], whole: dict[str, Any]) -> Tensor:
        loss: Tensor = super().compute_loss(model, part)
        if self.loss_is_mean_of_rows:
            loss = loss * (part["prompt_ids"].size(0) / whole["prompt_ids"].size(0))
        # TRL's flag: the loss is divided by the passes of a step already; else transformers divides it.
        divided = self.loss_is_scaled_for_ga
        self.accelerator.backward(loss if divided else loss / self.current_gradient_accumulation_steps)
        return loss.detach()

    def _halve(self, rows: int) -> None:
        self._parts = min(2 * self._parts, rows)
        self.forget_step()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        size = -(-rows // self._parts)
        self.on_note(
            Note(f"out of memory: from here on {size} completions at a time in updates of the same size")
        )
