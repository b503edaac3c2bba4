"""The order in which rollout batches are sampled, graded and trained on, around TRL's trainers.

A rollout batch comes in two parts. `_roll` samples it and lets its grading begin. `_generate_and_score_completions`,
TRL's own, waits for the grades and makes advantages of them: it is given what was sampled where it would sample itself.
With `ahead`, the next batch is sampled between the two parts of the present one, and graded while that one trains.

It overrides some of TRL's methods (a test checks their signatures, because they are TRL's private API):

- `_prepare_inputs`: the order of the above; a prompt's completions stay together (`micro_batches.py`).
- `_tokenize_prompts`, `_generate_single_turn`, `_get_per_token_logps_and_entropies` where it is asked for old
  log-probabilities: what was sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from trl.models.utils import disable_gradient_checkpointing

from rft_cli.training.rollouts import micro_batches
from rft_cli.training.rollouts.engines.engine import Sampled
from rft_cli.training.rollouts.micro_batches import SplitsMicroBatches
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.rollout import Rollout, Tokens, tokens_of
from rft_cli.training.rollouts.row_order import RowOrder
from rft_cli.training.rollouts.scoring import Scores


class RolloutBatches(SplitsMicroBatches):
    """A mixin for TRL's GRPOTrainer and RLOOTrainer; see the module's docstring."""

    ahead = 0
    """Rollout batches that are sampled before their turn, with the weights of that time."""
    # TRL's: the micro-batches of the rollout batch that is trained on.
    _buffered_inputs: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rollouts_seen = 0
        # By their numbers: sampled, not yet trained on.
        self._waiting: dict[int, Rollout] = {}
        # The one of them that TRL makes a batch of.
        self._rollout: Rollout
        # Old log-probabilities that TRL asks for next.
        self._asked_for: Tensor | None = None

    # -- what a subclass does ----------------------------------------------------------------------------------------

    def _sample_batch(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[Sequence[Sequence[int]], Sampled | None]:
        """A completion for each prompt, from the policy as it is; beside them what an engine gave, if one sampled."""
        raise NotImplementedError

    def _compare_samplers(self, rollout: Rollout, mask: Tensor) -> None:
        """Hold an engine's log-probabilities against the trainer's; raises RunFailed where the job must not go on.

        `mask` `(B, T)`: the completions' tokens.
        """
        raise NotImplementedError

    def _score(self, model: Any, ids: Tensor, attention: Tensor, length: int) -> Scores:
        """Scores of the last `length` tokens of `ids` `(B, P+T)` under `model`."""
        raise NotImplementedError

    @property
    def _asks_for_old(self) -> bool:
        """Whether TRL asks for old log-probabilities: where a rollout batch has more than one step."""
        return bool(self.args.gradient_accumulation_steps % self._passes)

    @property
    def _keeps_old(self) -> bool:
        """Whether old log-probabilities are worked out; without them, TRL takes those of the first pass."""
        return self._asks_for_old or self.ahead > 0

    # -- the order ---------------------------------------------------------------------------------------------------

    @property
    def _passes(self) -> int:
        """Micro-batches that are trained on for each rollout batch, over all passes."""
        return int(self.args.steps_per_generation * self.num_iterations)

    def _prepare_inputs(self, _: Any) -> Any:
        """The micro-batch of this pass; a new rollout batch where the last one is used up.

        transformers' rows only count the passes: `RowOrder` says which rows a batch has.
        """
        # None: a job that was resumed.
        if self._step % self._passes == 0 or self._buffered_inputs is None:
            started = perf_counter()
            batch = self._next_batch(self._step // self._passes)
            self._buffered_inputs = micro_batches.split(batch, self.args.steps_per_generation)
            self._note(rollout_seconds=perf_counter() - started)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _next_batch(self, number: int) -> dict[str, Any]:
        """Rollout batch `number`, with grades and advantages; those ahead of it are sampled first."""
        whole_job = self.state.max_steps * self.args.gradient_accumulation_steps // self._passes
        wanted = range(number, min(number + self.ahead, whole_job - 1) + 1)
        self._note(sample_seconds=sum(self._roll(n) for n in wanted if n not in self._waiting))
        self._rollout = self._waiting.pop(number)
        self._reward.current = self._rollout.grading
        rows = [self.train_dataset[row] for row in self._rollout.rows]
        batch: dict[str, Any] = self._generate_and_score_completions(rows)
        return batch

    # -- a batch is sampled ------------------------------------------------------------------------------------------

    @cached_property
    def _order(self) -> RowOrder:
        args = self.args
        return RowOrder(
            rows=len(self.train_dataset),
            prompts=args.generation_batch_size // self.num_generations,
            group_size=self.num_generations,
            seed=args.seed,
            shuffle=self.shuffle_dataset,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )

    @property
    def _reward(self) -> GraderReward:
        reward: GraderReward = self.reward_funcs[0]
        return reward

    def _roll(self, number: int) -> float:
        """Sample rollout batch `number` from the policy as it is, and let its grading begin; seconds of sampling."""
        started = perf_counter()
        completions, sampled = self._sample_batch(self._reward.prompt_ids(self._order.of_batch(number)))
        seconds = perf_counter() - started
        rollout = self._begin(number, completions, sampled=sampled)
        if self._keeps_old:
            tokens = self._tokens(rollout)
            rollout = replace(rollout, old_logps=self._old_logps(tokens))
            # Not to be saved before the comparison: a job that goes on samples it again.
            del self._waiting[number]
            self._compare_samplers(rollout, tokens.completion_mask)
            self._waiting[number] = rollout
        return seconds

    def _begin(
        self,
        number: int,
        completions: Sequence[Sequence[int]],
        old_logps: Tensor | None = None,
        sampled: Sampled | None = None,
    ) -> Rollout:
        """Let the grading of these completions begin."""
        rows = self._order.of_batch(number)
        texts = self.processing_class.batch_decode(completions, skip_special_tokens=True)
        version = None if sampled is None else sampled.version
        grading = self._reward.start(rows, texts, completions, version)
        prompts = self._reward.prompt_ids(rows)
        rollout = Rollout(number, rows, prompts, completions, old_logps, grading, sampled)
        self._waiting[number] = rollout
        return rollout

    @torch.no_grad()
    def _old_logps(self, tokens: Tokens) -> Tensor:
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            return self._score(self.model, tokens.ids, tokens.attention, tokens.length).logps

    def _tokens(self, rollout: Rollout) -> Tokens:
        pad = self._tokenizer.pad_token_id
        return tokens_of(rollout.prompts, rollout.completions, pad, self.accelerator.device)

    # -- TRL makes a batch of it -------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        old = self._rollout.old_logps
        self._asked_for = old if self._asks_for_old else None
        batch = super()._generate_and_score_completions(inputs)
        return batch if old is None else batch | {"old_per_token_logps": old}

    def _tokenize_prompts(self, _: Any) -> Any:
        """Token ids of the batch's prompts; no images, no fields beside them."""
        return self._rollout.prompts, None, {}

    def _generate_single_turn(self, *_: Any, **__: Any) -> Any:
        return self._rollout.completions, None

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *_: Any,
        **__: Any,
    ) -> Any:
        if self._asked_for is not None:
            old, self._asked_for = self._asked_for, None
            return old, None, None
        scores = self._score(model, input_ids, attention_mask, logits_to_keep)
        return scores.logps, scores.entropy, None

    # -- what a checkpoint has of it ---------------------------------------------------------------------------------

    def process_state(self) -> dict[str, Any]:
        """The rollout batch that is trained on, those ahead of it, and how many there were.

        Between two batches nothing of the buffer is needed. A checkpoint is taken when the metrics of its step are
        logged, so they are not in it.
        """
        used_up = self._step % self._passes == 0
        return super().process_state() | {
            "buffer": None if used_up else self._buffered_inputs,
            "ahead": [rollout.state() for rollout in self._waiting.values()],
            "rollouts_seen": self.rollouts_seen,
        }

    def load_process_state(self, state: dict[str, Any]) -> None:
        super().load_process_state(state)
        # Counts passes through the model, which are smaller or larger with another optim.micro_batch_size.
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        self._buffered_inputs = micro_batches.redeal(state["buffer"], self.args.steps_per_generation)
        # A batch that is sampled again counts again.
        again = state["buffer"] is not None and self._buffered_inputs is None
        self.rollouts_seen = state["rollouts_seen"] - again
        # A checkpoint of an older rft has none.
        for rollout in state.get("ahead", ()):
            number, ids, sampled = rollout["number"], rollout["completions"], rollout.get("sampled")
            given = None if sampled is None else Sampled(ids, *sampled)
            self._begin(number, ids, rollout["old_logps"], given)

    def for_other_processes(self, state: dict[str, Any]) -> dict[str, Any]:
        """Rollout batches can't be shared out: they are sampled again."""
        return {**state, "buffer": None if state["buffer"] is None else [], "ahead": []}

    # -- metrics -----------------------------------------------------------------------------------------------------

    def _note(self, **values: Tensor | float) -> None:
        """Add to this step's metrics; TRL averages what one step collects."""
        for name, value in values.items():
            self._metrics["train"][name].append(float(value))
