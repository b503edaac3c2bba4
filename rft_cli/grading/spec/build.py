"""A spec becomes a tree of graders. Everything that stands in the way is raised at once, before a row is graded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.protocol import OnOutput, PartGrader
from rft_cli.grading.spec.embeddings import CosineGrader, check_endpoint
from rft_cli.grading.spec.formula import parse_formula
from rft_cli.grading.spec.load import Keys, ReadSpec
from rft_cli.grading.spec.models import (
    LabelModel,
    Multi,
    Python,
    ScoreModel,
    Spec,
    StringCheck,
    TextSimilarity,
)
from rft_cli.grading.spec.parts import (
    BurstGrader,
    JsonGrader,
    MultiGrader,
    RowGrader,
    string_check,
    text_similarity,
)
from rft_cli.grading.spec.render import messages, variables
from rft_cli.grading.spec.similarity import similarity
from rft_cli.grading.spec.static import check_spec, python_source
from rft_cli.grading.spec.templates import parse_template
from rft_cli.grading.wire.messages import ScorerSource

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
    problems: list[UsageError] = field(default_factory=list)
    opened: dict[Keys, PartGrader] = field(default_factory=dict)

    def build(self, read: ReadSpec) -> PartGrader:
        """The grader of what was read. Raises UsageErrors with its problems and all that stands in the way.

        Graders are opened beside others that were refused, to see what is wrong with them too. Whatever was opened
        until then is closed.
        """
        findings = check_spec(read, self.source)
        self.problems += findings.problems
        try:
            if any(issubclass(grader.kind, ScoreModel | LabelModel) for grader in read.raw):
                with self._collect(()):
                    from rft_cli.grading.judge import JudgeSession

                    self.session = JudgeSession(self.config.judge)
            fields = {grader.keys: grader.fields for grader in read.raw}
            for keys, leaf in read.leaves.items():
                judge = isinstance(leaf, ScoreModel | LabelModel)
                if keys not in findings.blocked and not (judge and self.session is None):
                    with self._collect(keys):
                        part = self._leaf(leaf, keys)
                        self.opened[keys] = JsonGrader(part) if _reads_json(fields[keys]) else part
            if self.problems:
                raise UsageErrors(self.problems)
            return self._tree(read.checked(), read.keys)
        except BaseException:
            for part in self.opened.values():
                part.close()
            if self.session is not None:
                self.session.close()
            raise

    def _tree(self, spec: Spec, keys: Keys) -> PartGrader:
        if not isinstance(spec, Multi):
            return self.opened[keys]
        graders = spec.graders.items()
        parts = {name: self._tree(child, (*keys, "graders", name)) for name, child in graders}
        return MultiGrader(parts, parse_formula(spec.calculate_output, spec.graders))

    def _leaf(self, spec: Spec, keys: Keys) -> PartGrader:
        if isinstance(spec, StringCheck):
            return RowGrader(string_check(spec))
        if isinstance(spec, TextSimilarity):
            sides = (parse_template(spec.input), parse_template(spec.reference))
            if spec.evaluation_metric != "cosine":
                return RowGrader(text_similarity(*sides, similarity(spec.evaluation_metric)))
            check_endpoint(self.config.embeddings)
            return BurstGrader(CosineGrader(*sides, self.config.embeddings, self.config.grade_limit_s))
        if isinstance(spec, Python):
            source = python_source(spec.source, keys, self.source)
            return ScorerGrader(source, self.config, self.log_path, self.seed, self.on_output)
        assert isinstance(spec, ScoreModel | LabelModel)
        return self._judge(spec, keys)

    def _judge(self, spec: ScoreModel | LabelModel, keys: Keys) -> PartGrader:
        from rft_cli.grading.judge import JudgeGrader, JudgeTask

        assert self.session is not None
        score = isinstance(spec, ScoreModel)
        low, high = spec.bounds() if isinstance(spec, ScoreModel) else (0.0, 1.0)
        sampling = spec.sampling_params if isinstance(spec, ScoreModel) else None
        task = JudgeTask(
            name=str(keys[-1]) if "graders" in keys else spec.name,
            kind="score" if score else "label",
            model=spec.model,
            low=low,
            high=high,
            labels=() if isinstance(spec, ScoreModel) else tuple(spec.labels),
            passing_labels=() if isinstance(spec, ScoreModel) else tuple(spec.passing_labels),
            sampling={} if sampling is None else sampling.model_dump(exclude_none=True),
        )
        return JudgeGrader(task, messages(spec.input), self.session)

    @contextlib.contextmanager
    def _collect(self, keys: Keys) -> Iterator[None]:
        """Keep the user's problems of one grader, with the keys that lead to it, and go on."""
        try:
            yield
        except UsageErrors as errors:
            self.problems += errors.problems
        except UsageError as error:
            shown = self.source.shown
            place = ": ".join(part for part in (shown, ".".join(map(str, keys))) if part)
            placed = error.message.startswith(shown)
            message = error.message if placed else f"{place}: {error.message}"
            self.problems.append(UsageError(message, error.fix))


def _reads_json(fields: Mapping[str, Any]) -> bool:
    """Whether a template of the grader reads the completion as JSON."""
    found = [variable for _, variable in variables(fields)]
    return any(variable.namespace == "sample" and variable.path[0] == "output_json" for variable in found)
