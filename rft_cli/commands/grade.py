"""`rft grade`: rows with completions in, the same lines with a grade out; no model, no torch."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rft_cli.commands import shared
from rft_cli.commands.request import Settings
from rft_cli.errors import GateNotMet, Interrupted, UsageError

if TYPE_CHECKING:
    from rft_cli.config import RunConfig
    from rft_cli.data import Row, RowReader
    from rft_cli.grading.outcomes import GraderStats
    from rft_cli.grading.protocol import Grader
    from rft_cli.types import GradeRequest

FileArgument = Annotated[
    str | None,
    typer.Argument(metavar="[FILE|-]", help="Rows with completions: a JSONL file; - is standard input."),
]
Field = Annotated[str, typer.Option("--field", metavar="KEY", help="The key that holds the model's text.")]
Workers = Annotated[str | None, typer.Option("--workers", metavar="N", help="Worker processes, or auto.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="S", help="Seconds that one grade may take.")
]
MinReward = Annotated[
    float | None, typer.Option("--min-reward", metavar="X", help="Exit 1 if the mean reward is below X.")
]
Summary = Annotated[
    bool, typer.Option("--summary", help="Print a summary as JSON in place of the rows (the same as --json).")
]
Gold = Annotated[
    bool, typer.Option("--gold", help="Grade each row's own reference: it should get full marks.")
]

Audit = Annotated[
    bool, typer.Option("--audit", help="Test the grader itself, on the rows of FILE, -t and -v.")
]
AuditRows = Annotated[
    int | None,
    typer.Option("--audit-rows", metavar="N", min=1, help="Rows that --audit takes. Default: 20."),
]


def grade(
    file: FileArgument = None,
    reward_model: shared.RewardModel = None,
    field: Field = "completion",
    gold: Gold = False,
    audit: Audit = False,
    audit_rows: AuditRows = None,
    training_file: shared.TrainingFile = None,
    validation_file: shared.ValidationFile = None,
    summary: Summary = False,
    min_reward: MinReward = None,
    workers: Workers = None,
    timeout: Timeout = None,
    config: shared.ConfigFile = None,
    sets: shared.Sets = None,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Grade completions with a scorer: JSON lines in, the same lines in order with a "grade" out.

    rft grade --reward-model scorer.py completions.jsonl > graded.jsonl

    rft grade --reward-model scorer.py --gold val.jsonl --summary

    rft grade --reward-model scorer.py --audit val.jsonl

    generate | rft grade --reward-model scorer.py --min-reward 0.8 > graded.jsonl
    """
    overrides: dict[str, Any] = {
        "grader.path": reward_model,
        "grader.workers": workers,
        "grader.timeout_s": timeout,
        "data.train": training_file,
        "data.validation": validation_file,
    }
    settings = Settings(config, overrides, sets or []).load().config
    if settings.grader.shown is None:
        raise UsageError("no grader is set", "give a scorer with --reward-model scorer.py")
    if audit:
        if gold or min_reward is not None or field != "completion":
            raise UsageError(
                "--audit takes no --gold, --min-reward or --field", "it makes its own completions"
            )
        from rft_cli.commands.audit import audit_grader

        audit_grader(settings, [file] if file else [], rows=audit_rows, json=json or summary, quiet=quiet)
        return
    if audit_rows is not None or training_file is not None or validation_file is not None:
        raise UsageError("-t, -v and --audit-rows go with --audit", "name the rows to grade as FILE")
    if file is None and sys.stdin.isatty():
        _say("reading rows from the terminal: end them with Ctrl-D, or name a FILE")
    from rft_cli.data import read_rows

    rows = _Rows(read_rows(file or "-"), None if gold else field, settings)
    stats = _grade_rows(rows, settings, with_rows=not (summary or json), quiet=quiet)
    if summary or json:
        shared.print_json(stats.to_json())
    _check_gates(stats, settings, min_reward)


