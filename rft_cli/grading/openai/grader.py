"""A spec as a Grader: the tree of graders it describes, with its statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.openai.build import Builder
from rft_cli.grading.openai.load import load_spec
from rft_cli.grading.openai.schema import Multi, Spec
from rft_cli.grading.protocol import Grader, OnOutput
from rft_cli.grading.stats import GraderStats
from rft_cli.grading.wire.messages import ScorerSource
from rft_cli.types import Grade, GradeRequest


class SpecGrader(Grader):
    """The Grader of the spec in `source`; raises UsageErrors with every problem.

    `signature` is its type and name, `sha256` is of the file. Prints of python graders go to `log_path`, or to
    `on_output`, each with its completion's position.
    """

    def __init__(
        self,
        source: ScorerSource,
        config: GraderConfig,
        log_path: Path | None,
        seed: int,
        on_output: OnOutput | None = None,
    ) -> None:
        loaded = load_spec(config, source)
        builder = Builder(config, source, log_path, seed, on_output)
        self._part = builder.build(loaded)
        self.spec = loaded.spec
        self.sha256 = source.sha256
        self.stats = GraderStats()
        self.stats.judges = None if builder.session is None else builder.session.usage
        self.signature = _describe(loaded.spec)
        self.log_path = log_path

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        grades = self._part.grade(requests)
        self.stats.add(grades)
        return grades

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read."""
        for grades in self._part.stream(requests):
            self.stats.add(grades)
            yield grades

    def close(self) -> None:
        """End worker processes and connections; safe to call twice."""
        self._part.close()


def _describe(spec: Spec) -> str:
    """Type and name for people; of a multi also the graders in it."""
    if not isinstance(spec, Multi):
        return f"{spec.type} grader '{spec.name}'"
    inner = ", ".join(f"{name}: {child.type}" for name, child in spec.graders.items())
    return f"multi grader '{spec.name}' ({inner})"
