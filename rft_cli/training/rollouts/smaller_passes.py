"""Memory that runs out in an update: the micro-batch goes through in smaller parts, and the step stays what it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from rft_cli.events import Note
from rft_cli.training.rollouts import micro_batches


class SmallerPasses(Trainer):
    """Halves what one pass holds, as often as it must; from then on to the job's end.

    Gradients add up, so that a step of parts is the step of the whole but for rounding. One process alone does this: of
    several, those with memory left would wait for the one without.
    """

    loss_is_mean_of_rows = False
    """Whether a micro-batch's loss is a mean over its rows; else a sum over tokens, divided by the step's tokens."""
    _parts = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The step's micro-batches so far: their gradients are lost with those of a pass that fails.
        self._passed: list[dict[str, Any]] = []

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The micro-batch's loss. In one process its gradients are there already, and the loss is a leaf."""
        trainer: Any = self
        if self.accelerator.num_processes > 1 or trainer._sharded:
            return super().compute_loss(model, inputs, *args, **kwargs)
        if trainer._step % self.current_gradient_accumulation_steps == 0:
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
                parts = micro_batches.parts(inputs, self._parts)
                for number, part in enumerate(parts):
                    # Metrics of a step are noted with its last pass.
                    last = inputs is batches[-1] and number == len(parts) - 1
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
        # TRL says of its trainers whether the loss is divided already by the passes of a step, or transformers does it.
        divided = self.loss_is_scaled_for_ga
        self.accelerator.backward(loss if divided else loss / self.current_gradient_accumulation_steps)
        return loss.detach()

    def _halve(self, rows: int) -> None:
        trainer: Any = self
        self._parts = min(2 * self._parts, rows)
        trainer.forget_step()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        size = -(-rows // self._parts)
        trainer.on_note(
            Note(f"out of memory: from here on {size} completions at a time in updates of the same size")
        )
