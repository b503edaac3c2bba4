"""`rft export --verify`: the validation rows again, answered by the export in the engine that will serve it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from rft_cli.events import Note, OnEvent, Progress
from rft_cli.job import Job
from rft_cli.report.estimates import compare
from rft_cli.runs.exports import ExportPlan
from rft_cli.runs.model_source import find_model
from rft_cli.serving import llama_cpp
from rft_cli.stopping import Stop
from rft_cli.training import memory
from rft_cli.training.context import JobContext
from rft_cli.training.export.compare import GreedyCompletions
from rft_cli.training.graders import open_grader
from rft_cli.training.main import check
from rft_cli.training.models import load_config, load_model
from rft_cli.training.resolve import limit_of
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.rewards import grade_completions
from rft_cli.training.rollouts.sampling import SamplingSettings
from rft_cli.training.rollouts.validation import validator_of
from rft_cli.types import Comparison, Sample

REQUESTS = 4
"""Prompts that llama.cpp's server answers at once."""


@dataclass(frozen=True, slots=True)
class Greedy:
    """Prompts, and the greedy completions that the run's own model gives them."""

    prompts: Sequence[Sequence[int]]
    own: GreedyCompletions
    settings: SamplingSettings


@dataclass(frozen=True, slots=True)
class ExportReward:
    """The reward of the same rows: `reward.before` in the run, `reward.after` through `engine`.

    `greedy_equal` of `greedy_prompts` completions are those of the run's model; None where the export's check says it.
    """

    engine: str
    reward: Comparison
    greedy_prompts: int | None = None
    greedy_equal: int | None = None

    @property
    def agrees(self) -> bool:
        """Whether the paired difference could be 0."""
        low, high = self.reward.difference.ci95
        return low <= 0.0 <= high

    def to_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "reward": self.reward.to_json(),
            "agrees": self.agrees,
            "greedy_prompts": self.greedy_prompts,
            "greedy_equal": self.greedy_equal,
        }


def regrade(job: Job, plan: ExportPlan, folder: Path, greedy: Greedy, on_event: OnEvent) -> ExportReward:
    """Sample the validation rows from the export in `folder` with the run's settings, and grade them."""
    own = plan.run.read_samples(f"step-{plan.step:06d}")
    found = check(job, trains=False)
    with (
        tempfile.TemporaryDirectory(prefix="rft-verify-") as log,
        open_grader(
            job.config.grader, log_path=Path(log) / "grader.log", seed=job.config.seed, rows=job.shape()
        ) as grader,
    ):
        context = JobContext(job, found.tokenizer, found.limits, grader, on_event, Stop())
        limit = limit_of(job.config, found.limits, plan.run.read_pilot()).value
        if plan.format == "gguf":
            return _through_llama_cpp(context, plan, folder, own, limit, greedy)
        return ExportReward("transformers", compare(own, _through_transformers(context, folder, limit)))


def _through_transformers(context: JobContext, folder: Path, limit: int) -> list[Sample]:
    """The export as plain transformers loads it, an adapter over its base, in the precision of its files."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    context.emit(Note("asking the export, in transformers, the validation rows"))
    dtype = load_config(context.config.model.model_copy(update={"path": str(folder), "revision": None})).dtype
    model: Any = load_model(find_model(str(folder)), context.config.model, dtype or torch.float32)
    model = model.to(accelerator.device).eval()
    with memory.explain(memory.SAMPLING):
        rows = context.job.validation.examples
        return validator_of(context, model, limit, accelerator).run(model, rows, _progress(context))


def _through_llama_cpp(
    context: JobContext, plan: ExportPlan, folder: Path, own: Sequence[Sample], limit: int, greedy: Greedy
) -> ExportReward:
    """llama.cpp's server, asked with the same token ids."""
    from rft_cli.training.export.gguf_file.llama_server import serving

    (file,) = folder.glob("*.gguf")
    command = llama_cpp.server_command()
    assert command is not None
    context.emit(Note("asking the export, in llama.cpp's server, the validation rows"))
    chosen, tokenizer = context.config.validation, context.tokenizer
    stop = greedy.settings.stop
    settings = SamplingSettings(limit, chosen.temperature, chosen.top_p, stop, int(tokenizer.pad_token_id))
    encoder = PromptEncoder.of(tokenizer, context.config)
    rows = context.job.validation.examples
    prompts = encoder.encode(rows)
    asked = [row for row in range(len(rows)) for _ in range(chosen.samples_per_prompt)]
    progress = _progress(context)
    with serving(file, command) as server, ThreadPoolExecutor(REQUESTS) as pool:
        texts = pool.map(lambda prompt: server.complete(prompt, greedy.settings, chosen.seed), greedy.prompts)
        equal = sum(mine == theirs for mine, theirs in zip(greedy.own.completions, texts, strict=True))
        ids: list[list[int]] = []
        for completion in pool.map(
            lambda number: server.complete(prompts[asked[number]], settings, chosen.seed + number),
            range(len(asked)),
        ):
            ids.append(completion)
            progress(len(ids), len(asked))
    answers = tokenizer.batch_decode(ids, skip_special_tokens=True)
    graded = grade_completions(
        context.grader, encoder, [(row, rows[row]) for row in asked], answers, ids, stop
    )
    return ExportReward("llama.cpp", compare(own, graded), len(greedy.prompts), equal)


def _progress(context: JobContext) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        context.emit(Progress("export", done, total))

    return progress
