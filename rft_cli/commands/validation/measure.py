"""The two jobs of `rft validate`: the checklist, and the measured reward with its gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rft_cli.commands.job.preflight import Preflight, preflight
from rft_cli.commands.kept_completions import keep_completions
from rft_cli.commands.needs import MEASURE_NEEDS
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.terminal import print_json, results, stdout_to_stderr
from rft_cli.commands.validation.gates import Gates
from rft_cli.config.load import LoadedConfig
from rft_cli.console import (
    EventPrinter,
    choose_mode,
    print_checks,
    print_comparison,
    print_estimates,
    print_files,
)
from rft_cli.errors import RftError, UsageError, UsageErrors
from rft_cli.events import Note
from rft_cli.job import Job
from rft_cli.report.estimates import compare, compare_components, component_names, count_statuses, estimate
from rft_cli.report.pairs import Pair
from rft_cli.report.result import answers_json
from rft_cli.report.summary import SummaryRow, constant_rows
from rft_cli.report.verdict import answers_note, headline
from rft_cli.runs import Run
from rft_cli.types import Comparison, Estimate

SCHEMA = "rft.validate/1"


def check_job(settings: Settings, loaded: LoadedConfig, output: Output) -> None:
    """Print the checklist; raise what is wrong. A named config must be a whole job, flags may give parts of one."""
    if not settings.given("output_dir"):
        raise UsageError(
            "there is nothing to check", "give a CONFIG.yaml, or files with -t, -v and --reward-model"
        )
    with stdout_to_stderr():
        found = preflight(loaded.config, settings.needs(), loaded.origins)
        printer = EventPrinter("plain")
        notes = [*loaded.notes, *found.remarks()]
        for line in notes if not output.quiet else ():
            printer(Note(line))
    with results():
        if not output.json:
            print_checks(found.checks)
    for line in found.warnings:
        if line not in found.files.warnings:  # the checklist has those
            printer(Note(line, "warning"))
    problems = UsageErrors(found.problems) if found.problems else None
    with results():
        if output.json:
            print_json(_checklist(found, notes), problems)
    if problems is not None:
        raise problems


def _checklist(found: Preflight, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": "failed" if found.problems else "ok",
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in found.checks],
        "problems": [{"message": problem.message, "fix": problem.fix} for problem in found.problems],
        "warnings": found.warnings,
        "notes": list(notes),
    }


def measure(loaded: LoadedConfig, run: Run | None, gates: Gates, output: Output) -> None:
    """Sample and grade the validation rows, print the estimates, raise GateNotMet where a gate is not met.

    With `run`, the settings' model is its base, and its best checkpoint is measured against it.
    """
    with stdout_to_stderr(), EventPrinter(choose_mode(output.quiet)) as printer:
        found = preflight(loaded.config, MEASURE_NEEDS, loaded.origins)
        for line in loaded.notes:
            printer(Note(line))
        found.raise_problems()
        for line in found.notes():
            printer(Note(line))
        for line in found.warnings:
            printer(Note(line, "warning"))
        base, tuned = found.config.model.path, None if run is None else run.best_checkpoint()
        if run is not None and run.info["status"] != "finished":
            printer(Note(f"{run.path} did not finish: its status is {run.info['status']}", "warning"))
        elif run is not None and tuned is None:
            printer(Note(f"nothing beat the base in {run.path}: its best model is the base", "warning"))
        from rft_cli.training.validate import validate_models

        outcome = validate_models(_job(found), base, run, printer)
        sampled = {"completions": outcome.after}
        if outcome.before is not None:
            sampled = {"base": outcome.before, "tuned": outcome.after}
        beside = Path(found.config.output_dir) if run is None else run.path.parent
        rows = found.files.data["validation"].examples
        kept = keep_completions(beside, base, sampled, rows, lambda text: printer(Note(text, "warning")))
    pair = Pair("validation", outcome.before or outcome.after, outcome.after, outcome.constants)
    measured = _Measured(base, pair, run, outcome.pilot, kept)
    document = measured.document(gates)
    unmet: RftError | None = gates.error(document)
    with results():
        if output.json:
            print_json(document, unmet)
        else:
            measured.print()
    if unmet is not None:
        raise unmet


def _job(found: Preflight) -> Job:
    data = found.files.data
    # No training happens: the training rows need not be given.
    return Job(found.config, data.get("train", data["validation"]), data["validation"], data.get("test"))


@dataclass(frozen=True)
class _Measured:
    """The samples of one model, or of a run's base and best checkpoint."""

    base: str
    pair: Pair
    run: Run | None
    pilot: Mapping[str, Any] | None = None
    kept: Sequence[str] = ()

    @cached_property
    def reward(self) -> Comparison | Estimate:
        return estimate(self.pair.after) if self.run is None else compare(self.pair.before, self.pair.after)

    @cached_property
    def components(self) -> Mapping[str, Comparison | Estimate]:
        if self.run is None:
            return {name: estimate(self.pair.after, name) for name in component_names(self.pair.after)}
        return compare_components(self.pair.before, self.pair.after)

    def document(self, gates: Gates) -> dict[str, Any]:
        document: dict[str, Any] = {"schema": SCHEMA, "status": "ok", "model": self.base}
        if self.run is not None:
            document |= {"run": str(self.run.path), "best_step": self.run.info["best_step"]}
        document["validation"] = self.reward.to_json()
        if self.run is not None:
            document["validation"] |= answers_json(self.pair)
        document["components"] = {name: value.to_json() for name, value in self.components.items()}
        document["grader"] = count_statuses(
            [*([] if self.run is None else self.pair.before), *self.pair.after]
        )
        if self.pilot is not None:
            document["pilot"] = self.pilot
        document["completions"] = self.kept
        document["gates"] = gates.unmet(document)
        document["status"] = "gate not met" if document["gates"] else "ok"
        return document

    def print(self) -> None:
        rows = {"reward": self.reward, **self.components}
        if self.run is None:
            alone = {name: row for name, row in rows.items() if isinstance(row, Estimate)}
            print_estimates(f"validation rows, {self.base}", alone)
            print_files("completions", self.kept)
            return
        pairs = {name: row for name, row in rows.items() if isinstance(row, Comparison)}
        table = [SummaryRow(name, row.before, row.after, row.difference) for name, row in pairs.items()]
        answers = answers_note(self.pair)
        verdict = [] if self.pair.before is self.pair.after else [headline(pairs["reward"], self.pair)]
        print_comparison(
            f"{self.base} against step {self.run.info['best_step']} of {self.run.path}",
            [table[0], *constant_rows(self.pair), *table[1:]],
            notes=[*verdict, *([] if answers is None else [answers])],
        )
        print_files("completions", self.kept)
