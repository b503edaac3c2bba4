"""Makes a run ready to resume, under its lock: sets damaged checkpoints aside, records what changed.

Training then continues from the newest checkpoint that is left, and drops what is later.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rft_cli.commands.resume.plan import Resumed
from rft_cli.config.dump import dump_config
from rft_cli.config.flat import flat
from rft_cli.errors import UsageError
from rft_cli.events import Note, OnEvent
from rft_cli.grading.source import read_sources
from rft_cli.job import Job, record

BASELINE = "step-000000"
"""The name of the base model's validation samples."""
_RESTORE = "restore one from a copy, or start a new run with `rft create`"


def prepare(plan: Resumed, job: Job, changed: Mapping[str, list[Any]], on_event: OnEvent) -> None:
    """Leave valid checkpoints alone, or none if the run never had one.

    `changed` (of --force) and the job's settings from now on are recorded. Raises UsageError, with nothing changed on
    disk, if the run had checkpoints and none is valid, or another process was faster.
    """
    run, store = plan.run, plan.run.store
    store.check_versions()
    replaced = store.replaced()
    problems = {step: problem for step in store.present() if (problem := store.verify(step)) is not None}
    valid = sorted({*store.present(), *([] if replaced is None else [replaced])} - problems.keys())
    if valid:
        _check_baseline(plan)
    else:
        _check_never_saved(plan, problems)
    with run.lock():
        if run.info != plan.info:
            raise UsageError(f"{run.path} was written by another process just now", "try again")
        if replaced is not None:
            store.put_back(replaced)
        with run.writing(store.folder):
            for step, problem in problems.items():
                aside = store.set_aside(step)
                on_event(Note(f"checkpoint {step} is damaged: {problem}; set aside as {aside}", "warning"))
        _record(plan, job, changed, valid)
    _report(plan, changed, valid, on_event)


def _check_baseline(plan: Resumed) -> None:
    run = plan.run
    if not run.has_samples(BASELINE):
        raise UsageError(
            f"{run.path / 'validation' / BASELINE}.jsonl is missing: without the base model's samples there is no "
            "result",
            "restore it from a copy, or start a new run with `rft create`",
        )


def _check_never_saved(plan: Resumed, problems: Mapping[int, str]) -> None:
    """A run that had checkpoints does not start over silently: their work would be lost."""
    info, run = plan.info, plan.run
    if problems:
        lines = "\n".join(f"  step {step}: {problem}" for step, problem in problems.items())
        raise UsageError(f"every checkpoint of {run.path} is damaged:\n{lines}", _RESTORE)
    if run.store.has_damaged() or info.get("best_step") or info.get("result"):
        raise UsageError(f"{run.path} has no checkpoint any more", _RESTORE)


def _report(plan: Resumed, changed: Mapping[str, list[Any]], valid: list[int], on_event: OnEvent) -> None:
    best = plan.info.get("best_step")
    if best and best not in valid:
        text = f"the best checkpoint, {best}, is lost: the best of the others takes its place"
        on_event(Note(text, "warning"))
    if not valid:
        on_event(Note(f"{plan.run.path} was stopped before its first checkpoint: it starts over"))
        return
    on_event(Note(f"resuming from checkpoint {valid[-1]}"))
    if "num_processes" in changed:
        on_event(
            Note(
                "the number of processes has changed: random numbers start anew, and the rest of the rollout batch at "
                f"step {valid[-1]} is trained on new completions"
            )
        )


def _record(plan: Resumed, job: Job, changed: Mapping[str, list[Any]], valid: list[int]) -> None:
    run = plan.run
    if flat(job.config) != flat(plan.own):
        run.write_config(dump_config(job.config))
    fields: dict[str, Any] = {
        **record(job, read_sources(job.config.grader)),
        "path": str(run.path.absolute()),
    }
    if changed:
        entry = {
            "when": datetime.now(UTC).isoformat(),
            "step": valid[-1] if valid else 0,
            "changed": dict(changed),
        }
        fields["forced"] = [*(plan.info.get("forced") or []), entry]
    if plan.info["status"] == "finished":
        # before training starts: other processes see one state or the other
        fields["status"] = "interrupted"
    run.update(**fields)
