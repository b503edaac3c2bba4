"""`rft grade` on rows: grades them, writes them, sums up, and checks the result against the gates."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from rft_cli.commands import terminal
from rft_cli.commands.grading.checks import unreadable
from rft_cli.commands.grading.options import OutputOptions
from rft_cli.commands.grading.output import Display
from rft_cli.commands.signals import signals_interrupt
from rft_cli.config.schema import GraderConfig, RunConfig
from rft_cli.config.suggest import counted
from rft_cli.data.json_line import Row
from rft_cli.errors import GateNotMet, Interrupted, RftError, RunFailed
from rft_cli.grading.open import open_or_tell
from rft_cli.grading.pool.scorer_grader import worker_count
from rft_cli.grading.protocol import Grader, OnOutput
from rft_cli.grading.rows import GradedRows, completion_of, gold_of, prompt_reader
from rft_cli.grading.shape import Shape
from rft_cli.grading.source import is_reward_model
from rft_cli.grading.stats import GraderStats, too_many_failures


def grade_rows(
    config: RunConfig,
    files: Sequence[str],
    field: str | None,
    min_reward: float | None,
    output: OutputOptions,
) -> None:
    """Grade the rows of these files, whose completions are under `field` (None: grade their references).

    Writes the graded lines or the summary, as `output` says. Raises the problem of the first bad row when those before
    it are out; RunFailed where too many grades failed or a judge's budget is spent; GateNotMet below `min_reward`.
    """
    # Beside a real scorer, this process has little to do: every core can grade.
    workers = worker_count(config.grader, spare=0)
    grader_config = config.grader.model_copy(update={"workers": workers})
    display = Display(config.grader.shown or "", output)
    written = 0
    stopped: RunFailed | None = None
    with (
        display,
        signals_interrupt(signal.SIGINT) as signals,
        _open(grader_config, config, files, None if output.quiet else display.print) as grader,
    ):
        rows = display.rows = _rows(files, field, config, grader, output.openai_run)
        try:
            for lines in rows.lines(grader):
                if not written and not output.quiet:
                    display.note(grader.notes)
                written += len(lines)
                if output.rows:
                    with signals.held():
                        _write(b"".join(lines))
                display.progress(grader.stats)
        except Interrupted as stop:
            raise Interrupted(stop.signal_number, f"{stop.message} after {counted(written, 'row')}") from None
        except RunFailed as error:
            # What was graded until then counts.
            stopped = error
    stats = grader.stats
    if output.summary_file is not None:
        terminal.write_json(output.summary_file, stats.to_json())
    if not output.quiet and (written or (stopped or rows.problem) is None):
        display.summary(grader, config.grader.max_failure_rate)
    if rows.problem is not None:
        raise rows.problem
    short = stopped or _unmet(stats, config.grader.max_failure_rate, min_reward)
    if not output.rows:
        with terminal.results():
            terminal.print_json(stats.to_json(), short)
    if short is not None:
        raise short


def _open(config: GraderConfig, whole: RunConfig, files: Sequence[str], on_output: OnOutput | None) -> Grader:
    """The grader; UsageErrors also for files that can't be opened."""
    # Of all kinds; only reward models load torch.
    from rft_cli.training.graders import open_grader

    rows = Shape(columns=whole.data.columns)
    return open_or_tell(
        lambda: open_grader(config, log_path=None, seed=whole.seed, on_output=on_output, rows=rows),
        unreadable(files),
    )


def _rows(
    files: Sequence[str], field: str | None, config: RunConfig, grader: Grader, openai_run: bool
) -> GradedRows:
    def complete(row: Row, place: str) -> str:
        return gold_of(row, place, config.data.columns) if field is None else completion_of(row, place, field)

    prompt = prompt_reader(config.data, required=is_reward_model(config.grader)) if grader.may_ask else None
    return GradedRows(files, complete, prompt=prompt, openai_run=openai_run)


def _write(block: bytes) -> None:
    """Write whole lines to standard output and flush; raises BrokenPipeError where nobody reads."""
    try:
        rest = memoryview(block)
        # Under PYTHONUNBUFFERED this is a raw file: a signal makes its writes short.
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise terminal.cannot_print(error) from None


def _unmet(stats: GraderStats, max_failure_rate: float, min_reward: float | None) -> RftError | None:
    """The gate that these grades don't meet; None where they meet all."""
    if stats.failure_rate > max_failure_rate:
        return too_many_failures(stats.failure_rate, stats.total, max_failure_rate, stats.reasons())
    if min_reward is not None and stats.mean_reward is None:
        return GateNotMet(f"--min-reward {min_reward:g} is not met: no row was graded")
    if min_reward is not None and stats.mean_reward is not None and stats.mean_reward < min_reward:
        return GateNotMet(
            f"--min-reward {min_reward:g} is not met: the mean reward is {stats.mean_reward:.4f}"
        )
    return None
