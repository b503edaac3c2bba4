"""The completions of training, a page at a time: files are read up to the page's end and nothing else is kept."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rft_cli.view.completions import UNGRADED, Completion, SampleFile, completion_of, files_of
from rft_cli.view.reading import ReadProblems, parsed
from rft_cli.view.visible import ending

KINDS: Mapping[str, tuple[Sequence[bytes], Callable[[Completion], bool]]] = {
    "all": ((b"",), lambda found: True),
    "ungraded": (UNGRADED, lambda found: found.reward is None),
    "cut": ((b'"truncated": true',), lambda found: found.truncated),
}
"""Which completions a page shows: what their lines hold, one of these, and what is true of them."""
_PLACE = re.compile(r"(\d{1,12}):(\d{1,15})")


@dataclass(slots=True)
class SampledGroup:
    """The completions of one prompt in one rollout batch that are wanted: how many, and their rewards."""

    step: int
    row: int
    id: str
    prompt: str
    count: int = 0
    ungraded: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @property
    def mean(self) -> float | None:
        """The mean reward; None where no grade has one."""
        graded = self.count - self.ungraded
        return self.total / graded if graded else None

    def add(self, completion: Completion) -> None:
        """Count one more completion of the group."""
        self.count += 1
        if completion.reward is None:
            self.ungraded += 1
            return
        self.total += completion.reward
        self.low, self.high = min(self.low, completion.reward), max(self.high, completion.reward)


@dataclass(frozen=True, slots=True)
class RolloutPage:
    """`following` is the place where the next page begins; None on the last one."""

    groups: list[SampledGroup]
    following: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`kind` is one of KINDS; `search`: a text of prompt, completion or id; `step`: of this rollout batch alone."""

    kind: str = "all"
    search: str = ""
    step: int | None = None


def rollout_page(run: Path, wanted: Wanted, place: str, most: int, problems: ReadProblems) -> RolloutPage:
    """At most `most` groups from this place on, newest rollout batch first; `place` empty: from the beginning."""
    at = _PLACE.fullmatch(place)
    first, offset = (int(at[1]), int(at[2])) if at else (None, 0)
    found: list[SampledGroup] = []
    for sampled in reversed(files_of(run, "training", 0)):
        if wanted.step is not None and sampled.step != wanted.step:
            continue
        if first is not None and sampled.step > first:
            continue
        start = offset if sampled.step == first else 0
        for begins, completion in _matching(sampled, wanted, start, problems):
            if not found or (found[-1].step, found[-1].row) != (sampled.step, completion.row):
                if len(found) == most:
                    return RolloutPage(found, f"{sampled.step}:{begins}")
                shown = ending(completion.prompt)
                found.append(SampledGroup(sampled.step, completion.row, completion.id, shown))
            found[-1].add(completion)
    return RolloutPage(found, None)


def _matching(
    sampled: SampleFile, wanted: Wanted, start: int, problems: ReadProblems
) -> Iterator[tuple[int, Completion]]:
    held, is_wanted = KINDS[wanted.kind]
    words = wanted.search.lower()
    written = _as_written(words)
    try:
        with sampled.file.open("rb") as lines:
            lines.seek(start)
            while line := lines.readline():
                begins, start = start, start + len(line)
                if not any(part in line for part in held) or (written and written not in line.lower()):
                    continue
                row = parsed(line)
                completion = None if row is None else completion_of(row, "training", sampled.step)
                if completion is not None and is_wanted(completion) and _has(completion, words):
                    yield begins, completion
    except FileNotFoundError:
        return
    except OSError as error:
        problems.add(sampled.file, f"can't be read: {error.strerror or error}")


def _has(completion: Completion, words: str) -> bool:
    return not words or any(
        words in text.lower() for text in (completion.text, completion.prompt, completion.id)
    )


def _as_written(words: str) -> bytes:
    """What a line with these words holds; nothing where JSON may write them in two ways."""
    return json.dumps(words)[1:-1].encode() if words.isascii() and words.isprintable() else b""
