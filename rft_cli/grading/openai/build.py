"""Builds the tree of graders of a spec. All problems of opening them are raised at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.openai.embeddings import CosineGrader
from rft_cli.grading.openai.formula import parse_formula
from rft_cli.grading.openai.load import Keys, LoadedSpec
from rft_cli.grading.openai.multi import MultiGrader
from rft_cli.grading.openai.python_source import scorer_source
from rft_cli.grading.openai.row_keys import variables
from rft_cli.grading.openai.schema import (
    JudgeModel,
    Leaf,
    Multi,
    Python,
    Spec,
    StringCheck,
    TextSimilarity,
)
from rft_cli.grading.openai.similarity import similarity
from rft_cli.grading.openai.templates import parse_template
from rft_cli.grading.openai.text_graders import OPERATIONS, JsonGrader, TextGrader
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.protocol import OnOutput, PartGrader
from rft_cli.grading.wire.messages import ScorerSource

# Loaded where a spec has judges.
if TYPE_CHECKING:
    from rft_cli.grading.judge import JudgeSession


@dataclass
class Builder:
    """Builds the graders of the spec in `source`. `session` is what its judges share."""

    config: GraderConfig
    source: ScorerSource
    log_path: Path | None
    seed: int
    on_output: OnOutput | None = None
    session: JudgeSession | None = None
    _problems: list[UsageError] = field(default_factory=list)

    def build(self, loaded: LoadedSpec) -> PartGrader:
        """The grader of the spec; raises UsageErrors with every problem, after closing what was opened."""
        opened: dict[Keys, PartGrader] = {}
        leaves = list(loaded.leaves())
        openable: list[type[Spec]] = [StringCheck, TextSimilarity, Python]
        try:
            with self._collect(()):
                self._open_session(leaves)
                openable += get_args(JudgeModel)
            for keys, leaf in leaves:
                if isinstance(leaf, tuple(openable)):
                    with self._collect(keys):
                        opened[keys] = self._open(leaf, keys)
            if self._problems:
                raise UsageErrors(self._problems)
        except BaseException:
            for part in opened.values():
                part.close()
            if self.session is not None:
                self.session.close()
            raise
        return _tree(loaded.spec, loaded.keys, opened)

    def _open_session(self, leaves: Sequence[tuple[Keys, Leaf]]) -> None:
        if any(isinstance(leaf, JudgeModel) for _, leaf in leaves):
            from rft_cli.grading.judge import JudgeSession

            self.session = JudgeSession(self.config.judge)

    def _open(self, leaf: Leaf, keys: Keys) -> PartGrader:
        grader = self._open_leaf(leaf, keys)
        return JsonGrader(grader) if any(v.reads_json for _, v in variables(leaf)) else grader

    def _open_leaf(self, leaf: Leaf, keys: Keys) -> PartGrader:
        if isinstance(leaf, Python):
            place = ".".join(map(str, (*keys, "source")))
            folder = os.path.dirname(self.source.path)
            source = scorer_source(leaf.source, folder, f"{self.source.shown}: {place}", self.source.home)
            return ScorerGrader(source, self.config, self.log_path, self.seed, self.on_output)
        if isinstance(leaf, JudgeModel):
            from rft_cli.grading.judge import JudgeGrader

            assert self.session is not None
            return JudgeGrader(leaf, self.session)
        sides = (parse_template(leaf.input), parse_template(leaf.reference))
        if isinstance(leaf, StringCheck):
            return TextGrader(*sides, OPERATIONS[leaf.operation])
        if leaf.evaluation_metric == "cosine":
            return CosineGrader(*sides, self.config.embeddings, self.config.grade_limit_s)
        return TextGrader(*sides, similarity(leaf.evaluation_metric))

    @contextlib.contextmanager
    def _collect(self, keys: Keys) -> Iterator[None]:
        """Collect the problems of one grader, with the keys that lead to it, and go on."""
        try:
            yield
        except UsageErrors as errors:
            self._problems += errors.problems
        except ImportError as error:
            library = (error.name or str(error)).partition(".")[0]
            extra = "judge" if library == "openai" else "text"
            message = f"text_similarity needs {library}, which is not installed"
            self._add(keys, UsageError(message, f"pip install 'rft-cli[{extra}]'"))
        except UsageError as error:
            self._add(keys, error)

    def _add(self, keys: Keys, problem: UsageError) -> None:
        shown, path = self.source.shown, ".".join(map(str, keys))
        place = f"{shown}: {path}: " if path else f"{shown}: "
        message = problem.message if problem.message.startswith(shown) else f"{place}{problem.message}"
        self._problems.append(UsageError(message, problem.fix))


def _tree(spec: Spec, keys: Keys, opened: dict[Keys, PartGrader]) -> PartGrader:
    if not isinstance(spec, Multi):
        return opened[keys]
    graders = spec.graders.items()
    parts = {name: _tree(child, (*keys, "graders", name), opened) for name, child in graders}
    return MultiGrader(parts, parse_formula(spec.calculate_output, spec.graders))
