"""What an audit found: findings, each ok, a warning or a problem, and the figures they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.types import Source

SCHEMA = "rft.audit/1"
MAX_SHOWN_CHARS = 500

Level = Literal["ok", "warning", "problem", "none"]
"""none: there was nothing to judge, for example no second reference."""
Group = Literal["reference", "wrong", "exploit", "scorer"]


@dataclass(frozen=True, slots=True)
class Shown:
    """One completion that a finding is about: its row, its text (the beginning) and what it got.

    `error` says why there is no reward, where there is none.
    """

    source: Source
    completion: str
    reward: float | None
    error: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "row": str(self.source),
            "completion": self.completion,
            "reward": self.reward,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit.

    `reward` is the mean over the graded completions of this kind, None where there are none or the line is not about
    one kind. `hits` of `rows` rows are what `text` speaks of. `fix` is set for warnings and problems.
    """

    group: Group
    name: str
    level: Level
    text: str
    reward: float | None = None
    hits: int = 0
    rows: int = 0
    shown: Shown | None = None
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "name": self.name,
            "level": self.level,
            "text": self.text,
            "reward": self.reward,
            "hits": self.hits,
            "rows": self.rows,
            "example": None if self.shown is None else self.shown.to_json(),
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The findings, in the order they are shown.

    `median_honest` is over all honest completions, None where none was graded. `gold_failed` counts rows whose
    reference fails, of `rows`; `follows_row` is False where the rewards depend on the text alone. `noise` is the
    largest difference between calls with one text.
    """

    signature: str
    sha256: str
    rows: int
    calls: int
    median_honest: float | None
    noise: float
    gold_failed: int
    follows_row: bool
    findings: tuple[Finding, ...]

    def of_level(self, level: Level) -> list[Finding]:
        """The findings of this level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.of_level("problem")

    def to_json(self) -> dict[str, Any]:
        """The document that `rft grade --audit --json` prints."""
        return {
            "schema": SCHEMA,
            "status": "ok" if self.passed else "problems",
            "grader": {"signature": self.signature, "sha256": self.sha256},
            "rows": self.rows,
            "calls": self.calls,
            "median_honest": self.median_honest,
            "noise": self.noise,
            "problems": len(self.of_level("problem")),
            "warnings": len(self.of_level("warning")),
            "findings": [finding.to_json() for finding in self.findings],
        }
