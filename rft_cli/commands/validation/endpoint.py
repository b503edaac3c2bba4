"""`rft validate --endpoint`: the validation rows through an OpenAI-compatible endpoint, beside the run's own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft_cli.commands.grading.saved_completions import save_completions
from rft_cli.commands.job.preflight import Preflight
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.terminal import stdout_to_stderr
from rft_cli.commands.validation.asked_endpoint import AskedEndpoint
from rft_cli.commands.validation.checklist import SCHEMA
from rft_cli.commands.validation.conclude import conclude
from rft_cli.commands.validation.gates import Gates
from rft_cli.commands.validation.measure import checked
from rft_cli.commands.validation.runs import open_run, settings_of
from rft_cli.config import RunConfig
from rft_cli.config.load import load_own
from rft_cli.console import EventPrinter, choose_mode, print_comparison, print_estimates, print_files
from rft_cli.errors import UsageError
from rft_cli.events import Note, Progress
from rft_cli.grading.judge.endpoint import Endpoint
from rft_cli.grading.shape import shape_of
from rft_cli.job import Job
from rft_cli.report.estimates import compare, compare_components, component_names, count_statuses, estimate
from rft_cli.report.summary import SummaryRow
from rft_cli.runs import Run
from rft_cli.serving.model import defaults_of_run
from rft_cli.types import Example, Grade, GradeError, GradeRequest, Sample

# It needs the openai package, an extra.
if TYPE_CHECKING:
    from rft_cli.serving.asking import Asking, EndpointReply

NEEDS = ("validation", "grader")


def measure_endpoint(
    asked: AskedEndpoint, refs: Sequence[str], settings: Settings, gates: Gates, output: Output
) -> None:
    """Ask the endpoint for the validation rows, grade them, print the estimates; GateNotMet if a gate is not met.

    With a run, settings not given are its own, and what its best model writes for the same rows is compared.
    """
    endpoint = asked.endpoint()
    run = _one_run(refs, settings)
    loaded = (settings if run is None else settings_of(run, settings)).load(NEEDS)
    with stdout_to_stderr(), EventPrinter(choose_mode(output.quiet, progress=output.progress)) as printer:
        found = checked(loaded, NEEDS, printer)
        measured = _measure(found, run, asked, endpoint, printer)
    conclude(measured.document(), gates, output, measured.print)


def _one_run(refs: Sequence[str], settings: Settings) -> Run | None:
    if len(refs) > 1:
        raise UsageError(f"--run was given {len(refs)} times", "compare an endpoint with one run")
    return open_run(refs[0], settings) if refs else None


def _measure(
    found: Preflight, run: Run | None, asked: AskedEndpoint, endpoint: Endpoint, printer: EventPrinter
) -> _EndpointMeasured:
    config, rows = found.config, found.files.data["validation"].examples
    repeats = config.validation.samples_per_prompt
    numbers = [row for row in range(len(rows)) for _ in range(repeats)]
    try:
        from rft_cli.serving.asking import ask_rows
    except ImportError:
        fix = "pip install 'rft-cli[serve]'"
        raise UsageError("--endpoint needs the openai package, which is not installed", fix) from None
    asking = _asking(config, run, asked, endpoint)
    received = ask_rows(
        asking, [rows[row] for row in numbers], lambda done, total: printer(Progress("endpoint", done, total))
    )
    samples = _graded(config, [(row, rows[row]) for row in numbers], received)
    lost = [one.error for one in received if one.error is not None]
    if lost:
        printer(Note(f"{len(lost)} of {len(received)} requests got no completion: {lost[0]}", "warning"))
    beside = Path(config.output_dir) if run is None else run.path.parent
    kept = save_completions(
        beside, asked.model, {"completions": samples}, rows, lambda text: printer(Note(text, "warning"))
    )
    own = None if run is None else _own_samples(run, found, printer)
    return _EndpointMeasured(asked, run, own, samples, kept, asking)


def _asking(config: RunConfig, run: Run | None, asked: AskedEndpoint, endpoint: Endpoint) -> Asking:
    from rft_cli.serving.asking import Asking

    return Asking(
        endpoint=endpoint,
        model=asked.model,
        sampling=defaults_of_run(config, None if run is None else run.read_pilot()),
        as_text=config.data.prompt == "text",
        concurrency=asked.concurrency,
        timeout_s=asked.timeout_s,
        failure_rate=config.grader.max_failure_rate,
    )


def _graded(
    config: RunConfig, rows: Sequence[tuple[int, Example]], received: Sequence[EndpointReply]
) -> list[Sample]:
    """A sample for each row; one that got no completion has a failed grade."""
    from rft_cli.training.graders import open_grader

    shape = shape_of((example for _, example in rows), config.data.columns)
    there = [place for place, one in enumerate(received) if one.error is None]
    requests = [
        GradeRequest(
            received[place].text,
            rows[place][1].fields,
            {"completion_tokens": received[place].tokens, "truncated": received[place].truncated},
            rows[place][1].asked(),
        )
        for place in there
    ]
    with (
        tempfile.TemporaryDirectory(prefix="rft-validate-") as folder,
        open_grader(
            config.grader, log_path=Path(folder) / "grader.log", seed=config.seed, rows=shape
        ) as grader,
    ):
        if grader.needs_ids:
            raise UsageError(
                f"{config.grader.shown} grades token ids, which an endpoint does not give",
                "grade with another scorer: --reward-model",
            )
        grades = dict(zip(there, grader.grade(requests), strict=True))
    return [
        Sample(
            row,
            example.id,
            example.prompt_text(),
            one.text,
            one.tokens,
            one.truncated,
            grades.get(place) or Grade("failed", error=GradeError("endpoint", one.error or "")),
        )
        for place, ((row, example), one) in enumerate(zip(rows, received, strict=True))
    ]


def _own_samples(run: Run, found: Preflight, printer: EventPrinter) -> list[Sample]:
    """The run's best model on these rows: as its validation kept it, or sampled now where that had other settings."""
    name = f"step-{run.info['best_step'] or 0:06d}"
    data, rows = found.files.data, found.files.data["validation"].examples
    if run.has_samples(name) and load_own(run.path).config.validation == found.config.validation:
        samples = run.read_samples(name)
        kept = {sample.row: sample.prompt for sample in samples}
        if kept == {number: row.prompt_text() for number, row in enumerate(rows)}:
            return samples
    printer(Note("sampling the run's own model too: its validation had other settings or other rows"))
    from rft_cli.training.validate_models import sample_best

    job = Job(found.config, data.get("train", data["validation"]), data["validation"])
    return sample_best(job, run, printer)


