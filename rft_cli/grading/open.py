"""Opens the grader of the settings: Python scorers, or an OpenAI grader spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.protocol import Grader, OnOutput
from rft_cli.grading.shape import Shape
from rft_cli.grading.source import KINDS, by_file_name, is_reward_model, is_spec, read_source


def open_grader(
    config: GraderConfig,
    *,
    log_path: Path | None,
    seed: int = 0,
    on_output: OnOutput | None = None,
    brief: bool = False,
    rows: Shape | None = None,
) -> Grader:
    """Open the grader that `config` names: `path` is a scorer, several, or a spec file, `spec` an inline spec.

    Parameters of scorers are bound by `rows`, the shape of the rows to grade; None: by the first row.

    Reward models need torch: `rft_cli.training.graders` opens them too.

    Raises UsageError, or UsageErrors with all problems of a spec, where it can't be used. Prints of the user's code go
    to `log_path` (None: a file that `close` removes), or to `on_output`, each with its completion's place. `brief`:
    messages name the grader by its file name alone, for what is kept and compared.
    """
    if is_spec(config):
        from rft_cli.grading.openai.grader import SpecGrader

        source = read_source(config)
        return SpecGrader(by_file_name(source) if brief else source, config, log_path, seed, on_output)
    if is_reward_model(config):
        raise UsageError(f"{config.path}: is a reward model, and nothing here loads torch", KINDS)
    from rft_cli.grading.pool.scorer_grader import ScorerGrader

    def open_scorer(one: GraderConfig) -> ScorerGrader:
        source = read_source(one)
        return ScorerGrader(by_file_name(source) if brief else source, one, log_path, seed, on_output, rows)

    if isinstance(config.path, list):
        from rft_cli.grading.combined import open_weighted

        return open_weighted(config, open_scorer)
    return open_scorer(config)


def open_or_tell(open_one: Callable[[], Grader], also: Sequence[UsageError]) -> Grader:
    """The grader; UsageErrors with `also`, problems that were found beside it, and the grader's own."""
    try:
        grader = open_one()
    except UsageError as error:
        raise UsageErrors([*error.problems, *also]) if also else error from None
    if also:
        grader.close()
        raise UsageErrors(also)
    return grader
