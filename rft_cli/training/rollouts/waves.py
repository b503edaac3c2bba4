"""The pilot's completions: the base model answers a few training prompts as in training, and they are graded.

They are sampled in waves, each the same whatever the number of processes:

1. one completion a prompt, with a generous limit, where the limit is to be found; once all but an eighth have ended,
   the others get twice the longest length of those, which is what the limit would come to;
2. the rest of each prompt's group, with the limit that the first lengths give (a quarter of the prompts where most
   completions of the first wave were cut: a model that rambles would cost minutes);
   Under sft the first wave is all: nobody compares the completions of a group.
3. only where no prompt has two different rewards, though completions do end: up to three times as many further
   prompts, a wave each, until one has. A reward that is rare must not stop a job that could learn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState
from transformers import PreTrainedTokenizerBase

from rft_cli.config import RunConfig
from rft_cli.events import Note, OnEvent, Progress
from rft_cli.grading.protocol import Grader
from rft_cli.grading.stats import FailureMonitor
from rft_cli.report import pilot as report
from rft_cli.training import auto
from rft_cli.training.models import count_parameters
from rft_cli.training.rollouts.rewards import trainable
from rft_cli.training.rollouts.validation import Validator, validator_of
from rft_cli.types import Example, Sample

MOST_TIMES = 4
"""Times `pilot.prompts` that are answered before a job is stopped for a reward that never differs."""
MOSTLY_CUT = 0.5
PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Room:
    """What limits a completion: the model's context and the longest prompt, in tokens; under sft the references too."""

    context: int
    longest_prompt: int
    taught: auto.Taught | None = None

    @property
    def tokens(self) -> int:
        return self.context - self.longest_prompt


@dataclass
class Sampled:
    """All completions of the pilot, and the seconds that sampling and grading took in the waves of whole groups."""

    samples: list[Sample] = field(default_factory=list)
    rollout_s: float = 0.0
    grading_s: float = 0.0
    timed: int = 0


class _Timed:
    """A grader that knows how long it took."""

    def __init__(self, grader: Grader) -> None:
        self._grader = grader
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grader, name)

    def grade(self, requests: Sequence[Any]) -> Any:
        """The grades, timed."""
        started = perf_counter()
        try:
            return self._grader.grade(requests)
        finally:
            self.seconds += perf_counter() - started


class Waves:
    """One pilot's. `room`: what limits completions. `check_stop` is called between batches, by all processes."""

    def __init__(
        self,
        config: RunConfig,
        tokenizer: PreTrainedTokenizerBase,
        model: Any,
        room: Room,
        grader: Grader,
        on_event: OnEvent,
        check_stop: Callable[[], None],
    ) -> None:
        self._config, self._model, self._room = config, model, room
        self._on_event, self._check_stop = on_event, check_stop
        self._grader = cast(Any, _Timed(grader))
        self._monitor = FailureMonitor(config.grader.max_failure_rate)
        device = PartialState().device
        self._generous = auto.generous_limit(device.type)
        self.generous = min(self._generous, room.tokens)
        validator = validator_of(
            config,
            tokenizer,
            model,
            self.generous,
            Accelerator(cpu=device.type == "cpu"),
            self._grader,
        )
        self._validator = replace(validator, seed=config.seed)
        self._waves = 0
        self.widest = 0
        self.sampled = Sampled()

    def run(self, examples: Sequence[Example]) -> Sampled:
        """Sample and grade completions of these rows; on every process the same. `Sample.row` counts in `examples`."""
        self._first_rounds(examples)
        return self.sampled

    def limit(self) -> auto.Chosen[int]:
        """The limit of a completion in training, by what was seen so far."""
        samples, room = self.sampled.samples, self._room
        seen = auto.Seen(sorted(s.tokens for s in samples if not s.truncated), len(samples), self._generous)
        setting = self._config.rollout.max_completion_tokens
        if isinstance(setting, str) and room.taught is not None:
            return auto.taught_limit(room.context, room.longest_prompt, seen, room.taught)
        return auto.max_completion_tokens(setting, room.context, room.longest_prompt, seen)

    def _first_rounds(self, examples: Sequence[Example]) -> None:
        config, group = self._config, self._config.completions_a_prompt
        order = list(range(len(examples)))
        random.Random(config.seed).shuffle(order)
        first, rest = order[: config.pilot.prompts], order[config.pilot.prompts :]
        if config.teaches:  # nothing is compared within a group, and no reward stops the job
            self._wave(examples, first, 1, self.generous, whole=True, patience=PATIENCE)
            return
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

    def _needs_more(self) -> bool:
        """Whether nothing can be learned from what was seen, and more of it may show otherwise.

        Not of a model that never ends a completion, but where the limit was chosen: a word of one token may be enough.
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
        """`times` completions of each of the rows at `places`."""
        # Under sft the pilot samples as validations do: there are no other completions.
        config = self._config
        how = config.validation if config.teaches else config.rollout
        settings = replace(
            self._validator.settings,
            max_new_tokens=limit,
            temperature=auto.temperature(how.temperature, count_parameters(self._model)).value,
            top_p=how.top_p,
            patience=patience,
        )
        validator: Validator = replace(
            self._validator,
            settings=settings,
            samples_per_prompt=times,
            seed=self._config.seed + 1000 * self._waves,
        )
        self._waves += 1
        self.widest = max(self.widest, limit)
        done_before, graded_before = len(self.sampled.samples), self._grader.seconds
        total = done_before + len(places) * times

        def progress(done: int, _total: int) -> None:
            self._on_event(Progress("pilot", done_before + done, total))
            self._check_stop()

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
        """The samples, in batches half as large while memory runs out (several processes would lose one another).

        Later waves begin with the size that was found.
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
            self._on_event(
                Note(f"pilot: {size} completions at a time do not fit into memory, now {size // 2}")
            )
