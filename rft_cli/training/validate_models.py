"""`rft validate --model` and `--run`: sample and grade the validation rows without training."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState

from rft_cli.events import OnEvent, Progress
from rft_cli.job import Job
from rft_cli.runs import Run
from rft_cli.runs.model_source import ModelSource, find_model, tuned_source
from rft_cli.stopping import Stop
from rft_cli.training import memory
from rft_cli.training.constant_completions import grade_constants
from rft_cli.training.context import JobContext
from rft_cli.training.graders import open_grader
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.main import check
from rft_cli.training.models import count_parameters, load_model, weights_dtype
from rft_cli.training.pilot import PilotResult, check_gate, run_pilot
from rft_cli.training.resolve import ModelFacts, limit_of, resolve
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

    One model alone has a pilot first, from which the limit of a completion comes; a run has its own.
    """
    quiet_libraries()
    revision = job.config.model.revision
    lengths = check(job, trains=False)
    for note in lengths.notes:
        on_event(note)
    tuned = None if run is None else run.best_checkpoint()
    with (
        tempfile.TemporaryDirectory(prefix="rft-validate-") as folder,
        open_grader(
            job.config.grader, log_path=Path(folder) / "grader.log", seed=job.config.seed, rows=job.shape()
        ) as grader,
    ):
        context = JobContext(job, lengths.tokenizer, lengths.limits, grader, on_event, Stop())
        model = _on_device(job, find_model(base, revision))
        pilot = None
        if run is not None or job.config.pilot.prompts == 0:
            limit = limit_of(job.config, lengths.limits, None if run is None else run.read_pilot()).value
        else:
            pilot = _pilot(context, model)
            limit = pilot.limit.value
        first = _sample(context, model, "base" if tuned is not None else "validation", limit)
        if tuned is None:
            return ValidationOutcome(None, first, None if pilot is None else pilot.document)
        model = _on_device(job, tuned_source(tuned, base, revision))
        after = _sample(context, model, "tuned", limit)

        def progress(done: int, total: int) -> None:
            on_event(Progress("one answer for all rows", done, total))

        constants = grade_constants(grader, after, job.validation.examples, progress)
        return ValidationOutcome(first, after, constants=constants)


def sample_best(job: Job, run: Run, on_event: OnEvent) -> list[Sample]:
    """The validation rows, answered by the run's best model with the job's settings, and graded."""
    quiet_libraries()
    lengths = check(job, trains=False)
    best, base = run.best_checkpoint(), find_model(job.config.model.path, job.config.model.revision)
    source = base if best is None else tuned_source(best, job.config.model.path, job.config.model.revision)
    with (
        tempfile.TemporaryDirectory(prefix="rft-validate-") as folder,
        open_grader(
            job.config.grader, log_path=Path(folder) / "grader.log", seed=job.config.seed, rows=job.shape()
        ) as grader,
    ):
        context = JobContext(job, lengths.tokenizer, lengths.limits, grader, on_event, Stop())
        limit = limit_of(job.config, lengths.limits, run.read_pilot()).value
        return _sample(context, _on_device(job, source), "run", limit)


def _pilot(context: JobContext, model: Any) -> PilotResult:
    """The model's pilot; it estimates the time of a job where there are rows to train on."""
    facts = ModelFacts(count_parameters(model), False, PartialState(), "float32")
    resolution = resolve(context.job, context.limits, facts)
    if context.job.train is context.job.validation:
        resolution = resolution._replace(course=None)
    found = run_pilot(context, model, resolution)
    check_gate(found, context.config, context.emit, stops=False)
    return found


def _sample(context: JobContext, model: Any, what: str, limit: int) -> list[Sample]:
    """The validation rows, answered by `model` and graded."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    validator = validator_of(context, model, limit, accelerator)

    def progress(done: int, total: int) -> None:
        context.emit(Progress(what, done, total))

    with memory.explain(memory.SAMPLING):
        return validator.run(model, context.job.validation.examples, progress)


def _on_device(job: Job, source: ModelSource) -> Any:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = weights_dtype(job.config.model.dtype, True, device)
    model: Any = load_model(source, job.config.model, dtype)
    with memory.explain(memory.WEIGHTS):
        return model.to(device).eval()
