"""Sampling and scoring of rollouts, at less cost than in TRL's trainers; their order is in `rollout_batches.py`.

Samples as the pilot and the validations do (`sampling.py`); the first batch is checked (`logprob_check.py`). Old, new
and reference log-probabilities go one way (`scoring.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import unwrap_model_for_generation

from rft_cli.errors import RunFailed, UsageError
from rft_cli.events import Note
from rft_cli.training.rollouts import logprob_check
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.engine_rollouts import EngineRollouts
from rft_cli.training.rollouts.engines.engine import Sampled
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.rollout_batches import RolloutBatches
from rft_cli.training.rollouts.sampling import SamplingSettings, sample
from rft_cli.training.rollouts.scoring import Scores, score
from rft_cli.training.rollouts.statistics import RewardSpread, masked_moments


class RolloutTrainer(EngineRollouts, RolloutBatches):
    """A mixin for TRL's GRPOTrainer and RLOOTrainer; see the module's docstring."""

    _checked = False
    _agreement = logprob_check.Agreement(0.0, 0.0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spread = RewardSpread()

    # -- the course of a job -----------------------------------------------------------------------------------------

    def steps_an_epoch(self) -> int:
        """Optimizer steps of one pass over the rows."""
        return len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps

    def trained_on(self) -> str:
        """What was learned from so far, at the end of a rollout batch, for people."""
        args = self.args
        a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return f"{self.state.global_step * a_step // args.num_iterations:,} completions"

    def process_state(self) -> dict[str, Any]:
        """The rollout batches, the spread of all rewards, and what was found of this model."""
        return super().process_state() | {
            "spread": self.spread.state_dict(),
            "shortcuts": {"checked": self._checked, "splits": self._splits, "share": self._share},
        }

    def load_process_state(self, state: dict[str, Any]) -> None:
        if "spread" not in state:
            raise RunFailed(
                "the checkpoint is of an older rft, whose advantages had another baseline and unit",
                "start a new run, or continue with the version in run.json",
            )
        super().load_process_state(state)
        self.spread.load_state_dict(state["spread"])
        found = state["shortcuts"]
        self._checked, self._splits, self._share = found["checked"], found["splits"], found["share"]

    # -- sampling ----------------------------------------------------------------------------------------------------

    @cached_property
    def _share(self) -> bool:
        """Whether a group's prompt is scored once; checkpointed layers recompute without a cache, so not then."""
        return self._splits and not self.args.gradient_checkpointing

    @property
    def _keeps_old(self) -> bool:
        return super()._keeps_old or self.engine is not None

    def _sample_batch(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[Sequence[Sequence[int]], Sampled | None]:
        if self.engine is None:
            return self._sample_checked(prompts), None
        sampled = self._sample_from_engine(self.engine, prompts)
        return sampled.ids, sampled

    def _sample_checked(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """A completion for each prompt; those of the first batch are checked (`logprob_check.py`)."""
        if self._checked or self._sharded:
            return self._sample(prompts)
        with logprob_check.sampled_logits(self.model) as logits:
            completions = self._sample(prompts)
        if not self._agree(prompts, completions, logits):
            self.on_note(Note("passes are not shared between completions: on this model that is not exact"))
            self._splits = self._share = False
            with logprob_check.sampled_logits(self.model) as logits:
                completions = self._sample(prompts)
            if not self._agree(prompts, completions, logits):
                self._refuse()
        self._checked = True
        return completions

    def _sample(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as unwrapped,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
            # Around all tokens: float32 weights are cast once, not once a token.
            self.accelerator.autocast(),
        ):
            return sample(unwrapped, prompts, self._sampling, None, self._sharded, self._splits)

    @cached_property
    def _sampling(self) -> SamplingSettings:
        return SamplingSettings(
            max_new_tokens=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=tuple(self.eos_token_ids),
            pad=self._tokenizer.pad_token_id,
        )

    def _agree(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], logits: Sequence[Tensor]
    ) -> bool:
        """Whether sampling and scoring agree with the model's own logits, in every process."""

        def scorer(ids: Tensor, attention: Tensor, length: int) -> Tensor:
            return self._score(self.model, ids, attention, length).logps

        was_training = self.model.training
        self.model.eval()
        with self.accelerator.autocast():
            found = logprob_check.compare(self.model, scorer, prompts, completions, logits, self._sampling)
        self.model.train(was_training)
        self._agreement = found
        most = logprob_check.TOLERANCE[self._compute_dtype]
        # NaN is wrong too.
        wrong = not (found.sampled <= most and found.scored <= most)
        everywhere = self._mean_over_processes(torch.tensor(float(wrong), device=self.accelerator.device))
        return bool(everywhere == 0)

    @property
    def _compute_dtype(self) -> torch.dtype:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return kinds.get(self.accelerator.mixed_precision, self.model.dtype)

    def _refuse(self) -> None:
        """Raise UsageError in float32: rft can't score this model; warn in 16 bits, where rounding may explain it."""
        found = self._agreement
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        name = type(model).__name__
        what = (
            f"{name}: log-probabilities differ from the model's own by {found.sampled:.2g} nats a token where "
            f"completions are sampled, by {found.scored:.2g} where they are scored"
        )
        if self._compute_dtype == torch.float32:
            raise UsageError(f"{what}: rft can't train this model", "take a model of another architecture")
        self.on_note(
            Note(f"{what}: {self._compute_dtype} rounds much here; model.dtype=float32 is exact", "warning")
        )

    # -- scoring -----------------------------------------------------------------------------------------------------

    def _score(self, model: Any, ids: Tensor, attention: Tensor, length: int) -> Scores:
        """Scores of the last `length` tokens of `ids` `(B, P+T)` under `model`, in whatever wrapper it trains."""
        inner = self.model if model is self.model_wrapped else model
        chunk = self.args.per_device_train_batch_size
        autocast = self.accelerator.autocast
        return score(model, backbone_of(inner), ids, attention, length, chunk, autocast, self._share)

    def _rewards(self, reward: GraderReward) -> Tensor:
        """This process's rewards of the last rollout batch `(B,)`; NaN where there is no grade."""
        given = [float("nan") if r is None else r for r in reward.last.rewards()]
        return torch.tensor(given, dtype=torch.float32, device=self.accelerator.device)

    def _observe(self, rewards: Tensor, graded: Tensor) -> None:
        """Add one rollout batch's rewards `(B,)` of this process to the spread; `graded` marks those that count."""
        self.spread.update(masked_moments(rewards, graded, self._sum_over_processes))
        self._note(reward_spread=self.spread.value)

    def forget_step(self) -> None:
        """Drop the gradients of the current optimizer step."""
        # accelerate's optimizer does nothing before the last pass of a step.
        self.model.zero_grad(set_to_none=True)
