"""Warns once where a job waits for grades most of its time, with what makes that shorter."""

from __future__ import annotations

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import counted
from rft_cli.events import Event, Note, OnEvent, Stepped
from rft_cli.grading.pool.scorer_grader import worker_count
from rft_cli.grading.source import is_reward_model
from rft_cli.grading.stats import format_duration
from rft_cli.report.facts import grade_wait

MOST = 0.5
"""Share of a rollout batch's time above which the job warns."""
LEAST_S = 1.0
"""Seconds of grading in a rollout batch below which the job never warns."""


class SlowGraderWarning:
    """Passes events on, and adds the warning after the first rollout batch that is mostly spent waiting for grades.

    `ahead` is `rollout.ahead`.
    """

    def __init__(
        self, emit: OnEvent, grader: GraderConfig, judged: bool, processes: int, ahead: int = 0
    ) -> None:
        hidden = (
            "" if ahead or is_reward_model(grader) else "; --set rollout.ahead=1 grades while the job trains"
        )
        self._emit, self._advice = emit, _advice(grader, judged, processes) + hidden
        self._batch: float | None = None
        self._seconds = self._grading = self._grade = 0.0
        self._warned = False

    def __call__(self, event: Event) -> None:
        """Pass one event on; all steps of a rollout batch have the same count of completions."""
        self._emit(event)
        if not isinstance(event, Stepped) or self._warned:
            return
        metrics = event.metrics
        if metrics.get("completions") != self._batch:
            self._judge(event.step - 1)
            self._batch, self._seconds = metrics.get("completions"), 0.0
        self._seconds += metrics.get("step_seconds") or 0.0
        self._grading = grade_wait(metrics) or 0.0
        self._grade = metrics.get("grade_seconds_p50") or 0.0
        if event.step >= event.total_steps:
            self._judge(event.step)

    def _judge(self, step: int) -> None:
        share = self._grading / self._seconds if self._seconds else 0.0
        if self._warned or share <= MOST or self._grading < LEAST_S:
            return
        self._warned = True
        text = f"grading is {min(share, 1.0):.0%} of a step: {format_duration(self._grade)} a grade {self._advice}"
        self._emit(Note(text, "warning", step))


def _advice(grader: GraderConfig, judged: bool, processes: int) -> str:
    """How many grade at a time, and what to change."""
    if judged:
        now = counted(grader.judge.concurrency, "request")
        return f"with {now} at a time: raise grader.judge.concurrency if the endpoint takes more"
    if is_reward_model(grader):
        return "with the reward model: a smaller one is faster"
    workers = worker_count(grader) * processes
    return (
        f"with {counted(workers, 'worker')}: make the scorer faster, or raise grader.workers (a scorer that only waits "
        "can have more workers than there are cores)"
    )
