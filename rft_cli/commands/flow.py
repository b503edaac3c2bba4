"""From settings to a finished run: what `rft create` and `rft train` do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft_cli.commands.gates import Gates
from rft_cli.commands.preflight import Preflight, preflight
from rft_cli.commands.ready import make_ready
from rft_cli.commands.report import keep_report
from rft_cli.commands.request import Output, Settings
from rft_cli.commands.resume import Continued, changes, continued, refuse
from rft_cli.commands.shared import print_json, rank, results, stdout_to_stderr, world_size
from rft_cli.commands.signals import signals_ask
from rft_cli.config.load import LoadedConfig
from rft_cli.console import EventPrinter, choose_mode, print_summary
from rft_cli.errors import UsageError
from rft_cli.events import Event, Note, OnEvent
from rft_cli.job import Job, create_run, pinned, told_how_to_resume
from rft_cli.report.summary import build_summary
from rft_cli.runs import Run
from rft_cli.runs.hints import longer, resume_command
from rft_cli.runs.new import check_new
from rft_cli.runs.warnings import KeptWarnings, keep
from rft_cli.stopping import Stop

if TYPE_CHECKING:
    from rft_cli.training.main import Lengths


def run_job(
    settings: Settings,
    loaded: LoadedConfig | None,
    *,
    resume: str | None,
    force: bool,
    gates: Gates,
    output: Output,
) -> None:
    """Run the `loaded` job, or continue the run `resume` (`force`: though it has become another job).

    Prints the result, and raises GateNotMet where a gate is not met.
    """
    mode = "quiet" if rank() > 0 else choose_mode(output.quiet)
    stop = Stop()
    printer = EventPrinter(mode)
    answer = printer.answer if rank() == 0 else _nobody
    with signals_ask(stop, answer):  # before the run exists and after it ended too
        with stdout_to_stderr(), printer:
            on_event: OnEvent = printer if rank() == 0 else _nobody
            result = (
                _continue(settings, resume, force, on_event, stop)
                if resume
                else _begin(loaded or settings.load(), on_event, stop)
            )
            if result is not None:
                keep_report(Run(Path(result["run"])), on_event)
        if result is None:  # one of several processes, and not the one that reports
            return
        unmet = gates.error(result)
        with results():
            if output.json:
                print_json(result, unmet)
            else:
                print_summary(build_summary(Run(Path(result["run"])), result))
    if unmet is not None:
        raise unmet


def _nobody(_: Event | int) -> None:
    pass


def _begin(loaded: LoadedConfig, on_event: OnEvent, stop: Stop) -> dict[str, Any] | None:
    job = _checked(loaded, on_event, new=True)
    if world_size() > 1:
        return _under_launcher(job, on_event, None, stop)
    lengths = _check_lengths(job) if job.config.num_processes == 1 else None  # several check for themselves
    return _train(job, create_run(job), on_event, stop, resume=False, lengths=lengths)


def _continue(
    settings: Settings, ref: str, force: bool, on_event: OnEvent, stop: Stop
) -> dict[str, Any] | None:
    plan = continued(ref, settings)
    run, changed = plan.run, dict[str, list[Any]]()
    if rank() == 0:  # the others follow: they would look while this one sets files right
        run.check_free()
        changed = changes(plan)
        refuse(plan, changed, force)
    if plan.over:
        if rank() == 0:
            run.sweep()  # of a job that was killed just after it had finished
        raise _finished(plan)
    for line in plan.notes:
        on_event(Note(line))
    job = _checked(plan.loaded, on_event)
    if rank() == 0:
        make_ready(plan, job, changed, KeptWarnings(run, on_event))
        if changed:  # else the run has what the preflight found from its beginning
            keep(run, [{"step": 0, "text": text} for text in job.warnings])
    if world_size() > 1:
        return _under_launcher(job, on_event, run, stop)
    return _train(job, run, on_event, stop, resume=True)


def _finished(plan: Continued) -> UsageError:
    run, optim = plan.run, plan.loaded.config.optim
    more = longer(optim.n_epochs, optim.max_steps, max(run.checkpoints(), default=1))
    return UsageError(
        f"{run.path} is finished: {_gained(plan.info.get('result') or {})}its result stands in its run.json",
        f"train it longer: {resume_command(run.path)} {more}; or start a new run",
    )


def _gained(result: Mapping[str, Any]) -> str:
    split = "test" if "test" in result else "validation"
    try:
        before, after = (float(result[split][side]["mean"]) for side in ("before", "after"))
    except (KeyError, TypeError, ValueError):
        return ""
    return f"mean reward {before:.4f} -> {after:.4f} on the {split} rows; "


def _checked(loaded: LoadedConfig, on_event: OnEvent, new: bool = False) -> Job:
    config = loaded.config
    found: Preflight = preflight(config, origins=loaded.origins)
    if new and rank() == 0:
        try:
            check_new(config.output_dir, config.name)
        except UsageError as error:
            found.blame("run", error)
    for line in loaded.notes:
        on_event(Note(line))
    job = found.job()
    for line in found.notes():
        on_event(Note(line))
    for line in found.warnings:
        on_event(Note(line, "warning"))
    on_event(Note(f"grader: {next(check.detail for check in found.checks if check.name == 'grader')}"))
    return pinned(job) if rank() == 0 else job  # the others take what process 0 has found


def _check_lengths(job: Job) -> Lengths:
    from rft_cli.training.main import check

    return check(job)


def _under_launcher(job: Job, on_event: OnEvent, run: Run | None, stop: Stop) -> dict[str, Any] | None:
    from rft_cli.training.joined import under_launcher

    return under_launcher(job, on_event, run, stop)


def _train(
    job: Job, run: Run, on_event: OnEvent, stop: Stop, *, resume: bool, lengths: Lengths | None = None
) -> dict[str, Any]:
    on_event(Note(f"run: {run.path}"))
    with told_how_to_resume(run, new=not resume), run.session():
        result = _train_here_or_launch(job, run, on_event, resume, stop, lengths)
        run.finish(result)
        return result


def _train_here_or_launch(
    job: Job, run: Run, on_event: OnEvent, resume: bool, stop: Stop, lengths: Lengths | None
) -> dict[str, Any]:
    processes = job.config.num_processes
    if processes > 1:
        from rft_cli.training.distributed.launch import launch

        return launch(run, on_event, processes, resume=resume, stop=stop)
    from rft_cli.training.main import train

    return train(job, run, on_event, resume=resume, stop=stop, lengths=lengths)
