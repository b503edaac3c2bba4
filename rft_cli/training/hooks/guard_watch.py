"""What the guard's grades of a validation lead to: a warning, another best checkpoint, the end of the job."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.errors import RunFailed
from rft_cli.events import Note, OnEvent
from rft_cli.report.guard import NAME, alarm_of, guard_estimate
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import quoted, resume_command
from rft_cli.training.distributed.group import from_main
from rft_cli.types import Sample

BASELINE = "step-000000"


class GuardWatch:
    """Compares the guard's grades of each validation with the base's. Every process calls it, with all samples.

    `action` is `grader.on_guard_drop`. Without a guard it does nothing.
    """

    def __init__(self, run: Run, action: str, watches: bool, on_event: OnEvent) -> None:
        self._run, self._action, self._watches, self._on_event = run, action, watches, on_event
        self._base: Sequence[Sample] = ()

    def begin(self) -> None:
        """Take the base's samples of a run that is resumed; all processes call it."""
        if self._watches:
            self._base = from_main(
                lambda: self._run.read_samples(BASELINE) if self._run.has_samples(BASELINE) else []
            )

    def figures(self, samples: Sequence[Sample]) -> tuple[float, ...] | None:
        """The guard's mean, the ends of its interval and its number of rows, for an event."""
        found = guard_estimate(samples) if self._watches else None
        return None if found is None else (found.mean, *found.ci95, found.n)

    def excludes(self, step: int, samples: Sequence[Sample]) -> bool:
        """Whether this step can't become the best checkpoint."""
        return self._action != "warn" and self._alarm(step, samples) is not None

    def warn(self, step: int, samples: Sequence[Sample]) -> bool:
        """Warn where the guard fell while the reward rose; whether the job is to end."""
        alarm = self._alarm(step, samples)
        if alarm is None:
            return False
        advice = f"read the completions: rft show {quoted(self._run.path)} --gains 5"
        self._on_event(Note(f"guard: {alarm}; {advice}", "warning", step, NAME))
        return self._action == "stop"

    def end(self, step: int, best: int) -> RunFailed:
        """The error that ends the job."""
        path = quoted(self._run.path)
        kept = (
            f"`rft export {path}` takes the best checkpoint before that, step {best}"
            if best
            else "no checkpoint before that is better than the base"
        )
        return RunFailed(
            f"the guard ended the job at step {step}: it fell while the reward rose (grader.on_guard_drop is stop)",
            f"{kept}; to go on all the same: {resume_command(self._run.path)} --set grader.on_guard_drop=warn --force",
        )

    def _alarm(self, step: int, samples: Sequence[Sample]) -> str | None:
        if step == 0:
            self._base = samples
        if not self._watches or step == 0:
            return None
        found = alarm_of(self._base, samples)
        return None if found is None else found.text
