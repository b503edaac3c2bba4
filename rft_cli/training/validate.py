"""`rft validate --model` and `--run`: sample and grade the validation rows without training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from rft_cli.events import OnEvent, Progress
from rft_cli.job import Job
from rft_cli.runs import Run
from rft_cli.runs.model_source import ModelSource, find_model, tuned_source
from rft_cli.training import memory, quiet, schedule
from rft_cli.training.constants import grade_constants
from rft_cli.training.graders import open_grader
from rft_cli.training.main import check
from rft_cli.training.models import count_parameters, load_model, weights_dtype
from rft_cli.training.pilot import gate, limit_of, look
from rft_cli.training.rollouts.validation import validator_of
from rft_cli.types import Sample


@dataclass(frozen=True, slots=True)
class ValidationOutcome:
    """The same rows, sampled with the same seeds: `before` from the base, None where only one model was asked for.

    `pilot` is the document of the one model's pilot, None where there was none.
    `constants`: where there are two, the most frequent completions of `after`, each on every row.
    """

    before: list[Sample] | None
    after: list[Sample]
    pilot: dict[str, Any] | None = None
    constants: list[Sample] = field(default_factory=list)


def validate_models(job: Job, base: str, run: Run | None, on_event: OnEvent) -> ValidationOutcome:
    """Sample the validation rows from `base`, and from the best checkpoint of `run` where there is one.

    One model alone answers a pilot first, from which the limit of a completion comes; a run has its own.
    """
    quiet.libraries()
    revision = job.config.model.revision
    lengths = check(job, trains=False)
    lengths.findings.tell(on_event)
    tuned = None if run is None else run.best_checkpoint()
    with (
        tempfile.TemporaryDirectory(prefix="rft-validate-") as folder,
        open_grader(
            job.config.grader, log_path=Path(folder) / "grader.log", seed=job.config.seed, rows=job.shape()
        ) as grader,
    ):

        def measure(model: Any, what: str, limit: int) -> list[Sample]:
            accelerator = Accelerator(cpu=not torch.cuda.is_available())
            validator = validator_of(job.config, lengths.tokenizer, model, limit, accelerator, grader)
            with memory.told(memory.SAMPLING):
                return validator.run(
                    model, job.validation.examples, lambda done, total: on_event(Progress(what, done, total))
                )

        model = _on_device(job, find_model(base, revision))
        if run is not None or job.config.pilot.prompts == 0:
            seen = None
            limit = limit_of(job.config, lengths.room, None if run is None else run.read_pilot()).value
        else:
            seen = look(
                job.config, model, lengths.tokenizer, lengths.room, job.train.examples, grader, on_event,
                lambda: None,
                None if job.train is job.validation else schedule.course_of(job, count_parameters(model), 1),
            )  # fmt: skip
            gate(seen, job.config, on_event, stops=False)
            limit = seen.limit.value
        first = measure(model, "base" if tuned is not None else "validation", limit)
        if tuned is None:
            return ValidationOutcome(None, first, None if seen is None else seen.document)
        model = _on_device(job, tuned_source(tuned, base, revision))
        after = measure(model, "tuned", limit)
        constants = grade_constants(
            grader,
            after,
            job.validation.examples,
            lambda done, total: on_event(Progress("one answer for all rows", done, total)),
        )
        return ValidationOutcome(first, after, constants=constants)


def _on_device(job: Job, source: ModelSource) -> Any:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = weights_dtype(job.config.model.dtype, True, device)
    model: Any = load_model(source, job.config.model, dtype)
    with memory.told(memory.WEIGHTS):
        return model.to(device).eval()


__all__: Sequence[str] = ["ValidationOutcome", "validate_models"]
