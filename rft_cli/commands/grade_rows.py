"""What `rft grade` does with rows: grade them, write them, sum up, and hold the result against the gates."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from rft_cli.commands import terminal
from rft_cli.commands.grade_checks import unreadable
from rft_cli.commands.grade_people import People, say_summary
from rft_cli.commands.signals import signals_interrupt
from rft_cli.config.schema import GraderConfig, RunConfig
from rft_cli.config.suggest import counted
from rft_cli.data.json_line import Row
from rft_cli.errors import GateNotMet, Interrupted, RftError, RunFailed
from rft_cli.grading.open import OnOutput, open_or_tell
from rft_cli.grading.outcomes import GraderStats, too_many_failures
from rft_cli.grading.pool.scorer_grader import ScorerGrader, worker_count
from rft_cli.grading.protocol import Grader
from rft_cli.grading.rows import LinePipeline, Pipeline, RowPipeline, completion_of, gold_of, prompt_reader
from rft_cli.grading.source import is_reward_model
from rft_cli.grading.wire.call import Shape


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
    failed or a judge's budget is spent; GateNotMet below `min_reward`.
    """
    # The parent only passes lines on: every core can work.
    workers = worker_count(config.grader, spare=0)
    grader_config = config.grader.model_copy(update={"workers": workers})
    people = People(config.grader.shown or "", quiet=quiet, rows_out=rows_out)
    written = 0
    stopped: RunFailed | None = None
    with (
        people,
        signals_interrupt(signal.SIGINT) as signals,
        _open(grader_config, config, files, None if quiet else people.print) as grader,
    ):
        pipeline = people.pipeline = _pipeline(files, field, config, grader, openai_run)
        try:
            for part in pipeline.parts(grader):
                if not written and not quiet:
                    people.note(grader.notes)
                written += part.rows
                if rows_out:
                    with signals.held():
                        _write(part.text)
                people.progress(grader.stats)
        except Interrupted as stop:
            raise Interrupted(stop.signal_number, f"{stop.message} after {counted(written, 'row')}") from None
        except RunFailed as error:  # what was graded until then counts
            stopped = error
    stats = grader.stats
    if summary_file is not None:
        terminal.write_json(summary_file, stats.to_json())
    if not quiet and (written or (stopped or pipeline.problem) is None):
        say_summary(grader, config.grader.max_failure_rate)
    if pipeline.problem is not None:
        raise pipeline.problem
    short = stopped or _unmet(stats, config.grader.max_failure_rate, min_reward)
    if not rows_out:
        with terminal.results():
            terminal.print_json(stats.to_json(), short)
    if short is not None:
        raise short


def _open(config: GraderConfig, whole: RunConfig, files: Sequence[str], on_output: OnOutput | None) -> Grader:
    """The grader; UsageErrors also for files that can't be opened."""
    from rft_cli.training.graders import open_grader  # of all kinds; only reward models load torch

    rows = Shape(columns=whole.data.columns)
    return open_or_tell(
        lambda: open_grader(config, log_path=None, seed=whole.seed, on_output=on_output, rows=rows),
        unreadable(files),
    )


def _pipeline(
    files: Sequence[str], field: str | None, config: RunConfig, grader: Grader, openai_run: bool
) -> Pipeline:
    if field is not None and isinstance(grader, ScorerGrader) and not (grader.may_ask or openai_run):
        return LinePipeline(files, field)

    def complete(row: Row, place: str) -> str:
        return gold_of(row, place, config.data.columns) if field is None else completion_of(row, place, field)

    prompt = prompt_reader(config.data, required=is_reward_model(config.grader)) if grader.may_ask else None
    return RowPipeline(files, complete, prompt=prompt, openai_run=openai_run)


def _write(block: bytes) -> None:
    """Whole lines to standard output, flushed; raises BrokenPipeError when nobody reads."""
    try:
        rest = memoryview(block)
        while rest:  # under PYTHONUNBUFFERED this is a raw file: a signal makes its writes short
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise terminal.cannot_print(error) from None


def _unmet(stats: GraderStats, max_failure_rate: float, min_reward: float | None) -> RftError | None:
    """What these grades fall short of, None where they are good enough."""
    if stats.failure_rate > max_failure_rate:
        return too_many_failures(stats.failure_rate, stats.total, max_failure_rate, stats.reasons())
    if min_reward is not None and stats.mean_reward is None:
        return GateNotMet(f"--min-reward {min_reward:g} is not met: no row was graded")
    if min_reward is not None and stats.mean_reward is not None and stats.mean_reward < min_reward:
        return GateNotMet(
            f"--min-reward {min_reward:g} is not met: the mean reward is {stats.mean_reward:.4f}"
        )
    return None
