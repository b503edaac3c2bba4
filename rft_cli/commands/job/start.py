"""From settings to a finished run: what `rft create` and `rft train` do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft_cli.commands.job.preflight import preflight
from rft_cli.commands.report import keep_report
from rft_cli.commands.resume.checked import check_resumable, finished
from rft_cli.commands.resume.plan import plan_resume
from rft_cli.commands.resume.prepare import prepare
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.signals import signals_ask
from rft_cli.commands.terminal import is_first_process, print_json, results, stdout_to_stderr
from rft_cli.commands.validation.gates import Gates
from rft_cli.config.launcher import check_launcher, world_size_in
from rft_cli.config.load import LoadedConfig
from rft_cli.console import EventPrinter, choose_mode, print_summary
from rft_cli.errors import UsageError
from rft_cli.events import Event, Note, OnEvent
from rft_cli.job import Job, create_run, explain_resume, pinned
from rft_cli.report.summary import build_summary
from rft_cli.runs import Run
from rft_cli.runs.create import check_new
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
    """Run the `loaded` job, or resume the run `resume` (`force`: although it has changed).

    Prints the result; raises GateNotMet if a gate is not met.
    """
    main = is_first_process()
    stop = Stop()
    printer = EventPrinter(choose_mode(output.quiet, progress=output.progress) if main else "quiet")
    answer = printer.answer if main else _ignore
    # before the run exists and after it ended too
    with signals_ask(stop, answer):
        with stdout_to_stderr(), printer:
            job = _Starter(printer if main else _ignore, stop, main)
            result = job.resume(settings, resume, force) if resume else job.begin(loaded or settings.load())
            if result is not None:
                keep_report(Run(Path(result["run"])), printer)
        # one of several processes, and not the one that reports
        if result is None:
            return
        unmet = gates.error(result)
        with results():
            if output.json:
                print_json(result, unmet)
            else:
                print_summary(build_summary(Run(Path(result["run"])), result))
    if unmet is not None:
        raise unmet


def _ignore(_: Event | int) -> None:
    pass


class _Starter:
    """Starts or resumes one job in this process. `main`: it is alone, or the first that a launcher started."""

    def __init__(self, on_event: OnEvent, stop: Stop, main: bool) -> None:
        self._on_event = on_event
        self._stop = stop
        self._main = main
        self._launched = world_size_in(os.environ) > 1

    def begin(self, loaded: LoadedConfig) -> dict[str, Any] | None:
        """Run a new job; its result, None in the other processes of a launcher."""
        _, job = self._together(lambda: (None, self._checked(loaded, new=True)))
        if self._launched:
            return self._under_launcher(job, None)
        # Several processes check the lengths themselves.
        lengths = _check_lengths(job) if job.config.num_processes == 1 else None
        return self._train(job, create_run(job), lengths=lengths)

    def resume(self, settings: Settings, ref: str, force: bool) -> dict[str, Any] | None:
        """Continue a run."""
        run, job = self._together(lambda: self._resumed(settings, ref, force))
        if self._launched:
            return self._under_launcher(job, run)
        assert run is not None
        return self._train(job, run, resume=True)

    def _resumed(self, settings: Settings, ref: str, force: bool) -> tuple[Run, Job]:
        """The run, ready to continue, and its job."""
        plan = plan_resume(ref, settings)
        run = plan.run
        # the others wait for what this one finds and puts right
        changed = check_resumable(plan, force) if self._main else {}
        if plan.over:
            if self._main:
                # left by a job that was killed just after it finished
                run.sweep()
            raise finished(plan)
        for line in plan.notes:
            self._on_event(Note(line))
        job = self._checked(plan.loaded, new=False)
        if self._main:
            prepare(plan, job, changed, KeptWarnings(run, self._on_event))
            # otherwise run.json has the warnings of the first preflight
            if changed:
                keep(run, [{"step": 0, "text": text} for text in job.warnings])
        return run, job

    def _together(self, prepare: Callable[[], tuple[Run | None, Job]]) -> tuple[Run | None, Job]:
        """`prepare` in this process; under a launcher in all of them, and what fails in one fails in all."""
        check_launcher(os.environ)
        if not self._launched:
            return prepare()
        from rft_cli.training.external_launcher import together

        return together(prepare)

    def _checked(self, loaded: LoadedConfig, new: bool) -> Job:
        """The job after its preflight; UsageErrors with every problem."""
        found = preflight(loaded.config, origins=loaded.origins)
        if new and self._main:
            try:
                check_new(loaded.config.output_dir, loaded.config.name)
            except UsageError as error:
                found.failed("run", error)
        for line in loaded.notes:
            self._on_event(Note(line))
        job = found.job()
        for line in found.notes():
            self._on_event(Note(line))
        for line in found.warnings:
            self._on_event(Note(line, "warning"))
        grader = next(check.detail for check in found.checks if check.name == "grader")
        self._on_event(Note(f"grader: {grader}"))
        # the others get the commits that this one finds
        return pinned(job) if self._main else job

    def _under_launcher(self, job: Job, run: Run | None) -> dict[str, Any] | None:
        from rft_cli.training.external_launcher import under_launcher

        return under_launcher(job, self._on_event, run, self._stop)

    def _train(
        self, job: Job, run: Run, *, resume: bool = False, lengths: Lengths | None = None
    ) -> dict[str, Any]:
        self._on_event(Note(f"run: {run.path}"))
        with explain_resume(run, new=not resume), run.session():
            processes = job.config.num_processes
            if processes > 1:
                from rft_cli.training.distributed.launch import launch

                result = launch(run, self._on_event, processes, resume=resume, stop=self._stop)
            else:
                from rft_cli.training.main import train

                result = train(job, run, self._on_event, resume=resume, stop=self._stop, lengths=lengths)
            run.finish(result)
            return result


def _check_lengths(job: Job) -> Lengths:
    from rft_cli.training.main import check

    return check(job)
