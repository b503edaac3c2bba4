"""`rft validate --model` and `--run`: sample and grade the validation rows without training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from rft_cli.events import OnEvent, Progress
from rft_cli.job import Job
from rft_cli.runs.sources import ModelSource, find_model, tuned_source
from rft_cli.training import auto, quiet
from rft_cli.training.graders import open_grader
from rft_cli.training.main import Lengths, check
from rft_cli.training.models import load_model, weights_dtype
from rft_cli.training.rollouts.validation import Validator, validator_of
from rft_cli.types import Sample


@dataclass(frozen=True, slots=True)
class ValidationOutcome:
    """The same rows, sampled with the same seeds: `before` from the base, None where only one model was asked for."""

    before: list[Sample] | None
    after: list[Sample]


def validate_models(job: Job, base: str, tuned: Path | None, on_event: OnEvent) -> ValidationOutcome:
    """Sample the validation rows from `base`, and from the checkpoint `tuned` where there is one."""
    quiet.libraries()
    revision = job.config.model.revision
    lengths = check(job)
    with (
        tempfile.TemporaryDirectory(prefix="rft-validate-") as folder,
        open_grader(job.config.grader, log_path=Path(folder) / "grader.log", seed=job.config.seed) as grader,
    ):

        def measure(source: ModelSource, what: str) -> list[Sample]:
            model = _on_device(job, source)
            return _validator(job, lengths, model, grader).run(
                model, job.validation.examples, lambda done, total: on_event(Progress(what, done, total))
            )

        first = measure(find_model(base, revision), "base" if tuned is not None else "validation")
        if tuned is None:
            return ValidationOutcome(None, first)
        return ValidationOutcome(first, measure(tuned_source(tuned, base, revision), "tuned"))


def _on_device(job: Job, source: ModelSource) -> Any:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = weights_dtype(job.config.model.dtype, True, device)
    model: Any = load_model(source, job.config.model, dtype)
    return model.to(device).eval()


def _validator(job: Job, lengths: Lengths, model: Any, grader: Any) -> Validator:
    limit = auto.max_completion_tokens(
        job.config.rollout.max_completion_tokens,
        lengths.context,
        lengths.longest_prompt,
        lengths.longest_reference,
    ).value
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    return validator_of(job.config, lengths.tokenizer, model, limit, accelerator, grader)


__all__: Sequence[str] = ["ValidationOutcome", "validate_models"]
