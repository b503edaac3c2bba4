"""`rft create --dry-run`: every check of a job and what it would do; writes nothing, loads no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rft_cli.commands.job.preflight import Preflight, preflight
from rft_cli.commands.resume.checked import check_resumable, finished
from rft_cli.commands.resume.plan import plan_resume
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.terminal import is_first_process, need_stdout, print_json, results, stdout_to_stderr
from rft_cli.config.flat import flat
from rft_cli.config.load import LoadedConfig
from rft_cli.console import Check, EventPrinter, Mode, print_checks
from rft_cli.console.plan_table import print_plan
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.events import Note
from rft_cli.job import pinned
from rft_cli.runs import Run
from rft_cli.runs.create import check_new, free_name

SCHEMA = "rft.dry-run/1"


def dry_run(
    settings: Settings, loaded: LoadedConfig | None, resume: str | None, force: bool, output: Output
) -> None:
    """Print the checks and the plan of the job; raise UsageErrors with every problem, as the job would.

    `loaded`: the settings of a new job, None for the run `resume`.
    """
    if not is_first_process():
        return
    need_stdout()
    mode: Mode = "json" if output.progress == "json" else "quiet" if output.quiet else "plain"
    printer = EventPrinter(mode)
    with stdout_to_stderr():
        resumed = None
        if resume is not None:
            plan = plan_resume(resume, settings)
            check_resumable(plan, force)
            if plan.over:
                raise finished(plan)
            loaded, resumed = plan.loaded, plan.run
            for line in plan.notes:
                printer(Note(line))
        loaded = loaded or settings.load()
        found = preflight(loaded.config, origins=loaded.origins)
        for line in (*loaded.notes, *found.remarks()):
            printer(Note(line))
        path = _run_path(found, resumed)
        document = None if found.problems else _plan(found, resumed, printer)
    with results():
        if not output.json:
            print_checks(found.checks)
    for line in found.warnings:
        # the checklist has those
        if line not in found.files.warnings:
            printer(Note(line, "warning"))
    problems = UsageErrors(found.problems) if found.problems else None
    every = flat(found.config)
    whole = {
        "schema": SCHEMA,
        "status": "failed" if problems else "ok",
        "run": path,
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in found.checks],
        "problems": [problem.to_json() for problem in found.problems],
        "warnings": found.warnings,
        "plan": document,
        "settings": every,
    }
    with results():
        if output.json:
            print_json(whole, problems)
        elif document is not None:
            print_plan(document, {key: every[key] for key in _given(loaded, resumed)}, path)
    if problems is not None:
        raise problems


def _given(loaded: LoadedConfig, resumed: Run | None) -> list[str]:
    """The settings that are neither defaults nor a resumed run's own."""
    own = "" if resumed is None else f"{resumed.path / 'config.yaml'}:"
    return [
        key
        for key, origin in loaded.origins.items()
        if origin != "default" and not (own and origin.startswith(own))
    ]


def _run_path(found: Preflight, resumed: Run | None) -> str:
    """Where the run would be, or is; a name that can't be taken is a problem."""
    if resumed is not None:
        return str(resumed.path)
    config = found.config
    try:
        check_new(config.output_dir, config.name)
    except UsageError as error:
        found.failed("run", error)
    parent = Path(config.output_dir).expanduser()
    return str(parent / (config.name or free_name(config.model.path, parent)))


def _plan(found: Preflight, resumed: Run | None, printer: EventPrinter) -> dict[str, Any] | None:
    """The plan, its reasons printed; None where the model shows a problem."""
    from rft_cli.training.main import check
    from rft_cli.training.plan import make_plan

    try:
        job = pinned(found.job())
        lengths = check(job)
        plan = make_plan(job, lengths.limits, None if resumed is None else resumed.read_pilot())
    except UsageError as error:
        found.failed("plan", error)
        return None
    for note in (*lengths.notes, *map(Note, plan.reasons)):
        # the document has the warnings
        if note.level == "warning":
            found.warnings.append(note.text)
        else:
            printer(note)
    longest, context = plan.document["longest_prompt"], plan.document["model"]["context"]
    found.checks.append(
        Check("prompts", True, f"the longest has {longest:,} tokens; the model's context is {context:,}")
    )
    saved = [] if resumed is None else resumed.checkpoints()
    return {**plan.document, "steps_done": max(saved, default=0)}
