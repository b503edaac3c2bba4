"""`rft validate --run A --run B`: the best checkpoints of two runs on the same rows, under one grader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rft_cli.commands.grading.saved_completions import save_completions
from rft_cli.commands.needs import MEASURE_NEEDS
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.terminal import stdout_to_stderr
from rft_cli.commands.validation.checklist import SCHEMA
from rft_cli.commands.validation.conclude import conclude
from rft_cli.commands.validation.gates import Gates
from rft_cli.commands.validation.measure import checked, job_of
from rft_cli.config.flat import flat, with_settings
from rft_cli.config.load import LoadedConfig
from rft_cli.console import EventPrinter, choose_mode, print_comparison, print_files
from rft_cli.errors import UsageError
from rft_cli.events import Note
from rft_cli.report.estimates import compare, compare_components, count_statuses
from rft_cli.report.guard import compare_guard
from rft_cli.report.summary import SummaryRow
from rft_cli.runs import Run
from rft_cli.runs.model_source import revision_of
from rft_cli.types import Comparison, Example, Sample

SHARED = ("data.", "grader.", "validation.")
"""Settings that both runs are measured with: those of the first run, or those given now."""


@dataclass(frozen=True, slots=True)
class _BestOfRun:
    """One run with the completions of its best checkpoint."""

    run: Run
    samples: Sequence[Sample]


def measure_two(first: str, second: str, settings: Settings, gates: Gates, output: Output) -> None:
    """Sample the validation rows from both runs' best checkpoints and print the paired difference, second less first.

    Rows, grader and validation settings are the first run's where no others are given. Raises GateNotMet if a gate is
    not met: --min-gain is on the difference, --min-reward on the second run.
    """
    parent = settings.overrides["output_dir"] or "runs"
    runs = [Run.open(ref, parent) for ref in (first, second)]
    if runs[0].path.resolve() == runs[1].path.resolve():
        raise UsageError(f"--run names {first} twice", "name two runs, or one to measure it against its base")
    with stdout_to_stderr(), EventPrinter(choose_mode(output.quiet, progress=output.progress)) as printer:
        shared = _load(runs[0], settings, None)
        one, rows = _sample(runs[0], shared, printer)
        two, _ = _sample(runs[1], _load(runs[1], settings, shared), printer)
        sampled = {"first": one.samples, "second": two.samples}
        kept = save_completions(
            runs[0].path.parent, "two-runs", sampled, rows, lambda text: printer(Note(text, "warning"))
        )
    found = _comparisons(one, two)
    document = _document(one, two, found, kept)
    conclude(document, gates, output, lambda: _print(one, two, found, kept))


def _load(run: Run, settings: Settings, shared: LoadedConfig | None) -> LoadedConfig:
    """The run's settings, those that both are measured with from `shared`, with the run's own base model."""
    file = str(run.path / "config.yaml") if shared is not None or settings.file is None else settings.file
    overrides = {**settings.overrides, "model.path": run.info["model"], "model.revision": revision_of(run)}
    loaded = Settings(file, overrides, settings.sets).load(MEASURE_NEEDS)
    if shared is None:
        return loaded
    same = {key: value for key, value in flat(shared.config).items() if key.startswith(SHARED)}
    return replace(loaded, config=with_settings(loaded.config, same))


def _sample(run: Run, loaded: LoadedConfig, printer: EventPrinter) -> tuple[_BestOfRun, Sequence[Example]]:
    found = checked(loaded, MEASURE_NEEDS, printer)
    if run.best_checkpoint() is None:
        printer(Note(f"nothing beat the base in {run.path}: its base is measured", "warning"))
    from rft_cli.training.validate_models import sample_best

    return _BestOfRun(run, sample_best(job_of(found), run, printer)), found.files.data["validation"].examples


def _comparisons(one: _BestOfRun, two: _BestOfRun) -> dict[str, Comparison]:
    guard = compare_guard(one.samples, two.samples)
    return {
        "reward": compare(one.samples, two.samples),
        **({} if guard is None else {"guard": guard}),
        **compare_components(one.samples, two.samples),
    }


def _document(
    one: _BestOfRun, two: _BestOfRun, found: dict[str, Comparison], kept: Sequence[str]
) -> dict[str, Any]:
    figures = {name: row.to_json() for name, row in found.items()}
    return {
        "schema": SCHEMA,
        "status": "ok",
        "runs": [
            {"run": str(side.run.path), "best_step": int(side.run.info.get("best_step") or 0)}
            for side in (one, two)
        ],
        "validation": figures.pop("reward"),
        "components": figures,
        "grader": count_statuses([*one.samples, *two.samples]),
        "completions": list(kept),
    }


def _print(one: _BestOfRun, two: _BestOfRun, found: dict[str, Comparison], kept: Sequence[str]) -> None:
    low, high = found["reward"].difference.ci95
    first, second = one.run.name, two.run.name
    said = f"{second} and {first} can't be told apart: the interval of their difference includes 0."
    if low > 0:
        said = f"{second} is better than {first} on these rows."
    elif high < 0:
        said = f"{second} is worse than {first} on these rows."
    print_comparison(
        f"{first} (first) and {second} (second), each its best checkpoint",
        [SummaryRow(name, row.before, row.after, row.difference) for name, row in found.items()],
        notes=[said],
        sides=("first", "second"),
    )
    print_files("completions", kept)
