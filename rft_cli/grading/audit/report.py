"""What an audit found: findings, each ok, a warning or a problem, and the figures they come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

SCHEMA = "rft.audit/1"

Level = Literal["ok", "warning", "problem"]
Group = Literal["reference", "wrong", "exploit", "scorer"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One completion that a finding is about: its row's file and line, the beginning of its text, and its reward.

    `error` says why there is no reward, where there is none.
    """

    row: str
    completion: str
    reward: float | None
    error: str | None


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
    example: Evidence | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The findings, in the order they are shown.

    `median_honest` is over all honest completions, None where none was graded. `noise` is the largest difference
    between calls with one text.
    """

    signature: str
    sha256: str
    rows: int
    calls: int
    median_honest: float | None
    noise: float
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
            "findings": [asdict(finding) for finding in self.findings],
        }
