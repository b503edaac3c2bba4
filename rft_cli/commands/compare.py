"""`rft compare`: two to five runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from rft_cli.commands import flags, terminal

RunArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Runs: names, paths, or latest.", autocompletion=flags.complete_run
    ),
]


def compare(
    runs: RunArguments,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Compare two to five runs: results, paired differences on common rows, settings that differ.

    Example:

    \b
    rft compare runs/a runs/b
    """
    from rft_cli.view.comparing import compare_runs
    from rft_cli.view.overview import open_run, read_overview

    opened = [open_run(run, output_dir or "runs") for run in runs]
    found = compare_runs([read_overview(run) for run in opened])
    with terminal.results():
        if json:
            terminal.print_json(found.to_json())
        else:
            from rft_cli.console.run_tables import print_compared

            print_compared(found)
