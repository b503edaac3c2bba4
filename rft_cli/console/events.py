"""EventPrinter: a job's events on stderr, as live progress on a terminal or as plain lines elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rft_cli.config.suggest import counted, wrapped
from rft_cli.console.pilot_table import pilot_lines
from rft_cli.console.text import clean, duration, number, sparkline
from rft_cli.events import Event, Finished, Note, Piloted, Progress, Started, Stepped, Validated
from rft_cli.report.facts import grade_wait
from rft_cli.runs.files import finite
from rft_cli.types import Estimate

Mode = Literal["live", "plain", "quiet", "json"]
PLAIN_EVERY_S = 10.0
GRADING = 0.2
"""Share of a rollout's time above which the seconds of grading are shown."""
_KL = {"ppo": "KL k1/token", "grpo": "KL k3/token", "rloo": "KL k1/token"}
"""An algorithm's estimator of the KL: a mean over tokens, as the tripwire's bound is."""


def choose_mode(quiet: bool, stream: TextIO | None = None, progress: str = "auto") -> Mode:
    """json or quiet if asked for; live on a terminal that can move its cursor; else plain lines."""
    if progress == "json":
        return "json"
    if quiet:
        return "quiet"
    stream = sys.stderr if stream is None else stream
    return "live" if stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb") else "plain"


class EventPrinter:
    """Draws events; use it as a context manager, so that the terminal is left as it was.

    quiet shows warnings alone. plain prints every note and validation, and a step at most every ten seconds.
    json prints every event as one JSON object a line.
    """

    def __init__(
        self, mode: Mode, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.mode = mode
        self._stream = stream
        self._clock = clock
        self._printed = float("-inf")
        self._started: Started | None = None
        self._doing = "what has begun"
        # a step's reward; of sft its loss
        self._figures: list[float] = []
        self._view: Event | None = None
        self._live: Live | None = None

    def __enter__(self) -> EventPrinter:
        if self.mode == "live":
            console = Console(
                file=self._stream or sys.stderr,
                markup=False,
                highlight=False,
                emoji=False,
                force_terminal=True,
            )
            self._live = Live(
                self,
                console=console,
                transient=True,
                refresh_per_second=4,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Stepped):
            figure = event.metrics.get("loss" if self._teaches else "reward")
            self._figures += [] if figure is None else [figure]
        if isinstance(event, Started):
            self._started, self._figures = event, list(event.figures)
        self._doing = _doing(event) or self._doing
        if self.mode == "json":
            self._say(json.dumps(finite(event.to_json())))
            return
        line = self._line(event)
        if self._live is not None:
            self._view = None if isinstance(event, Finished) else event if _moves(event) else self._view
            if line is not None and not _moves(event):
                self._say(line)
            self._live.refresh()
        elif self._wanted(event) and line is not None:
            self._say(line)

    @property
    def _teaches(self) -> bool:
        return self._started is not None and self._started.algorithm == "sft"

    def answer(self, signal_number: int) -> None:
        """Print immediately, from any thread and in every mode, what is finished after this first signal."""
        name = signal.Signals(signal_number).name
        again = "a second Ctrl-C" if signal_number == signal.SIGINT else "Ctrl-C"
        text = f"{name}: finishing {self._doing}, then the job ends; {again} drops it and ends at once"
        self._say(json.dumps(Note(text).to_json()) if self.mode == "json" else text)

    def _say(self, line: str) -> None:
        if self._live is not None:
            width = self._live.console.width
            self._live.console.print(Text(wrapped(line, width)), soft_wrap=True)
        else:
            print(line, file=self._stream or sys.stderr, flush=True)

    def _wanted(self, event: Event) -> bool:
        if self.mode == "quiet":
            return isinstance(event, Note) and event.level == "warning"
        if not _moves(event):
            return True
        last = isinstance(event, Stepped) and event.step in (1, event.total_steps)
        if not last and self._clock() - self._printed < PLAIN_EVERY_S:
            return False
        self._printed = self._clock()
        return True

    def _line(self, event: Event) -> str | None:
        """The event as one plain line, None for those that have none."""
        match event:
            case Note():
                text = re.sub(r"\n(?! )", "\n  ", clean(event.text))
                step = "" if event.step is None else f"step {event.step}: "
                return f"{'warning: ' if event.level == 'warning' else ''}{step}{text}"
            case Piloted():
                return pilot_lines(event.pilot, min(100, shutil.get_terminal_size().columns))
            case Started():
                return _started_line(event)
            case Progress():
                return f"{clean(event.what)}  {event.done}/{event.total} completions"
            case Stepped():
                return "  ".join(
                    [
                        _place(event, self._started),
                        *_figures(event.metrics, self._started),
                        *_times(event.metrics),
                        _left(event),
                    ]
                ).rstrip()
            case Validated():
                return _validated_line(event)
        return None

    # live

    def __rich__(self) -> Group | Text:
        match self._view:
            case Progress() as view:
                bar = _bar(view.done, view.total, f"{view.done}/{view.total}")
                return Group(Text(clean(view.what), no_wrap=True, overflow="ellipsis"), bar)
            case Stepped() as view:
                left = _left(view)
                bar = _bar(
                    view.step, view.total_steps, f"{100 * view.step // max(1, view.total_steps)} %  {left}"
                )
                course = sparkline(self._figures, 30)
                lines = [
                    _place(view, self._started),
                    "  ".join(_figures(view.metrics, self._started)),
                    "  ".join([*_times(view.metrics), *_extras(view.metrics)]),
                    f"training {'loss' if self._teaches else 'reward'}  {course}",
                ]
                return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines), bar)
        return Text("")


