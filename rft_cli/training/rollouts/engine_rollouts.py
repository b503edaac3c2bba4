"""The part of a trainer that samples its rollouts from an engine: weights out, completions in, differences corrected.

The sampler's log-probabilities are compared with the trainer's in every rollout batch, before it is trained on. What is
left of the difference is corrected by truncated importance weights on the advantages: a clipped loss is linear in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from rft_cli.config.training_sections import TripwireConfig
from rft_cli.errors import RunFailed
from rft_cli.events import Note
from rft_cli.training.rollouts.backbone import adapter_off
from rft_cli.training.rollouts.base_trainer import BaseTrainer
from rft_cli.training.rollouts.engines import correction
from rft_cli.training.rollouts.engines.causes import Distances, bound_of, distance, likely_cause
from rft_cli.training.rollouts.engines.engine import Sampled, SamplingEngine
from rft_cli.training.rollouts.rollout import Rollout

WIRE = "logprob_difference"


class EngineRollouts(BaseTrainer):
    """A mixin for TRL's trainers; without an engine it does nothing.

    `wires`: of them `logprob_difference` and `action` count here. `importance_cap`: highest weight of a token.
    """

    engine: SamplingEngine | None = None
    wires = TripwireConfig()
    importance_cap = 2.0
    _rollout: Rollout
    _differs = False

    def _sample_from_engine(self, engine: SamplingEngine, prompts: Sequence[Sequence[int]]) -> Sampled:
        """Completions of the policy as it is now. Where no engine is left, the job ends at a checkpoint."""
        started = perf_counter()
        try:
            engine.load(self.accelerator.unwrap_model(self.model_wrapped))
            self._note(sync_seconds=perf_counter() - started)
            return engine.generate(prompts, self._sampling)
        except RunFailed:
            # No step is under way between two rollout batches.
            if self.state.global_step > 0:
                self.write_checkpoint()
            raise

    @torch.no_grad()
    def _corrected(self, advantages: Tensor, old: Tensor, mask: Tensor, whole: bool = False) -> Tensor:
        """The advantages `(B, T)` times importance weights; as they are where no engine sampled.

        `old`, `mask`: the trainer's log-probabilities of the tokens, and which of them count, `(B, T)`. `whole`:
        advantages `(B,)` of completions, whose weight is a completion's.
        """
        sampled = self._rollout.sampled
        if sampled is None:
            return advantages
        apart = correction.differences(old, correction.padded_logps(sampled.logps, old.size(1), old), mask)
        weigh = correction.completion_weights if whole else correction.token_weights
        weights = weigh(apart, self.importance_cap)
        counts = mask.any(dim=1) if whole else mask.bool()
        sums = torch.stack([weights[counts].sum(), counts.sum().to(apart)])
        weight, counted = self._sum_over_processes(sums).tolist()
        self._note(importance_weight=weight / counted if counted else 1.0)
        return advantages * weights

    @torch.no_grad()
    def _compare_samplers(self, rollout: Rollout, mask: Tensor) -> None:
        """Warn once where the difference is over its bound, or end the job, before this batch is trained on."""
        sampled, old = rollout.sampled, rollout.old_logps
        if sampled is None or old is None:
            return
        apart = correction.differences(old, correction.padded_logps(sampled.logps, old.size(1), old), mask)
        total, tokens = self._sum_over_processes(
            torch.stack([apart.abs().sum(), mask.sum().to(apart)])
        ).tolist()
        found = total / tokens if tokens else 0.0
        self._note(logprob_difference=found)
        bound, action = bound_of(self.wires.logprob_difference, self._computes), self.wires.action
        # With top_p the sampler's are those of a part of the tokens.
        if bound is None or action == "none" or self.top_p < 1.0:
            return
        differs = found > bound
        if differs and not self._differs:
            text = (
                f"log-probabilities of the engine and of the trainer differ by {found:.2g} nats a token, sampled from "
                f"{sampled.version} (tripwires.{WIRE} is {bound:g}). Likely: {self._cause(rollout.prompts, sampled)}"
            )
            if action == "stop":
                if self.state.global_step > 0:
                    self.write_checkpoint()
                raise RunFailed(f"a tripwire ended the job: {text}")
            self.on_note(Note(text, "warning", self.state.global_step + 1, WIRE))
        self._differs = differs

    def _cause(self, prompts: Sequence[Sequence[int]], sampled: Sampled) -> str:
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)
        was_training = model.training
        model.eval()

        def to(temperature: float) -> float:
            return distance(model, prompts, sampled.ids, sampled.logps, temperature)

        with self.accelerator.autocast():
            own, raw = to(self.temperature), to(1.0)
            reference = None
            if hasattr(model, "peft_config"):
                with adapter_off(model):
                    reference = to(self.temperature)
        model.train(was_training)
        return likely_cause(Distances(own, raw, reference), self._computes)

    @property
    def _computes(self) -> str:
        return {"bf16": "bfloat16", "fp16": "float16"}.get(self.accelerator.mixed_precision, "float32")
