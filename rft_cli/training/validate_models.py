"""`rft validate --model` and `--run`: sample and grade the validation rows without training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState

from rft_cli.config.schema import GraderConfig
from rft_cli.events import OnEvent, Progress
from rft_cli.grading.protocol import Grader
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
    revision = job.config.model.revision
    tuned = None if run is None else run.best_checkpoint()
    with _opened(job, on_event) as context:
        model = _on_device(job, find_model(base, revision))
        pilot = None
        if run is not None or job.config.pilot.prompts == 0:
            limit = limit_of(job.config, context.limits, None if run is None else run.read_pilot()).value
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

        constants = grade_constants(context.grader, after, job.validation.examples, progress)
        return ValidationOutcome(first, after, constants=constants)


def sample_best(job: Job, run: Run, on_event: OnEvent) -> list[Sample]:
    """Sample the validation rows from the best checkpoint of `run`, from its base where nothing beat that."""
    base, revision = job.config.model.path, job.config.model.revision
    best = run.best_checkpoint()
    with _opened(job, on_event) as context:
        source = find_model(base, revision) if best is None else tuned_source(best, base, revision)
        limit = limit_of(job.config, context.limits, run.read_pilot()).value
        return _sample(context, _on_device(job, source), run.name, limit)


@contextmanager
def _opened(job: Job, on_event: OnEvent) -> Iterator[JobContext]:
    """The job with its tokenizer and its open graders, which are closed at the end of the block."""
    quiet_libraries()
    lengths = check(job, trains=False)
    for note in lengths.notes:
        on_event(note)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rft-validate-")))
        grader = stack.enter_context(_open(job, job.config.grader, folder / "grader.log"))
        guard, second = None, job.config.grader.of_guard()
        if second is not None:
            guard = stack.enter_context(_open(job, second, folder / "guard.log"))
        yield JobContext(job, lengths.tokenizer, lengths.limits, grader, on_event, Stop(), guard)


def _open(job: Job, config: GraderConfig, log: Path) -> Grader:
    return open_grader(config, log_path=log, seed=job.config.seed, rows=job.shape())


def _pilot(context: JobContext, model: Any) -> PilotResult:
    """The model's pilot; it estimates the time of a job where there are rows to train on."""
    state = PartialState()
    facts = ModelFacts(count_parameters(model), False, state.device.type, state.num_processes, "float32")
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
