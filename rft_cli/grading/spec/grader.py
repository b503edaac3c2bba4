"""A spec as a Grader: the tree of graders it describes, with the books that jobs keep on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.protocol import Grader, OnOutput, PartGrader
from rft_cli.grading.spec.build import Builder
from rft_cli.grading.spec.load import read_grader
from rft_cli.grading.spec.models import Multi, Spec
from rft_cli.grading.stats import GraderStats, JudgeCounts
from rft_cli.grading.wire.messages import ScorerSource
from rft_cli.types import Grade, GradeRequest


class SpecGrader(Grader):
    """The Grader of a spec. `spec` is what was read, `shown` its file as the user named it.

    `signature` is its type and name; `log_path` is where prints of python graders go; `sha256` is of the file;
    `judges` counts what its judges were asked, None without judges.
    """

    def __init__(
        self,
        spec: Spec,
        part: PartGrader,
        source: ScorerSource,
        log_path: Path | None,
        judges: JudgeCounts | None = None,
    ) -> None:
        self.spec = spec
        self.shown = source.shown
        self.sha256 = source.sha256
        self.stats = GraderStats()
        self.stats.judges = judges
        self.signature = describe(spec)
        self.log_path = log_path
        self._part = part

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        grades = self._part.grade(requests)
        self.stats.add(grades)
        return grades

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        for grades in self._part.stream(requests):
            self.stats.add(grades)
            yield grades

    def close(self) -> None:
        """End worker processes and connections; safe to call twice."""
        self._part.close()


def open_spec(
    source: ScorerSource,
    config: GraderConfig,
    log_path: Path | None,
    seed: int,
    on_output: OnOutput | None = None,
) -> SpecGrader:
    """Read the spec in `source` and start what it needs; raises UsageErrors with every problem.

    Prints of python graders go to `log_path`, or to `on_output`, each with its completion's place.
    """
    read = read_grader(config, source)
    builder = Builder(config, source, log_path, seed, on_output)
    part = builder.build(read)
    judges = None if builder.session is None else builder.session.usage
    return SpecGrader(read.checked(), part, source, log_path, judges)


def describe(spec: Spec) -> str:
    """Type and name for people; of a multi also the graders in it."""
    if not isinstance(spec, Multi):
        return f"{spec.type} grader '{spec.name}'"
    inner = ", ".join(f"{name}: {child.type}" for name, child in spec.graders.items())
    return f"multi grader '{spec.name}' ({inner})"
