"""`rft validate` without a model: the checklist of everything that a job needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rft_cli.commands.job.preflight import Preflight, preflight
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.terminal import print_json, results, stdout_to_stderr
from rft_cli.config.load import LoadedConfig
from rft_cli.console import EventPrinter, print_checks
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.events import Note

SCHEMA = "rft.validate/1"


def check_job(settings: Settings, loaded: LoadedConfig, output: Output) -> None:
    """Print the checklist and raise the problems. A config file must be a whole job, flags may give parts of one."""
    if settings.is_empty():
        raise UsageError(
            "there is nothing to check", "give a CONFIG.yaml, or files with -t, -v and --reward-model"
        )
    with stdout_to_stderr():
        found = preflight(loaded.config, settings.needs(), loaded.origins)
        printer = EventPrinter("json" if output.progress == "json" else "plain")
        notes = [*loaded.notes, *found.remarks()]
        for line in notes if not output.quiet else ():
            printer(Note(line))
    with results():
        if not output.json:
            print_checks(found.checks)
    for line in found.warnings:
        # the checklist has those
        if line not in found.files.warnings:
            printer(Note(line, "warning"))
    problems = UsageErrors(found.problems) if found.problems else None
    with results():
        if output.json:
            print_json(_document(found, notes), problems)
    if problems is not None:
        raise problems


def _document(found: Preflight, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": "failed" if found.problems else "ok",
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in found.checks],
        "problems": [{"message": problem.message, "fix": problem.fix} for problem in found.problems],
        "warnings": found.warnings,
        "notes": list(notes),
    }
