"""`rft show`: one run again, or its completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rft_cli.commands import flags, terminal
from rft_cli.errors import UsageError

if TYPE_CHECKING:
    from rft_cli.runs import Run
    from rft_cli.view.completions import Change, Completion, Split

RunArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN...",
        help="A run: a name, a path, or latest. Several are compared, as by rft compare.",
        autocompletion=flags.complete_run,
    ),
]
RunOption = Annotated[
    list[str] | None,
    typer.Option("--run", metavar="RUN", help="The same as the argument.", autocompletion=flags.complete_run),
]
RowOption = Annotated[
    str | None,
    typer.Option(
        "--row", metavar="ID", help="One row through the steps: its id, or its line in the data file."
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split", metavar="SPLIT", help="validation, test or training: whose rows. Default: where they are."
    ),
]
Worst = Annotated[
    int | None, typer.Option("--worst", metavar="N", min=1, help="The N rows with the lowest reward.")
]
Gains = Annotated[
    int | None, typer.Option("--gains", metavar="N", min=1, help="The N rows that gained most.")
]
Losses = Annotated[
    int | None, typer.Option("--losses", metavar="N", min=1, help="The N rows that lost most.")
]
Failed = Annotated[
    bool, typer.Option("--failed", help="Completions that the grader failed on or skipped, and why.")
]

SHOWN_UNGRADED = 20


def show(
    runs: RunArguments = None,
    run: RunOption = None,
    row: RowOption = None,
    split: SplitOption = None,
    worst: Worst = None,
    gains: Gains = None,
    losses: Losses = None,
    failed: Failed = False,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Show a run: result, curves, diagnosis, warnings, what to do next; or its completions.

    Example:

    \b
    rft show latest
    rft show latest --worst 5
    rft show runs/a runs/b
    """
    from rft_cli.view.overview import open_run

    asked = {"--row": row, "--worst": worst, "--gains": gains, "--losses": losses, "--failed": failed or None}
    given = [flag for flag, value in asked.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} can't be shown together", "ask for one of them")
    chosen = _split(split)
    named = [*(runs or []), *(run or [])]
    if not named:
        raise UsageError("there is no RUN", "name one, or latest; `rft runs` lists them")
    if len(named) > 1:
        _compare(named, given, split, output_dir, json)
        return
    opened = open_run(named[0], output_dir or "runs")
    if row is not None:
        _show_row(opened, row, chosen, json)
    elif failed:
        _show_ungraded(opened, json)
    elif given:
        count = worst or gains or losses or 1
        _show_changes(opened, given[0].removeprefix("--"), count, chosen, json)
    else:
        _show_overview(opened, json)


def _compare(
    runs: list[str], given: list[str], split: str | None, output_dir: str | None, json: bool
) -> None:
    """Several runs side by side; what shows single completions takes one run."""
    from rft_cli.commands.compare import compare

    given = [*given, *([] if split is None else ["--split"])]
    if given:
        raise UsageError(
            f"{', '.join(given)} with {len(runs)} runs: shows the completions of one run", "name one run"
        )
    compare(runs, output_dir=output_dir, json=json)


def _split(named: str | None) -> Split | None:
    from rft_cli.view.completions import SPLITS

    for split in SPLITS:
        if named == split:
            return split
    if named is None:
        return None
    raise UsageError(f"--split {named}: not a split", f"use {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")


def _show_overview(run: Run, json: bool) -> None:
    from rft_cli.view.overview import read_overview

    overview = read_overview(run)
    with terminal.results():
        if json:
            terminal.print_json(overview.to_json())
        else:
            from rft_cli.console.run_tables import print_run

            print_run(overview)


def _show_row(run: Run, row: str, split: Split | None, json: bool) -> None:
    from rft_cli.view.completions import SPLITS, row_through_steps
    from rft_cli.view.reading import ReadProblems

    problems, found = ReadProblems(), list["Completion"]()
    for place in SPLITS if split is None else (split,):
        found = row_through_steps(run.path, place, row, _best_step(run), problems)
        if found:
            break
    if not found:
        where = "" if split is None else f" among the {split} rows"
        raise UsageError(
            f"--row {row}: {run.path} has no completion of such a row{where}", "ids look like `line-7`"
        )
    with terminal.results():
        if json:
            rows = [completion.to_json() for completion in found]
            terminal.print_json({**_head(run), "row": row, "completions": rows, "problems": problems.texts})
        else:
            from rft_cli.console.completion_texts import print_row

            print_row(found)
            _say(problems.texts)


def _show_changes(run: Run, which: str, count: int, split: Split | None, json: bool) -> None:
    from rft_cli.view import completions
    from rft_cli.view.reading import ReadProblems

    problems, best = ReadProblems(), _best_step(run)
    places: tuple[Split, ...] = ("test", "validation") if split is None else (split,)
    if split == "training":
        raise UsageError(f"--{which} has no training rows: only validation and test rows are sampled before and after",
                         "use --split validation or test, or --row ID --split training")  # fmt: skip
    every: list[Change] = []
    for place in places:
        every = completions.changes(run.path, place, best, problems)
        if every:
            break
    found = {"worst": completions.worst, "gains": completions.gains, "losses": completions.losses}[which](
        every, count
    )
    with terminal.results():
        if json:
            rows = [change.to_json() for change in found]
            terminal.print_json({**_head(run), "which": which, "rows": rows, "problems": problems.texts})
        else:
            from rft_cli.console.completion_texts import print_changes

            titles = {"worst": "Lowest rewards", "gains": "Largest gains", "losses": "Largest losses"}
            print_changes(f"{titles[which]}, {place} rows, base and step {best}", found)
            _say(problems.texts)


def _show_ungraded(run: Run, json: bool) -> None:
    from rft_cli.view.completions import ungraded
    from rft_cli.view.reading import ReadProblems

    problems = ReadProblems()
    found = ungraded(run.path, _best_step(run), problems, SHOWN_UNGRADED)
    with terminal.results():
        if json:
            terminal.print_json({**_head(run), **found.to_json(), "problems": problems.texts})
        else:
            from rft_cli.console.completion_texts import print_ungraded

            print_ungraded(found)
            _say(problems.texts)


def _head(run: Run) -> dict[str, Any]:
    return {"schema": "rft.show/1", "run": str(run.path), "best_step": _best_step(run)}


def _best_step(run: Run) -> int:
    return int(run.info.get("best_step") or 0)


def _say(lines: list[str]) -> None:
    from rft_cli.console.text import clean

    for line in lines:
        typer.echo(f"warning: {clean(line)}", err=True)
