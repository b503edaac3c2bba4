"""Trains in a process that `accelerate launch`, torchrun or Slurm started beside others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rft_cli.config.training_sections import DistributedConfig
from rft_cli.errors import RftError, RunFailed
from rft_cli.events import OnEvent
from rft_cli.job import Job, at_revision, create_run, explain_resume
from rft_cli.runs import Run
from rft_cli.stopping import Stop
from rft_cli.training.distributed import group
from rft_cli.training.distributed.channel import Cause, cause_of
from rft_cli.training.distributed.shared_run import check_shared
from rft_cli.training.main import check, train

Prepared = tuple[Run | None, Job]
"""The run to resume, None for a new one; and the job."""


def under_launcher(job: Job, on_event: OnEvent, run: Run | None, stop: Stop) -> dict[str, Any] | None:
    """Train with the other processes that the launcher started.

    Process 0 makes the run (or resumes `run`) and returns the result; the others return None. A launcher sends SIGTERM
    to all of them when it is stopped, and when one of them has failed: `stop` is asked for in both cases.
    """
    state = group.join(job.config.distributed.collective_timeout_s)
    job = at_revision(job, group.from_main(lambda: job.config.model.revision))
    resume = run is not None
    lengths = check(job)
    shared = Run(group.from_main(lambda: (run or create_run(job)).path))
    try:
        if not state.is_main_process:
            check_shared(shared)
            train(job, shared, on_event, resume=resume, stop=stop, lengths=lengths)
            return None
        with explain_resume(shared, new=not resume), shared.session():
            check_shared(shared)
            work = partial(train, job, shared, on_event, resume=resume, stop=stop, lengths=lengths)
            result = _or_lost_peer(work, job.config.distributed.collective_timeout_s)
            shared.finish(result)
            return result
    finally:
        group.leave()


def together(prepare: Callable[[], Prepared]) -> Prepared:
    """What `prepare` returns in this process, once all processes have called it; what it raises in one, all raise.

    A file that only one machine lacks would leave the others waiting.
    """
    found: list[Prepared] = []
    failed: RftError | None = None
    try:
        found.append(prepare())
    except RftError as error:
        failed = error
    settings = found[0][1].config.distributed if found else DistributedConfig()
    group.join(settings.collective_timeout_s)

    def outcome() -> Prepared:
        if failed is not None:
            raise failed
        return found[0]

    try:
        return group.agreed(outcome)
    except RftError:
        group.leave()
        raise


def _or_lost_peer(work: Callable[[], dict[str, Any]], timeout_s: float) -> dict[str, Any]:
    """Call `work`; RunFailed where another process ended, or did not answer for `timeout_s`."""
    try:
        return work()
    except (RuntimeError, OSError) as error:
        cause = cause_of(error)
        if cause is Cause.OWN:
            raise
        what = "ended"
        if cause is Cause.TIMED_OUT:
            what = f"did not answer for {timeout_s:g} s (distributed.collective_timeout_s)"
        raise RunFailed(
            f"another training process {what}", "its last output is in the launcher's output"
        ) from error
