"""The one validation loop: samples the rows with validation's own settings and grades them.

`rft create`, `rft train` and `rft validate` all use it. Rows are sorted by prompt length into batches of a fixed
size; batch k is sampled with seed + k by process k mod world size. So the samples do not depend on how many
processes share the work; they do on whether those shard the model, where no row leaves a batch early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from trl.models.utils import unwrap_model_for_generation

from rft_cli.grading.protocol import Grader
from rft_cli.training.context import JobContext
from rft_cli.training.distributed.group import agreed
from rft_cli.training.rollouts.engines.engine import SamplingEngine
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.rewards import grade_completions
from rft_cli.training.rollouts.sampling import SamplingSettings, sample
from rft_cli.training.stop_tokens import stop_tokens
from rft_cli.types import Example, Sample

OnProgress = Callable[[int, int], None]


def batches_of_rows(lengths: Sequence[int], samples_per_prompt: int, batch_size: int) -> list[list[int]]:
    """Row numbers in sampling order, by prompt length; each row is there `samples_per_prompt` times."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    rows = [row for row in order for _ in range(samples_per_prompt)]
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]


@dataclass(frozen=True, slots=True)
class Validator:
    """What a validation needs beside the model and the rows."""

    accelerator: Accelerator
    encoder: PromptEncoder
    grader: Grader
    settings: SamplingSettings
    samples_per_prompt: int
    batch_size: int
    seed: int
    shrinks: Callable[[], bool] | None = None
    """Whether rows that have ended may leave the batch, as training found out; None tries it on the model."""
    guard: Grader | None = None
    engine: SamplingEngine | None = None
    """What samples in place of the model itself; then the seed decides nothing."""
    gathers: bool = True
    """Whether a model that ZeRO-3 has partitioned is made whole to be sampled from."""

    def run(
        self, model: Any, examples: Sequence[Example], on_progress: OnProgress | None = None
    ) -> list[Sample]:
        """One `Sample` for each row and repeat, in the order of the rows, on every process."""
        prompts = self.encoder.encode(examples)
        batches = batches_of_rows([len(p) for p in prompts], self.samples_per_prompt, self.batch_size)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        shrink = None if self.shrinks is None else self.shrinks()
        mine: list[tuple[int, int, Sample]] = []
        unwrapped = self.accelerator.unwrap_model(model)
        was_training = unwrapped.training
        unwrapped.eval()
        version = None if self.engine is None else self.engine.load(unwrapped)
        whole = unwrap_model_for_generation(model, self.accelerator, gather_deepspeed3_params=self.gathers)
        with whole as generator, self.accelerator.autocast():
            for first in range(0, len(batches), world):
                number = first + rank
                # A spare process keeps step with the others.
                rows = batches[min(number, len(batches) - 1)]
                asked = [prompts[r] for r in rows]
                if self.engine is None:
                    ids = sample(generator, asked, self.settings, self.seed + number, sharded, shrink)
                else:
                    ids = self.engine.generate(asked, self.settings).ids
                own = number < len(batches)
                graded = agreed(partial(self._grade, rows, ids, examples) if own else list[Sample])
                mine += [
                    (s.row, number * self.batch_size + i, replace(s, version=version))
                    for i, s in enumerate(graded)
                ]
                if on_progress is not None:
                    done = sum(map(len, batches[: first + world]))
                    on_progress(done, len(prompts) * self.samples_per_prompt)
        if was_training:
            unwrapped.train()
        everyone: list[tuple[int, int, Sample]] = gather_object(mine)
        return [s for _, _, s in sorted(everyone, key=lambda entry: entry[:2])]

    def _grade(
        self, rows: Sequence[int], ids: Sequence[Sequence[int]], examples: Sequence[Example]
    ) -> list[Sample]:
        texts = self.encoder.tokenizer.batch_decode([list(i) for i in ids], skip_special_tokens=True)
        pairs = [(row, examples[row]) for row in rows]
        return grade_completions(self.grader, self.encoder, pairs, texts, ids, self.settings.stop, self.guard)


def validator_of(
    context: JobContext,
    model: Any,
    max_new_tokens: int,
    accelerator: Accelerator,
    shrinks: Callable[[], bool] | None = None,
) -> Validator:
    """The validation loop with the configuration's own sampling settings: the same in training and `rft validate`."""
    chosen, tokenizer = context.config.validation, context.tokenizer
    batch = chosen.batch_size
    return Validator(
        accelerator=accelerator,
        encoder=PromptEncoder.of(tokenizer, context.config),
        grader=context.grader,
        settings=SamplingSettings(
            max_new_tokens=max_new_tokens,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            stop=tuple(stop_tokens(model.config, model.generation_config, tokenizer)),
            pad=int(tokenizer.pad_token_id),
        ),
        samples_per_prompt=chosen.samples_per_prompt,
        batch_size=batch if not isinstance(batch, str) else (128 if accelerator.device.type == "cpu" else 64),
        seed=chosen.seed,
        shrinks=shrinks,
        guard=context.guard,
        engine=context.engine,
        gathers=context.config.distributed.gather_for_sampling,
    )
