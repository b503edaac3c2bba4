"""`rft try`: one prompt, answered by a run's base and by its best model."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rft_cli.commands import flags, terminal
from rft_cli.errors import UsageError

if TYPE_CHECKING:
    from rft_cli.training.try_prompt import Tried

SCHEMA = "rft.try/1"

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run: a name, a path, or latest.", autocompletion=flags.complete_run
    ),
]
Prompt = Annotated[str, typer.Argument(metavar="PROMPT|-", help="What to ask; - reads standard input.")]


def try_run(
    run: RunArgument,
    prompt: Prompt,
    sets: flags.Sets = None,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    debug: flags.Debug = False,
) -> None:
    """Ask a run's base and its best model one thing, with the run's template, system message and sampling settings.

    Examples:

    \b
    rft try latest "Where is my order?"
    cat prompt.txt | rft try latest -
    rft try latest "Hi" --set validation.temperature=0
    """
    from rft_cli.runs import Run

    opened = Run.open(run, output_dir or "runs")
    text = _read(prompt)
    from rft_cli.commands.serving.target import settings_of
    from rft_cli.commands.signals import imports_whole, signals_interrupt
    from rft_cli.console import EventPrinter, choose_mode
    from rft_cli.events import Note

    config = settings_of(opened, "", sets or []).config
    with (
        terminal.stdout_to_stderr(),
        signals_interrupt(signal.SIGINT),
        EventPrinter(choose_mode(quiet)) as printer,
    ):
        with imports_whole():
            from rft_cli.training.try_prompt import try_prompt

        if opened.best_checkpoint() is None:
            printer(Note(f"nothing beat the base in {opened.path}: it alone answers"))
        found: list[Tried] = list(try_prompt(opened, config, text))
    sampling = {"temperature": config.validation.temperature, "top_p": config.validation.top_p}
    with terminal.results():
        if json:
            answers = [asdict(tried) for tried in found]
            document: dict[str, Any] = {"schema": SCHEMA, "run": str(opened.path), "prompt": text}
            step = opened.info["best_step"] or 0
            terminal.print_json({**document, "best_step": step, "sampling": sampling, "completions": answers})
        else:
            _print(found)


def _read(prompt: str) -> str:
    if prompt == "-":
        prompt = sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n")
    if not prompt.strip():
        raise UsageError(
            "the prompt is empty", 'write it after the run, or give - and pipe it: rft try latest "Hello"'
        )
    return prompt


def _print(found: list[Tried]) -> None:
    from rft_cli.console.text import clean

    for tried in found:
        cut = ", cut off at the limit" if tried.truncated else ""
        print(f"{tried.model} ({tried.tokens} tokens{cut})")
        for line in tried.completion.split("\n"):
            print(f"  {clean(line)}")
