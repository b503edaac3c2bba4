"""`rft report`: a run, or several compared, as one HTML file or as Markdown; also written at the end of each job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rft_cli.commands import flags, terminal
from rft_cli.commands.compare import RunArguments
from rft_cli.errors import RftError, UsageError

if TYPE_CHECKING:
    from rft_cli.events import OnEvent
    from rft_cli.runs import Run

REPORT = "report.html"
LONGEST_NAME = 120
FormatOption = Annotated[
    Literal["html", "md"],
    typer.Option("--format", help="html: one file that needs no network. md: Markdown, for a pull request."),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="FILE",
        help="Where to write; - prints it. Default: report.html in the run; Markdown is printed.",
    ),
]


def report(
    runs: RunArguments,
    format: FormatOption = "html",
    to: To = None,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Write a report of a run: result, diagnosis, curves, completions; of several runs, their comparison.

    Example:

    \b
    rft report latest
    rft report latest --format md >> "$GITHUB_STEP_SUMMARY"
    """
    from rft_cli.view.overview import open_run

    folder = output_dir or "runs"
    opened = [open_run(run, folder) for run in runs]
    if to != "-":
        terminal.check_writable(to)
    text = render(opened, format)
    file = to or (None if format == "md" else str(_default_file(opened, Path(folder).expanduser())))
    if file is not None and file != "-":
        _write(Path(file), text)
    with terminal.results():
        if json:
            printed = file is None or file == "-"
            document = {
                "schema": "rft.report/1",
                "runs": [str(run.path) for run in opened],
                "format": format,
                "file": None if printed else file,
                "bytes": len(text.encode("utf-8")),
                **({"text": text} if printed else {}),
            }
            terminal.print_json(document)
        elif file is None or file == "-":
            print(text, end="")
        else:
            from rft_cli.console.text import clean

            print(f"report  {clean(file)}   ({len(text.encode('utf-8')) / 1e3:.0f} kB)")


def render(runs: list[Run], format: str) -> str:
    """The report of these runs as text. Raises UsageError for more than five."""
    from rft_cli.view.comparing import compare_runs
    from rft_cli.view.overview import read_overview

    overviews = [read_overview(run) for run in runs]
    if format == "md":
        from rft_cli.pages.markdown_report import comparison_markdown, run_markdown

        return run_markdown(overviews[0]) if len(runs) == 1 else comparison_markdown(compare_runs(overviews))
    from rft_cli.pages.html_report import comparison_page, run_page

    return run_page(overviews[0]) if len(runs) == 1 else comparison_page(compare_runs(overviews))


def _default_file(runs: list[Run], folder: Path) -> Path:
    if len(runs) == 1:
        return runs[0].path / REPORT
    return folder / f"{'-'.join(['compare', *(run.name for run in runs)])[:LONGEST_NAME]}.html"


def _write(file: Path, text: str) -> None:
    from rft_cli.runs.files import write_atomic

    try:
        if file.is_symlink() or (
            file.exists() and not file.is_file()
        ):  # a device or a pipe: not to be replaced
            file.write_text(text, encoding="utf-8")
        else:
            write_atomic(file, text)
    except OSError as error:
        raise UsageError(
            f"{file}: can't be written: {error.strerror or error}", "name another file with --to"
        ) from error


def keep_report(run: Run, on_event: OnEvent) -> None:
    """Write report.html into a run that has ended. The job is done either way: what goes wrong is a warning."""
    from rft_cli.events import Note

    file = run.path / REPORT
    try:
        _write(file, render([run], "html"))
    except Exception as error:
        reason = error.message if isinstance(error, RftError) else f"{type(error).__name__}: {error}"
        on_event(Note(f"no report was written ({reason}); `rft report {run.path}` tries again", "warning"))
    else:
        on_event(Note(f"report: {file}"))
