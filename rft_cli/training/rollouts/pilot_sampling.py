"""Samples and grades the pilot's completions: the base model completes a few training prompts as in training.

There are up to three kinds of waves, each the same whatever the number of processes:

1. one completion a prompt, with a generous limit, where the limit is to be found; once all but an eighth have ended,
   the others get twice the longest length of those, which is what the limit would come to;
2. the rest of each prompt's group, with the limit that the first lengths give (a quarter of the prompts where most
   completions of the first wave were cut: a model that rambles would cost minutes). sft has no groups, and stops
   after the first wave;
3. only where no prompt has two different rewards, though completions do end: up to three times as many further
   prompts, a wave each, until one has: a rare reward must not stop a job that could learn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState

from rft_cli.events import Note, Progress
from rft_cli.grading.protocol import Grader
from rft_cli.grading.stats import FailureMonitor
from rft_cli.report import pilot as report
from rft_cli.training import auto
from rft_cli.training.context import JobContext
from rft_cli.training.rollouts.rewards import trainable
from rft_cli.training.rollouts.validation import Validator, validator_of
from rft_cli.types import Example, Grade, GradeRequest, Sample

MOST_TIMES = 4
"""Times `pilot.prompts` that are sampled before a job stops because rewards never differ."""
MOSTLY_CUT = 0.5
PATIENCE = 2.0


@dataclass
class PilotSamples:
    """All completions of the pilot; seconds and number of those that time a rollout batch."""

    samples: list[Sample] = field(default_factory=list)
    rollout_s: float = 0.0
    grading_s: float = 0.0
    timed: int = 0


class _TimedGrader:
    """A grader that measures how long it took."""

    def __init__(self, grader: Grader) -> None:
        self._grader = grader
        self.seconds = 0.0

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """The grades, timed."""
        started = perf_counter()
        grades = self._grader.grade(requests)
        self.seconds += perf_counter() - started
        return grades


class PilotSampler:
    """Samples one pilot; `temperature` is that of training."""

    def __init__(self, context: JobContext, model: Any, temperature: float) -> None:
        config, limits = context.config, context.limits
        self._context, self._config, self._model = context, config, model
        self._temperature = temperature
        self._grader = _TimedGrader(context.grader)
        timed = replace(context, grader=cast(Grader, self._grader))
        self._monitor = FailureMonitor(config.grader.max_failure_rate)
        device = PartialState().device
        self._generous = auto.generous_limit(device.type)
        self.generous = min(self._generous, limits.room)
        accelerator = Accelerator(cpu=device.type == "cpu")
        validator = validator_of(timed, model, self.generous, accelerator)
        self._validator = replace(validator, seed=config.seed)
        self._waves = 0
        self.widest = 0
        self.sampled = PilotSamples()

    def limit(self) -> auto.Chosen[int]:
        """The limit of a completion in training, by what was seen so far."""
        samples = self.sampled.samples
        ended = sorted(s.tokens for s in samples if not s.truncated)
        seen = auto.SeenLengths(ended, len(samples), self._generous)
        return auto.max_completion_tokens(
            self._config.rollout.max_completion_tokens, self._context.limits, seen
        )

    def run(self, examples: Sequence[Example]) -> PilotSamples:
        """Sample and grade completions of these rows; on every process the same. `Sample.row` counts in `examples`."""
        config, group = self._config, self._config.completions_a_prompt
        order = list(range(len(examples)))
        random.Random(config.seed).shuffle(order)
        first, rest = order[: config.pilot.prompts], order[config.pilot.prompts :]
        if config.teaches:
            self._wave(examples, first, 1, self.generous, whole=True, patience=PATIENCE)
            return self.sampled
        if isinstance(config.rollout.max_completion_tokens, str):
            self._wave(examples, first, 1, self.generous, patience=PATIENCE)
            cut = sum(s.truncated for s in self.sampled.samples)
            rambles = cut > MOSTLY_CUT * len(first)
            again = first[: max(1, len(first) // 4)] if rambles else first
            self._wave(examples, again, group - 1, self.limit().value, whole=True)
        else:
            self._wave(examples, first, group, self.limit().value, whole=True)
        further = rest[: (MOST_TIMES - 1) * len(first)]
        while further and config.pilot.gate != "none" and self._needs_more():
            now, further = further[: len(first)], further[len(first) :]
            self._wave(examples, now, group, self.limit().value)
        return self.sampled

    def _needs_more(self) -> bool:
        """Whether nothing can be learned from what was seen so far, and more completions may change that.

        A model that never ends a completion gets no more, unless the limit was set: one token may be enough then.
        """
        found = report.figures(self.sampled.samples)
        chosen = not isinstance(self._config.rollout.max_completion_tokens, str)
        return not found.teaches and bool(found.rewards) and (found.ended > 0 or chosen)

    def _wave(
        self,
        examples: Sequence[Example],
        places: Sequence[int],
        times: int,
        limit: int,
        whole: bool = False,
        patience: float | None = None,
    ) -> None:
        """Sample `times` completions of each of the rows at `places`; `whole`: they time a rollout batch."""
        # Under sft the pilot samples as validations do: there are no other completions.
        config = self._config
        settings = replace(
            self._validator.settings,
            max_new_tokens=limit,
            temperature=self._temperature,
            top_p=(config.validation if config.teaches else config.rollout).top_p,
            patience=patience,
        )
        validator: Validator = replace(
            self._validator,
            settings=settings,
            samples_per_prompt=times,
            seed=config.seed + 1000 * self._waves,
        )
        self._waves += 1
        self.widest = max(self.widest, limit)
        done_before, graded_before = len(self.sampled.samples), self._grader.seconds
        total = done_before + len(places) * times

        def progress(done: int, _total: int) -> None:
            self._context.emit(Progress("pilot", done_before + done, total))
            self._context.check_stop()

        started = perf_counter()
        samples = self._within_memory(validator, [examples[place] for place in places], progress)
        self._monitor.observe([s.grade for s in samples])
        self.sampled.samples += [replace(s, row=places[s.row], grade=trainable(s.grade)) for s in samples]
        if whole:
            self.sampled.grading_s = self._grader.seconds - graded_before
            self.sampled.rollout_s = perf_counter() - started
            self.sampled.timed = len(samples)

    def _within_memory(
        self, validator: Validator, rows: Sequence[Example], progress: Callable[[int, int], None]
    ) -> list[Sample]:
        """Sample in batches half as large while memory runs out, in one process (several would get out of step).

        Later waves start with the size that was found.
        """
        while True:
            try:
                return validator.run(self._model, rows, progress)
            except torch.OutOfMemoryError:
                size = min(validator.batch_size, len(rows) * validator.samples_per_prompt)
                if size == 1 or validator.accelerator.num_processes > 1:
                    raise
            validator = replace(validator, batch_size=size // 2)
            self._validator = replace(self._validator, batch_size=size // 2)
            if self._model.device.type == "cuda":
                torch.cuda.empty_cache()
            self._context.emit(
                Note(f"pilot: {size} completions at a time do not fit into memory, now {size // 2}")
            )
