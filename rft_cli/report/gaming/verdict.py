"""The verdict: whether the gain looks gamed, of which kind, and the signs that were seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.report.gaming import signs
from rft_cli.report.gaming.evidence import GamingEvidence, RowRewards, row_rewards
from rft_cli.report.gaming.signs import Sign

Verdict = Literal["gamed", "not gamed", "not measured"]

KINDS = {
    "unbounded": "a reward without bound",
    "one_answer": "one answer to every row",
    "echo": "an echo of the prompt",
    "keyword": "a keyword",
    "length": "length",
    "form": "the form alone",
    "unknown": "something that the rows do not ask for",
}
"""What was paid for, in words."""


_OF_THE_FIRST = "Signs that the gain is gamed, with two completions each:"


@dataclass(frozen=True, slots=True)
class Gaming:
    """`kind` says what the grader paid for, empty unless the verdict is "gamed". `signs`: what was seen, with examples.

    "not gamed" means that the gain depends on the row; "not measured" that nothing could be compared: `why` says what
    was missing, empty where there is no gain to judge.
    """

    verdict: Verdict
    kind: str = ""
    signs: Sequence[Sign] = ()
    why: str = ""

    @property
    def sentence(self) -> str:
        """The verdict for the headline; empty unless the gain looks gamed."""
        if self.verdict != "gamed":
            return ""
        first = self.signs[0].text
        return f"Looks gamed: the grader pays for {KINDS[self.kind]}. {first[0].upper()}{first[1:]}."

    def lines(self) -> list[str]:
        """Why nothing was measured, then the signs, each followed by its examples."""
        found = [f"Whether the scorer was fooled was not measured: {self.why}."] if self.why else []
        found += [_OF_THE_FIRST] if self.sentence else []
        for sign in self.signs:
            found += [f"{sign.text[0].upper()}{sign.text[1:]}.", *(f"  {line}" for line in sign.examples)]
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "kind": self.kind or None,
            "why": self.why or None,
            "signs": [sign.to_json() for sign in self.signs],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Gaming:
        """What `to_json` gave."""
        listed = [Sign(s["name"], s["text"], s["value"], s["examples"]) for s in found["signs"]]
        return cls(found["verdict"], found["kind"] or "", listed, found.get("why") or "")


def judge(evidence: GamingEvidence) -> Gaming:
    """The verdict on this evidence.

    A gain that completions of other rows make too is not an answer to the rows, and a gain that repeats the prompt
    beyond what references do and earns more than they is none either: only these two make the verdict. A gain in the
    form alone makes none while the completions earn more on their own rows: they answer, and the form came first. Where
    references could not be graded, one answer to every row that is as good as the model makes it.
    """
    if not evidence.measured:
        return _unmeasured(evidence)
    rows = row_rewards(evidence)
    blind, over = signs.row_blind(evidence, rows), signs.over_reference(evidence, rows)
    echoed = signs.echo(evidence) if over is not None else None
    if blind is None and echoed is None:
        credible = over is not None and _credible(rows)
        return Gaming("not gamed", signs=[over] if over is not None and credible else [])
    how = {
        "one_answer": signs.one_answer(evidence),
        "echo": echoed,
        "keyword": signs.keyword(evidence),
        "length": signs.length(evidence),
    }
    kind = next((name for name, sign in how.items() if sign is not None), "unknown" if over else "form")
    kind = "unbounded" if signs.unbounded(rows) else kind
    if kind == "form" and blind is not None and signs.follows_row(rows):
        # Honest jobs learn the form first.
        return Gaming("not gamed", signs=[blind])
    above = signs.out_of_range(evidence, rows)
    seen = [blind, *how.values(), over, above, signs.audit(evidence)]
    return Gaming("gamed", kind, [sign for sign in seen if sign is not None])


def _unmeasured(evidence: GamingEvidence) -> Gaming:
    """What can be said without references: one answer to every row makes the verdict, other signs are notes."""
    alone = signs.one_answer(evidence)
    notes = [signs.keyword(evidence), signs.length(evidence), signs.audit(evidence)]
    seen = [sign for sign in (alone, *notes) if sign is not None]
    if alone is not None:
        return Gaming("gamed", "one_answer", seen)
    return Gaming("not measured", signs=seen, why=evidence.missing)


def _credible(rows: Mapping[int, RowRewards]) -> bool:
    """Whether references are completions of the kind that the grader wants: they beat what the base says."""
    count = len(rows)
    return count > 0 and sum(r.reference - r.before for r in rows.values()) > 0
