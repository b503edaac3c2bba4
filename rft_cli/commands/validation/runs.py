"""`rft validate --run`: a run against its base, or two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rft_cli.commands.needs import MEASURE_NEEDS
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.validation.gates import Gates
from rft_cli.errors import UsageError

if TYPE_CHECKING:
    from rft_cli.runs import Run


def measure_runs(refs: Sequence[str], settings: Settings, gates: Gates, output: Output) -> None:
    """Measure the one run against its base, or the second of two against the first."""
    if len(refs) > 2:
        raise UsageError(
            f"--run was given {len(refs)} times: two runs at most are sampled and compared",
            f"compare what the runs have measured themselves: rft compare {' '.join(refs)}",
        )
    if len(refs) == 2:
        from rft_cli.commands.validation.two_runs import measure_two

        measure_two(refs[0], refs[1], settings, gates, output)
        return
    from rft_cli.commands.validation.measure import measure

    run = open_run(refs[0], settings)
    measure(settings_of(run, settings).load(MEASURE_NEEDS), run, gates, output)


def open_run(ref: str, settings: Settings) -> Run:
    """The run of this name or path."""
    from rft_cli.runs import Run

    return Run.open(ref, settings.overrides["output_dir"] or "runs")


def settings_of(run: Run, settings: Settings) -> Settings:
    """The run's own settings where no other file is given; flags win over both."""
    from rft_cli.runs.model_source import revision_of

    file = settings.file or str(run.path / "config.yaml")
    overrides = {**settings.overrides, "model.path": run.info["model"], "model.revision": revision_of(run)}
    return Settings(file, overrides, settings.sets)