def _grade_rows(rows: _Rows, config: RunConfig, *, with_rows: bool, quiet: bool) -> GraderStats:
    """Grade all rows and write them out; raises the problem of the first bad row when those before it are out."""
    from rft_cli.grading.lines import graded_line
    from rft_cli.training.graders import open_grader

    log = _new_log()
    output = _WholeLines()
    written = 0
    try:
        with output, open_grader(config.grader, log_path=log, seed=config.seed) as grader:
            for grades in grader.stream(rows.requests()):
                block = []
                for made in grades:
                    row = rows.waiting.popleft()
                    if with_rows:
                        block.append(graded_line(row.text, row.value or {}, made))
                written += len(grades)
                output.write(b"".join(block))
    except Interrupted as stop:
        raise Interrupted(stop.signal_number, f"{stop.message} after {written} {_rows(written)}") from None
    finally:
        if not log.stat().st_size:
            log.unlink()
    if not quiet and (written or rows.problem is None):
        _say_summary(grader, log)
    if rows.problem is not None:
        raise rows.problem
    return grader.stats


class _Rows:
    """Rows as grade requests. `waiting` holds the rows whose grades are still to come, `problem` ends the rows."""

    def __init__(self, reader: RowReader, field: str | None, config: RunConfig) -> None:
        self.waiting: deque[Row] = deque()
        self.problem: UsageError | None = None
        self._reader = reader
        self._field = field
        self._config = config

    def requests(self) -> Iterator[GradeRequest]:
        """One request a row, up to the first bad row."""
        from rft_cli.types import GradeRequest

        try:
            for row in self._reader:
                completion = self._completion(row)
                self.waiting.append(row)
                yield GradeRequest(completion, row.value or {})
        except UsageError as problem:
            self.problem = problem

    def _completion(self, row: Row) -> str:
        """What is to be graded in this row; raises UsageError where there is nothing."""
        if row.value is None:
            raise row.problem or UsageError(f"{self._reader.name}:{row.line}: not a row")
        place = f"{self._reader.name}:{row.line}"
        if self._field is None:
            return self._reference(row, place)
        keys = ", ".join(list(row.value)[:12]) or "none"
        if self._field not in row.value:
            raise UsageError(
                f"{place}: no key '{self._field}'", f"name the key with --field (this row has: {keys})"
            )
        completion = row.value[self._field]
        if not isinstance(completion, str):
            raise UsageError(
                f"{place}: '{self._field}' is not a string", "the completion is the model's text"
            )
        return completion

    def _reference(self, row: Row, place: str) -> str:
        from rft_cli.data import reference_of
        from rft_cli.types import Example, Source

        example = Example("", "", row.value or {}, Source(self._reader.name, row.line))
        reference = reference_of(example, self._config.data.columns)
        if reference is None:
            raise UsageError(
                f"{place}: the row has no reference", "--gold grades output, answer and the like"
            )
        return reference


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


def _check_gates(stats: GraderStats, config: RunConfig, min_reward: float | None) -> None:
    from rft_cli.grading.outcomes import too_many_failures

    if stats.failure_rate > config.grader.max_failure_rate:
        raise too_many_failures(
            stats.failure_rate, stats.total, config.grader.max_failure_rate, stats.reasons()
        )
    if min_reward is not None and stats.mean_reward is None:
        raise GateNotMet(f"--min-reward {min_reward:g} is not met: no row was graded")
    if min_reward is not None and stats.mean_reward is not None and stats.mean_reward < min_reward:
        raise GateNotMet(
            f"--min-reward {min_reward:g} is not met: the mean reward is {stats.mean_reward:.4f}"
        )


def _new_log() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="rft-grade-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _say_summary(grader: Grader, log: Path) -> None:
    stats = grader.stats
    _say(
        f"{grader.signature}: {stats.total} {_rows(stats.total)}, {stats.graded} graded, {stats.skipped} skipped, "
        f"{stats.failed} failed"
    )
    if stats.mean_reward is not None:
        summary = stats.to_json()
        low, high = summary["reward"]["min"], summary["reward"]["max"]
        _say(f"  mean reward {stats.mean_reward:.4f} (min {low:g}, max {high:g})")
        if summary["components"]:
            _say(
                "  components: "
                + ", ".join(f"{name} {mean:.4f}" for name, mean in summary["components"].items())
            )
    for reason in stats.reasons():
        _say(f"  failed {reason.count} × {reason.kind}: {reason.message}")
    median, slow = stats.latency(0.5), stats.latency(0.99)
    if median is not None and slow is not None:
        _say(f"  a grade took {_milliseconds(median)} (median), {_milliseconds(slow)} (99 %)")
    if log.exists():
        _say(f"  the scorer's output: {log}")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
