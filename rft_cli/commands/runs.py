"""`rft runs`: the runs of a folder."""

from __future__ import annotations

from pathlib import Path

from rft_cli.commands import flags, terminal
from rft_cli.errors import UsageError


def runs(output_dir: flags.OutputDir = None, json: flags.Json = False, debug: flags.Debug = False) -> None:
    """List the runs of a folder: status, model, reward before and after, when.

    Example:

    \b
    rft runs
    """
    from rft_cli.view.entries import list_entries

    folder = Path(output_dir or "runs").expanduser()
    if output_dir is not None and not folder.is_dir():
        raise UsageError(
            f"--output-dir {output_dir}: there is no such folder", "give the folder in which runs lie"
        )
    entries = list_entries(folder)
    with terminal.results():
        if json:
            terminal.print_json({"schema": "rft.runs/1", "runs": [entry.to_json() for entry in entries]})
        else:
            from rft_cli.console.run_tables import print_runs

            print_runs(entries, str(folder))
