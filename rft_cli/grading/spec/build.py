"""A spec becomes a tree of graders. Everything that stands in the way is raised at once, before a row is graded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.protocol import PartGrader
from rft_cli.grading.spec.embeddings import CosineGrader, check_endpoint
from rft_cli.grading.spec.formula import parse_formula
from rft_cli.grading.spec.inline_python import open_python, scorer_source
from rft_cli.grading.spec.models import (
    LabelModel,
    Multi,
    Python,
    ScoreModel,
    Spec,
    StringCheck,
    TextSimilarity,
)
from rft_cli.grading.spec.parts import BurstGrader, MultiGrader, RowGrader, string_check, text_similarity
from rft_cli.grading.spec.render import messages
from rft_cli.grading.spec.similarity import check_libraries, similarity
from rft_cli.grading.spec.templates import parse_template

if TYPE_CHECKING:
    from rft_cli.grading.judge import JudgeBook


@dataclass
class Builder:
    """Builds the graders of one spec. `shown` and `path` are the file's, `book` is what its judges share."""

    config: GraderConfig
    shown: str
    path: str
    log_path: Path | None
    seed: int
    book: JudgeBook | None = None
    missing_libraries: bool = False
    problems: list[UsageError] = field(default_factory=list)
    opened: list[PartGrader] = field(default_factory=list)

    def build(self, spec: Spec) -> PartGrader:
        """The grader of `spec`. Raises UsageErrors; whatever was opened until then is closed."""
        found = [leaf for _, leaf in leaves(spec)]
        try:
            with self._collect(""):
                check_libraries(leaf.evaluation_metric for leaf in found if isinstance(leaf, TextSimilarity))
            self.missing_libraries = bool(self.problems)
            with self._collect(""):
                if any(isinstance(leaf, ScoreModel | LabelModel) for leaf in found):
                    self.book = _open_book(self.config)
            grader = self._part(spec, ())
            if self.problems:
                raise UsageErrors(self.problems)
        except BaseException:
            for part in self.opened:
                part.close()
            if self.book is not None:
                self.book.close()
            raise
        assert grader is not None
        return grader

    def _part(self, spec: Spec, keys: tuple[str, ...]) -> PartGrader | None:
        if isinstance(spec, Multi):
            parts = {
                name: self._part(child, (*keys, "graders", name)) for name, child in spec.graders.items()
            }
            ready = {name: part for name, part in parts.items() if part is not None}
            return MultiGrader(ready, parse_formula(spec.calculate_output, spec.graders))
        part = None
        if self._stands_without(spec):
            return None
        with self._collect(".".join(keys)):
            part = self._leaf(spec, keys)
            self.opened.append(part)
        return part

    def _stands_without(self, spec: Spec) -> bool:
        """Whether what this grader needs is known to be missing, and told."""
        if isinstance(spec, TextSimilarity):
            return self.missing_libraries
        return isinstance(spec, ScoreModel | LabelModel) and self.book is None

    def _leaf(
        self, spec: StringCheck | TextSimilarity | Python | ScoreModel | LabelModel, keys: Any
    ) -> PartGrader:
        if isinstance(spec, StringCheck):
            return RowGrader(string_check(spec))
        if isinstance(spec, TextSimilarity):
            sides = (parse_template(spec.input), parse_template(spec.reference))
            if spec.evaluation_metric != "cosine":
                return RowGrader(text_similarity(*sides, similarity(spec.evaluation_metric)))
            check_endpoint(self.config.embeddings)
            return BurstGrader(CosineGrader(*sides, self.config.embeddings, self.config.timeout_s))
        if isinstance(spec, Python):
            shown = f"{self.shown}: {'.'.join((*keys, 'source'))}"
            source = scorer_source(spec.source, os.path.dirname(self.path), shown)
            return open_python(source, self.config, self.log_path, self.seed)
        return self._judge(spec, keys)

    def _judge(self, spec: ScoreModel | LabelModel, keys: tuple[str, ...]) -> PartGrader:
        from rft_cli.grading.judge import JudgeTask, open_judge

        assert self.book is not None
        score = isinstance(spec, ScoreModel)
        low, high = spec.bounds() if isinstance(spec, ScoreModel) else (0.0, 1.0)
        sampling = spec.sampling_params if isinstance(spec, ScoreModel) else None
        task = JudgeTask(
            name=keys[-1] if keys else spec.name,
            kind="score" if score else "label",
            model=spec.model,
            low=low,
            high=high,
            labels=() if isinstance(spec, ScoreModel) else tuple(spec.labels),
            passing_labels=() if isinstance(spec, ScoreModel) else tuple(spec.passing_labels),
            sampling={} if sampling is None else sampling.model_dump(exclude_none=True),
        )
        return open_judge(task, messages(spec.input), self.config.judge, self.book)

    @contextlib.contextmanager
    def _collect(self, keys: str) -> Iterator[None]:
        """Keep the user's problems of one grader, with the keys that lead to it, and go on."""
        try:
            yield
        except UsageErrors as errors:
            self.problems += errors.problems
        except UsageError as error:
            place = ": ".join(part for part in (self.shown, keys) if part)
            placed = error.message.startswith(self.shown)
            message = error.message if placed else f"{place}: {error.message}"
            self.problems.append(UsageError(message, error.fix))


def _open_book(config: GraderConfig) -> JudgeBook:
    """What the judges of one spec share."""
    from rft_cli.grading.judge import JudgeBook

    return JudgeBook(config.judge)


def leaves(spec: Spec, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Spec]]:
    """Every grader of the tree that is no multi, with the keys that lead to it."""
    if isinstance(spec, Multi):
        for name, child in spec.graders.items():
            yield from leaves(child, (*keys, "graders", name))
    else:
        yield keys, spec
