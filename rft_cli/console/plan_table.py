"""What a job would do, as a table: `rft create --dry-run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from rich.table import Table
from rich.text import Text

from rft_cli.config.suggest import counted
from rft_cli.console.tables import open_console
from rft_cli.console.text import clean


def print_plan(
    plan: Mapping[str, Any], given: Mapping[str, Any], path: str, file: TextIO | None = None
) -> None:
    """The plan of a job whose run would be at `path`; `given`: the settings that are no defaults."""
    console = open_console(file)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(plan):
        table.add_row(name, Text(clean(text)))
    for place, (key, value) in enumerate(given.items()):
        table.add_row("" if place else "settings given", Text(clean(f"{key}: {value}")))
    console.print()
    console.print(table)
    console.print()
    console.print(Text(f"run   {clean(path)}"), soft_wrap=True)
    console.print("Nothing was trained, and nothing was written.")


def _rows(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    settings = plan["settings"]
    yield "algorithm", _algorithm(plan)
    steps = f"{counted(plan['steps'], 'step')} in {_epochs(plan['epochs'])}"
    if plan["rollout_batches"]:
        batches, completions = plan["rollout_batches"], plan["completions"]
        steps += f": {completions:,} completions in rollout batches of {completions // batches:,}"
    if plan["steps_done"]:
        steps += f"; {plan['steps_done']:,} are done"
    yield "training", steps
    rate = f"{settings['optim.learning_rate']:.2g}"
    if "rollout.temperature" in settings:
        rate += f", sampling temperature {settings['rollout.temperature']:g}"
    yield "learning rate", rate
    limit = settings["rollout.max_completion_tokens"]
    yield "completion limit", "measured by the pilot" if limit is None else f"{limit:,} tokens"
    pilot = plan["pilot_completions"]
    yield "pilot", f"{pilot:,} completions of the base model" if pilot else "none"
    yield (
        "validations",
        f"{plan['validations']:,}, the base model's included: {plan['validation_completions']:,} completions",
    )


def _algorithm(plan: Mapping[str, Any]) -> str:
    trained = "LoRA" if plan["settings"]["lora.enabled"] else "all weights"
    several = "" if plan["processes"] == 1 else f", {plan['processes']} processes"
    size = plan["model"]["parameters"] / 1e6
    return f"{plan['algorithm']}, {trained} of {size:,.1f} M parameters, {plan['compute']} on {plan['device']}{several}"


def _epochs(value: float) -> str:
    return "1 epoch" if value == 1 else f"{value:.3g} epochs"
