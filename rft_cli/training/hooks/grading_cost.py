"""A scorer that is what a job waits for is named as that, once, with what makes it cheaper."""

from __future__ import annotations

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import counted
from rft_cli.events import Event, Note, OnEvent, Stepped
from rft_cli.grading.duration import format_duration
from rft_cli.grading.pool.scorer_grader import worker_count
from rft_cli.grading.source import is_reward_model

MOST = 0.5
"""Share of a rollout batch's time above which grading is told."""
LEAST_S = 1.0
"""Seconds of grading in a rollout batch below which nobody waits for it."""


class GradingCost:
    """Passes events on, and adds the warning behind the first rollout batch that grading takes most of."""

    def __init__(self, emit: OnEvent, grader: GraderConfig, judged: bool, processes: int) -> None:
        self._emit, self._advice = emit, _advice(grader, judged, processes)
        self._batch: float | None = None
        self._seconds = self._grading = self._grade = 0.0
        self._told = False

    def __call__(self, event: Event) -> None:
        """Take one event; the lines of a rollout batch's steps have the same count of completions."""
        self._emit(event)
        if not isinstance(event, Stepped) or self._told:
            return
        metrics = event.metrics
        if metrics.get("completions") != self._batch:
            self._judge(event.step - 1)
            self._batch, self._seconds = metrics.get("completions"), 0.0
        self._seconds += metrics.get("step_seconds") or 0.0
        self._grading = metrics.get("grade_seconds") or 0.0
        self._grade = metrics.get("grade_seconds_p50") or 0.0
        if event.step >= event.total_steps:
            self._judge(event.step)

    def _judge(self, step: int) -> None:
        share = self._grading / self._seconds if self._seconds else 0.0
        if self._told or share <= MOST or self._grading < LEAST_S:
            return
        self._told = True
        text = f"grading is {min(share, 1.0):.0%} of a step: {format_duration(self._grade)} a grade {self._advice}"
        self._emit(Note(text, "warning", step))


def _advice(grader: GraderConfig, judged: bool, processes: int) -> str:
    """Who grades, and what to change."""
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
