"""What `rft grade` does with rows: grade them, write them, sum up, and hold the result against the gates."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from rft_cli.commands import shared
from rft_cli.commands.grade_checks import together, unreadable
from rft_cli.config.schema import RunConfig
from rft_cli.data import Row
from rft_cli.errors import GateNotMet, Interrupted, UsageError, UsageErrors
from rft_cli.grading.outcomes import GraderStats, too_many_failures
from rft_cli.grading.pool import worker_count
from rft_cli.grading.protocol import Grader
from rft_cli.grading.rows import LinePipeline, Pipeline, RowPipeline, completion_of, gold_of, prompt_reader
from rft_cli.grading.source import is_reward_model, is_spec
from rft_cli.types import MOST_COMPONENTS

_TRACE_LINES = 8
_SHOWN_COMPONENTS = 20


def grade_rows(
    config: RunConfig,
    files: Sequence[str],
    field: str | None,
    *,
    rows_out: bool,
    summary_file: str | None,
    min_reward: float | None,
    quiet: bool,
    openai_run: bool = False,
) -> None:
    """Grade the rows of these files, whose completions are under `field` (None: grade their references).

    Writes the graded lines where `rows_out` (with `openai_run` in the shape of OpenAI's `/graders/run`), else the
    summary. Raises the problem of the first bad row when those before it are out; RunFailed where too many grades
    failed; GateNotMet below `min_reward`.
    """
    from rft_cli.training.graders import open_grader  # of all kinds; only reward models load torch

    # The parent only passes lines on: every core can work.
    workers = worker_count(config.grader, spare=0)
    grader_config = config.grader.model_copy(update={"workers": workers})
    pipeline = _pipeline(files, field, config, openai_run)
    people = _People(pipeline, config.grader.shown or "", quiet=quiet, rows_out=rows_out)
    written = 0
    on_output = None if quiet else people.print
    missing = unreadable(files)
    try:
        grader = open_grader(grader_config, log_path=None, seed=config.seed, on_output=on_output)
    except UsageError as error:
        raise together(error, missing) from None
    with people, _WholeLines() as output, grader:
        if missing:
            raise UsageErrors(missing)
        try:
            for part in pipeline.parts(grader):
                written += part.rows
                if rows_out:
                    output.write(part.text)
                people.progress(grader.stats)
        except Interrupted as stop:
            raise Interrupted(stop.signal_number, f"{stop.message} after {_rows(written)}") from None
    stats = grader.stats
    if summary_file is not None:
        shared.write_json(summary_file, stats.to_json())
    if not quiet and (written or pipeline.problem is None):
        _say_summary(grader, config.grader.max_failure_rate)
    if pipeline.problem is not None:
        raise pipeline.problem
    if not rows_out:
        with shared.results():
            shared.print_json(stats.to_json())
    _check_gates(stats, config.grader.max_failure_rate, min_reward)


def _pipeline(files: Sequence[str], field: str | None, config: RunConfig, openai_run: bool) -> Pipeline:
    by_model = is_reward_model(config.grader)
    if field is not None and not (by_model or openai_run or is_spec(config.grader)):
        return LinePipeline(files, field)

    def complete(row: Row, place: str) -> str:
        return gold_of(row, place, config.data.columns) if field is None else completion_of(row, place, field)

    prompt = prompt_reader(config.data) if by_model else None
    return RowPipeline(files, complete, prompt=prompt, openai_run=openai_run)


class _People:
    """What people see on standard error while rows are graded: the scorer's prints, and progress on a terminal."""

    def __init__(self, pipeline: Pipeline, scorer: str, *, quiet: bool, rows_out: bool) -> None:
        self._pipeline = pipeline
        self._scorer = scorer
        self._live = not quiet and sys.stderr.isatty() and not (rows_out and sys.stdout.isatty())
        self._started = self._last = time.monotonic()
        self._shown = False

    def __enter__(self) -> _People:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wipe()

    def print(self, place: int, output: str) -> None:
        """What the scorer printed, each line after the place of its row."""
        self._wipe()
        where = self._scorer if place < 0 else self._pipeline.where(place)
        _say("\n".join(f"{where}: {line}" for line in _clean(output).rstrip("\n").split("\n")))

    def progress(self, stats: GraderStats) -> None:
        """One line that is written over, twice a second."""
        now = time.monotonic()
        if self._live and now - self._last > 0.5:
            rate = stats.total / (now - self._started)
            failed = f", {stats.failed:,} failed" if stats.failed else ""
            print(
                f"\r\x1b[K{_rows(stats.total)}{failed}, {rate:,.0f} a second",
                end="",
                file=sys.stderr,
                flush=True,
            )
            self._last, self._shown = now, True

    def _wipe(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


class _WholeLines:
    """Standard output for blocks of whole lines: a signal waits until the block is written, then interrupts."""

    def __init__(self) -> None:
        self._writing = False
        self._pending: Interrupted | None = None
        self._ended = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _WholeLines:
        self._before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def write(self, block: bytes) -> None:
        """Write and flush; raises BrokenPipeError when nobody reads, Interrupted after a signal."""
        self._writing = True
        try:
            rest = memoryview(block)
            while rest:  # under PYTHONUNBUFFERED this is a raw file: a signal makes its writes short
                rest = rest[sys.stdout.buffer.write(rest) :]
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise shared.cannot_print(error) from None
        finally:
            self._writing = False
        if self._pending is not None:
            self._ended = True
            raise self._pending

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        stop = Interrupted(number, "interrupted" if number == signal.SIGINT else "ended by a signal")
        if self._ended:
            return  # workers are being ended already
        if self._writing and self._pending is None:
            self._pending = stop
            return
        self._ended = True  # a second signal does not wait for a reader that does not read
        raise stop


def _check_gates(stats: GraderStats, max_failure_rate: float, min_reward: float | None) -> None:
    if stats.failure_rate > max_failure_rate:
        raise too_many_failures(stats.failure_rate, stats.total, max_failure_rate, stats.reasons())
    if min_reward is not None and stats.mean_reward is None:
        raise GateNotMet(f"--min-reward {min_reward:g} is not met: no row was graded")
    if min_reward is not None and stats.mean_reward is not None and stats.mean_reward < min_reward:
        raise GateNotMet(
            f"--min-reward {min_reward:g} is not met: the mean reward is {stats.mean_reward:.4f}"
        )


def _say_summary(grader: Grader, max_failure_rate: float) -> None:
    stats = grader.stats
    counts = (("graded", stats.graded), ("skipped", stats.skipped), ("failed", stats.failed))
    told = ", ".join(f"{count:,} {name}{_share(count, stats.total)}" for name, count in counts)
    _say(f"{grader.signature}: {_rows(stats.total)}, {told}")
    if stats.mean_reward is not None:
        summary = stats.to_json()
        low, high = summary["reward"]["min"], summary["reward"]["max"]
        _say(f"  mean reward {stats.mean_reward:.4f} (min {low:g}, max {high:g})")
        if summary["components"]:
            means = list(summary["components"].items())
            parts = [f"{_clean(name)} {mean:.4f}" for name, mean in means[:_SHOWN_COMPONENTS]]
            more = len(means) - len(parts)
            _say(f"  components: {', '.join(parts)}{f', and {more} more' if more else ''}")
        if stats.components_left_out:
            _say(
                f"  {stats.components_left_out:,} values of components are in no mean: names beyond the first "
                f"{MOST_COMPONENTS} (or over 200 letters) are not averaged; each row has its own"
            )
    if len(stats.failures) > 1:
        _say("  failures: " + ", ".join(f"{count:,} {kind}" for kind, count in stats.failures.most_common()))
    for reason in stats.reasons():
        _say(_clean(f"  failed {reason.count:,} × {reason.kind}: {reason.message}"))
    trace = next((reason.trace for reason in stats.reasons() if reason.trace), "")
    if trace and stats.failure_rate <= max_failure_rate:  # above it, the error shows the traceback
        _say("  one of them:")
        _say("\n".join(f"    {line}" for line in _clean(trace).rstrip().split("\n")[-_TRACE_LINES:]))
    median, slow, slower = (stats.latency(share) for share in (0.5, 0.9, 0.99))
    if median is not None and slow is not None and slower is not None:
        times = (
            f"{_milliseconds(median)} (median), {_milliseconds(slow)} (90 %), {_milliseconds(slower)} (99 %)"
        )
        _say(f"  a grade took {times}")
    if stats.judges is not None:
        _say(f"  judges: {_clean(stats.judges.told())}")


def _share(count: int, total: int) -> str:
    return f" ({count / total:.2%})" if 0 < count < total else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _clean(text: str) -> str:
    """The text made harmless for a terminal: names, prints and data may hold anything."""
    if text.replace("\n", "").isprintable():
        return text
    from rft_cli.console.text import clean  # with rich, which most gradings don't need

    return clean(text)