def _doing(event: Event) -> str | None:
    """What the job does after this event; None if the event does not say."""
    match event:
        case Progress():
            return f"a batch of the {clean(event.what)}" if event.done < event.total else "what has begun"
        case Started() | Validated():
            return "the step that is running and its checkpoint"
        case Stepped():
            step = event.step + 1
            if step > event.total_steps:
                return "what has begun"
            return f"step {step} of {event.total_steps} and its checkpoint"
    return None


def _moves(event: Event) -> bool:
    return isinstance(event, Progress | Stepped)


def _bar(done: int, total: int, text: str) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(ProgressBar(total=max(1, total), completed=done), Text(text))
    return grid


def _started_line(event: Started) -> str:
    processes = "" if event.world_size == 1 else f", {event.world_size} processes"
    trained = (
        "all weights"
        if event.trainable_parameters == event.parameters
        else (f"{_count(event.trainable_parameters)} trained")
    )
    return (
        f"{event.algorithm} on {clean(event.model)}: {_count(event.parameters)} parameters, {trained}, "
        f"{counted(event.total_steps, 'step')} in {_whole(event.n_epochs)} "
        f"{'epoch' if event.n_epochs == 1 else 'epochs'} on {event.device}{processes}"
    )


def _count(value: int) -> str:
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return str(value)


def _place(event: Stepped, started: Started | None) -> str:
    epochs = "" if started is None else f"/{_whole(started.n_epochs)}"
    return f"epoch {_epoch(event.epoch)}{epochs}  step {event.step}/{event.total_steps}"


def _epoch(value: float) -> str:
    """`1.5`, and `0.013` where so many rows are far from their first pass's end."""
    return f"{value:.1f}" if value == 0 or value >= 0.1 else f"{value:.2g}"


def _whole(epochs: float) -> str:
    """The job's epochs: `16`, `15.3`."""
    return _epoch(epochs).removesuffix(".0")


def _figures(metrics: Mapping[str, float | None], started: Started | None) -> list[str]:
    kl = "KL/token" if started is None else _KL.get(started.algorithm, "KL/token")
    names = [("reward", "reward"), (kl, "kl_per_token"), ("entropy", "entropy")]
    if started is not None and started.algorithm == "sft":
        names = [("loss", "loss"), ("token accuracy", "token_accuracy")]
    return [f"{label} {number(metrics[key])}" for label, key in names if metrics.get(key) is not None]


def _times(metrics: Mapping[str, float | None]) -> list[str]:
    found = []
    for label, key in (("rollout", "rollout_seconds"), ("update", "update_seconds")):
        value = metrics.get(key)
        if value is not None:
            grading = grade_wait(metrics) or 0.0
            of_it = f" (grading {grading:.1f} s)" if label == "rollout" and grading > GRADING * value else ""
            found.append(f"{label} {value:.1f} s{of_it}")
    return found


def _extras(metrics: Mapping[str, float | None]) -> list[str]:
    found = []
    completions, failed, rows = (metrics.get(name) for name in ("completions", "grader_failed", "rows"))
    if completions is not None:
        found.append(f"{completions:,.0f} completions")
    if rows is not None:
        found.append(f"{rows:,.0f} rows")
    if failed:
        found.append(f"grades failed {number(failed)}")
    return found


def _left(event: Stepped) -> str:
    return "" if event.seconds_left is None else f"{duration(event.seconds_left)} left"


def _validated_line(event: Validated) -> str:
    where = "base" if event.step == 0 else f"epoch {_epoch(event.epoch)}, step {event.step}"
    estimate = Estimate(event.mean, (event.low, event.high), event.n)
    low, high = (number(value) for value in estimate.ci95)
    if event.guard is not None:
        guard, *ends = (number(value) for value in event.guard[:3])
        best = f"  guard {guard} [{', '.join(ends)}]"
    else:
        best = ""
    best += "  best so far" if event.best and event.step > 0 else ""
    return f"validation ({where}): reward {number(event.mean)} [{low}, {high}] on {event.n} rows{best}"
