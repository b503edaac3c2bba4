"""`rft validate --model` and `--run`: the mean reward on the validation rows, and the gates on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rft_cli.commands.grading.saved_completions import save_completions
from rft_cli.commands.job.preflight import Preflight, preflight
from rft_cli.commands.needs import MEASURE_NEEDS
from rft_cli.commands.settings import Output
from rft_cli.commands.signals import imports_whole
from rft_cli.commands.terminal import stdout_to_stderr
from rft_cli.commands.validation.checklist import SCHEMA
from rft_cli.commands.validation.conclude import conclude
from rft_cli.commands.validation.gates import Gates
from rft_cli.config.load import LoadedConfig
from rft_cli.console import EventPrinter, choose_mode, print_comparison, print_estimates, print_files
from rft_cli.events import Note
from rft_cli.job import Job
from rft_cli.report.conclusions import answers_note, headline
from rft_cli.report.estimates import compare, compare_components, component_names, count_statuses, estimate
from rft_cli.report.guard import compare_guard, guard_estimate
from rft_cli.report.pairs import Pair
from rft_cli.report.result import answers_json
from rft_cli.report.summary import SummaryRow, constant_rows
from rft_cli.runs import Run
from rft_cli.types import Comparison, Estimate


def measure(loaded: LoadedConfig, run: Run | None, gates: Gates, output: Output) -> None:
    """Sample and grade the validation rows, print the estimates, raise GateNotMet if a gate is not met.

    With `run`, the settings' model is its base, and its best checkpoint is measured against it.
    """
    with stdout_to_stderr(), EventPrinter(choose_mode(output.quiet, progress=output.progress)) as printer:
        measured = _sample(loaded, run, printer)
    conclude(measured.document(), gates, output, measured.print)


def checked(loaded: LoadedConfig, needs: Sequence[str], printer: EventPrinter) -> Preflight:
    """The preflight, with its notes and warnings shown; UsageErrors with its problems."""
    found = preflight(loaded.config, needs, loaded.origins)
    for line in loaded.notes:
        printer(Note(line))
    found.raise_problems()
    for line in found.notes():
        printer(Note(line))
    for line in found.warnings:
        printer(Note(line, "warning"))
    return found


def _sample(loaded: LoadedConfig, run: Run | None, printer: EventPrinter) -> _Measured:
    found = checked(loaded, MEASURE_NEEDS, printer)
    base = found.config.model.path
    if run is not None and run.info["status"] != "finished":
        printer(Note(f"{run.path} did not finish: its status is {run.info['status']}", "warning"))
    elif run is not None and run.best_checkpoint() is None:
        printer(Note(f"nothing beat the base in {run.path}: its best model is the base", "warning"))
    with imports_whole():
        from rft_cli.training.validate_models import validate_models

    outcome = validate_models(job_of(found), base, run, printer)
    sampled = {"completions": outcome.after}
    if outcome.before is not None:
        sampled = {"base": outcome.before, "tuned": outcome.after}
    beside = Path(found.config.output_dir) if run is None else run.path.parent
    rows = found.files.data["validation"].examples
    kept = save_completions(beside, base, sampled, rows, lambda text: printer(Note(text, "warning")))
    pair = Pair("validation", outcome.before or outcome.after, outcome.after, outcome.constants)
    return _Measured(base, pair, run, outcome.pilot, kept)


def job_of(found: Preflight) -> Job:
    """The job of settings that were checked, whose training rows may be missing."""
    data = found.files.data
    # No training happens: the training rows need not be given.
    return Job(found.config, data.get("train", data["validation"]), data["validation"], data.get("test"))


@dataclass(frozen=True)
class _Measured:
    """The samples of one model, or of a run's base and best checkpoint."""

    base: str
    pair: Pair
    run: Run | None
    pilot: Mapping[str, Any] | None
    kept: Sequence[str]

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Reward and components of the one model."""
        names = component_names(self.pair.after)
        return {"reward": estimate(self.pair.after), **{n: estimate(self.pair.after, n) for n in names}}

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """Reward and components, the base against the best checkpoint."""
        before, after = self.pair.before, self.pair.after
        return {"reward": compare(before, after), **compare_components(before, after)}

    @cached_property
    def guard(self) -> Estimate | Comparison | None:
        """What the second grader says of the same completions; None without one."""
        if self.run is None:
            return guard_estimate(self.pair.after)
        return compare_guard(self.pair.before, self.pair.after)

    def document(self) -> dict[str, Any]:
        rows = self.estimates if self.run is None else self.comparisons
        figures = {name: row.to_json() for name, row in rows.items()}
        document: dict[str, Any] = {"schema": SCHEMA, "status": "ok", "model": self.base}
        samples = [*self.pair.after]
        if self.run is None:
            document["validation"] = figures.pop("reward")
        else:
            samples += self.pair.before
            document |= {"run": str(self.run.path), "best_step": self.run.info["best_step"]}
            document["validation"] = figures.pop("reward") | answers_json(self.pair)
        if self.guard is not None:
            document["guard"] = self.guard.to_json()
        document |= {"components": figures, "grader": count_statuses(samples)}
        if self.pilot is not None:
            document["pilot"] = self.pilot
        document["completions"] = self.kept
        return document

    def print(self) -> None:
        """The table of the one model, or of the comparison."""
        if self.run is None:
            self._print_estimates()
        else:
            self._print_comparison(self.run)
        print_files("completions", self.kept)

    def _print_estimates(self) -> None:
        guard = {"guard": self.guard} if isinstance(self.guard, Estimate) else {}
        print_estimates(f"validation rows, {self.base}", {**self.estimates, **guard})

    def _print_comparison(self, run: Run) -> None:
        found = self.comparisons
        reward, *components = [_row(name, row) for name, row in found.items()]
        answers = answers_note(self.pair)
        guard = [_row("guard", self.guard)] if isinstance(self.guard, Comparison) else []
        verdict = [] if self.pair.before is self.pair.after else [headline(found["reward"], self.pair)]
        print_comparison(
            f"{self.base} against step {run.info['best_step']} of {run.path}",
            [reward, *constant_rows(self.pair), *guard, *components],
            notes=[*verdict, *([] if answers is None else [answers])],
        )


def _row(name: str, found: Comparison) -> SummaryRow:
    return SummaryRow(name, found.before, found.after, found.difference)