@dataclass(frozen=True)
class _EndpointMeasured:
    """The endpoint's samples; `own` are the run's of the same rows."""

    asked: AskedEndpoint
    run: Run | None
    own: Sequence[Sample] | None
    samples: Sequence[Sample]
    kept: Sequence[str]
    asking: Asking

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"schema": SCHEMA, "status": "ok", "model": self.asked.model}
        document["endpoint"] = self.asked.url
        if self.run is not None:
            document["run"] = str(self.run.path)
        if self.own is None:
            figures: dict[str, Any] = {n: e.to_json() for n, e in self._estimates().items()}
        else:
            figures = {row.label: _json(row) for row in self._rows(self.own)}
            document["same_completions"] = _same(self.own, self.samples)
        document["validation"] = figures.pop("reward")
        document |= {"components": figures, "grader": count_statuses(self.samples)}
        document["sampling"] = {
            "temperature": self.asking.sampling.temperature,
            "top_p": self.asking.sampling.top_p,
            "max_completion_tokens": self.asking.sampling.max_tokens,
        }
        document["completions"] = list(self.kept)
        return document

    def print(self) -> None:
        name = f"{self.asked.model} at {self.asked.url}"
        if self.own is None or self.run is None:
            print_estimates(f"validation rows, {name}", self._estimates())
        else:
            rows = self._rows(self.own)
            print_comparison(
                f"{self.run.path} itself (before) and {name} (after)",
                rows,
                notes=[self._verdict(rows[0])],
            )
        print_files("completions", self.kept)

    def _verdict(self, reward: SummaryRow) -> str:
        low, high = reward.difference.ci95
        same = _same(self.own or (), self.samples)
        text = "The endpoint's reward is that of the run, within the interval of the paired difference."
        if not low <= 0 <= high:
            text = f"The endpoint's reward differs from the run's by {reward.difference.mean:+.3f}."
        return f"{text} {same} of {len(self.samples)} completions are the same."

    def _estimates(self) -> dict[str, Any]:
        names = component_names(self.samples)
        return {"reward": estimate(self.samples), **{n: estimate(self.samples, n) for n in names}}

    def _rows(self, own: Sequence[Sample]) -> list[SummaryRow]:
        found = {"reward": compare(own, self.samples), **compare_components(own, self.samples)}
        return [SummaryRow(name, each.before, each.after, each.difference) for name, each in found.items()]


def _json(row: SummaryRow) -> dict[str, Any]:
    return {
        "before": row.before.to_json(),
        "after": row.after.to_json(),
        "difference": row.difference.to_json(),
    }


def _same(own: Sequence[Sample], others: Sequence[Sample]) -> int:
    """How many of the others' completions are, for their row, one of the run's own."""
    texts = {(sample.row, sample.completion) for sample in own}
    return sum((sample.row, sample.completion) in texts for sample in others)
