"""Sampling and scoring of rollouts, at less cost than in TRL's trainers.

It overrides some of TRL's methods (a test checks their signatures, because they are TRL's private API):

- `_generate_and_score_completions`, `_tokenize_prompts`: prompts become token ids as everywhere in rft (`prompts.py`).
- `_generate_single_turn`: samples as the pilot and the validations do (`sampling.py`); the first batch is checked
  (`logprob_check.py`).
- `_get_per_token_logps_and_entropies`: old, new and reference log-probabilities go one way (`scoring.py`).
- `_prepare_inputs`: a prompt's completions stay together (`micro_batches.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from trl.models.utils import unwrap_model_for_generation

from rft_cli.errors import RunFailed, UsageError
from rft_cli.events import Note
from rft_cli.training.rollouts import logprob_check, micro_batches
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.base_trainer import EpochSampler
from rft_cli.training.rollouts.engine_rollouts import EngineRollouts
from rft_cli.training.rollouts.micro_batches import SplitsMicroBatches
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.sampling import SamplingSettings, sample
from rft_cli.training.rollouts.scoring import Scores, score
from rft_cli.training.rollouts.statistics import RewardSpread, masked_moments


class RolloutTrainer(EngineRollouts, SplitsMicroBatches):
    """A mixin for TRL's GRPOTrainer and RLOOTrainer; see the module's docstring."""

    _checked = False
    _rows: Sequence[int] = ()
    _agreement = logprob_check.Agreement(0.0, 0.0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spread = RewardSpread()
        self.rollouts_seen = 0

    # -- the course of a job -----------------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        sampler.__class__ = EpochSampler
        sampler.trainer = self
        return sampler

    def steps_an_epoch(self) -> int:
        """Optimizer steps of one pass over the rows."""
        return len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps

    def trained_on(self) -> str:
        """What was learned from so far, at the end of a rollout batch, for people."""
        args = self.args
        a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return f"{self.state.global_step * a_step // args.num_iterations:,} completions"

    def process_state(self) -> dict[str, Any]:
        """The rollout batch that is trained on, what is counted over all of them, and what was found of this model.

        Between two batches nothing of the buffer is needed. A checkpoint is taken when the metrics of its step are
        logged, so they are not in it.
        """
        used_up = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        return super().process_state() | {
            "buffer": None if used_up else self._buffered_inputs,
            "rollouts_seen": self.rollouts_seen,
            "spread": self.spread.state_dict(),
            "shortcuts": {"checked": self._checked, "splits": self._splits, "share": self._share},
        }

    def load_process_state(self, state: dict[str, Any]) -> None:
        super().load_process_state(state)
        if "spread" not in state:
            raise RunFailed(
                "the checkpoint is of an older rft, whose advantages had another baseline and unit",
                "start a new run, or continue with the version in run.json",
            )
        # Counts passes through the model, which are smaller or larger with another optim.micro_batch_size.
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        self._buffered_inputs = micro_batches.redeal(state["buffer"], self.args.steps_per_generation)
        # A batch that is sampled again counts again.
        again = state["buffer"] is not None and self._buffered_inputs is None
        self.rollouts_seen = state["rollouts_seen"] - again
        self.spread.load_state_dict(state["spread"])
        found = state["shortcuts"]
        self._checked, self._splits, self._share = found["checked"], found["splits"], found["share"]

    def for_other_processes(self, state: dict[str, Any]) -> dict[str, Any]:
        """The rollout batch can't be shared out: it is sampled again."""
        return {**state, "buffer": None if state["buffer"] is None else []}

    # -- sampling ----------------------------------------------------------------------------------------------------

    @cached_property
    def _share(self) -> bool:
        """Whether a group's prompt is scored once; checkpointed layers recompute without a cache, so not then."""
        return self._splits and not self.args.gradient_checkpointing

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self._rows = [row["row"] for row in inputs]
        return super()._generate_and_score_completions(inputs)

    def _tokenize_prompts(self, _: Any) -> Any:
        """Token ids of the batch's prompts; no images, no fields beside them."""
        return self.reward_funcs[0].prompt_ids(self._rows), None, {}

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        if self._checked or self._sharded:
            return self._sample(prompt_ids), None
        with logprob_check.sampled_logits(self.model) as logits:
            completions = self._sample(prompt_ids)
        if not self._agree(prompt_ids, completions, logits):
            self.on_note(Note("passes are not shared between completions: on this model that is not exact"))
            self._splits = self._share = False
            with logprob_check.sampled_logits(self.model) as logits:
                completions = self._sample(prompt_ids)
            if not self._agree(prompt_ids, completions, logits):
                self._refuse()
        self._checked = True
        return completions, None

    def _sample(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        if self.engine is not None:
            return self._sample_from_engine(self.engine, prompts)
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

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The micro-batch of this pass; a new rollout batch where the last one is used up."""
        every = self.args.steps_per_generation * self.num_iterations
        # None: a job that was resumed.
        if self._step % every == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = micro_batches.split(batch, self.args.steps_per_generation)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *_: Any,
        **__: Any,
    ) -> Any:
        scores = self._score(model, input_ids, attention_mask, logits_to_keep)
        self._keep(scores)
        return scores.logps, scores.entropy, None

    def _keep(self, scores: Scores) -> None:
        """PPO keeps what TRL asks for here, so that nothing is scored twice."""

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

    def _note(self, **values: Tensor | float) -> None:
        """Add to this step's metrics; TRL averages what one step collects."""
        for name, value in values.items():
            self._metrics["train"][name].append(float(value))
