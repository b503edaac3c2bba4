"""What travels between a grader and its workers: completions or lines there, verdicts or graded lines back.

Only strings, numbers, dicts and arrays of numbers travel back; no object of the user's is pickled.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rft_cli.data.json_line import object_of
from rft_cli.grading.wire.lines import KEY, grade_text, with_grade

_loads = pickle.loads


class Item(NamedTuple):
    """One completion on its way to a scorer: its place in the call, text, data row and metadata.

    `prompt`, `ids`, its token ids, and the row's `reference` are there where the scorer wants them and they are known.
    """

    place: int
    completion: str
    example: dict[str, Any]
    metadata: dict[str, Any]
    prompt: str | list[Any] | None = None
    ids: list[int] | None = None
    reference: Any = None


class Work(NamedTuple):
    """One completion as it travels to a worker. `place` counts from the start of the call or stream.

    `example` is pickled, so that each grade gets a copy of its own, which the scorer may change. `asked` is a pickled
    triple, the prompt, the token ids and the reference, where the scorer wants one of them.
    """

    place: int
    completion: str
    example: bytes
    metadata: bytes | None
    asked: bytes | None = None

    def item(self) -> Item:
        """The completion as the scorer gets it."""
        metadata = {} if self.metadata is None else _loads(self.metadata)
        if self.asked is None:
            return Item(self.place, self.completion, _loads(self.example), metadata)
        return Item(self.place, self.completion, _loads(self.example), metadata, *_loads(self.asked))


class Verdict(NamedTuple):
    """One grade as it travels back; `kind` is set where it failed, `reward` None elsewhere means skipped.

    `output` is what the scorer printed, where that is kept.
    """

    reward: float | None
    components: dict[str, float]
    kind: str | None
    message: str
    trace: str
    seconds: float
    output: str = ""


class Block(NamedTuple):
    """Lines of JSON as they travel to a worker, blank ones included; the first one's place is `place`.

    `field` is the key of the completion.
    """

    place: int
    field: str
    lines: Sequence[bytes]


class Line:
    """A row of a block, parsed; `item` gives it to a scorer, and parses it again when it is asked again."""

    __slots__ = ("_item", "field", "has_grade", "place", "raw")

    def __init__(self, place: int, raw: bytes, field: str) -> None:
        self.place = place
        self.raw = raw
        self.field = field
        self._item: Item | None = None
        self.has_grade = False

    def read(self) -> bool:
        """Parse the line; whether it is a row with a completion."""
        row = object_of(self.raw)
        if row is None:
            return False
        completion = row.get(self.field)
        if not isinstance(completion, str):
            return False
        self.has_grade = KEY in row
        self._item = Item(self.place, completion, row, {})
        return True

    def item(self) -> Item:
        """The completion as the scorer gets it: a row of its own each time, which the scorer may change."""
        if self._item is None:
            self.read()
        item, self._item = self._item, None
        assert item is not None
        return item


class Failure(NamedTuple):
    """A failed grade among lines: `offset` counts lines from the start of its block."""

    offset: int
    kind: str
    message: str
    trace: str


@dataclass(slots=True)
class Graded:
    """The first `count` lines of a block, graded: `text` is the lines to write.

    `rewards` and `components` are of graded rows, in order; `seconds` of all. `bad` is the offset of a line that is
    no row with a completion: the lines from there on are not graded.
    """

    count: int = 0
    text: bytes = b""
    rows: int = 0
    skipped: int = 0
    rewards: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    components: dict[str, array[float]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    outputs: list[tuple[int, str]] = field(default_factory=list)
    bad: int | None = None

    def __len__(self) -> int:
        return self.count


def read_lines(block: Block) -> tuple[list[Line], int | None]:
    """The rows of a block, up to the first line that is none; and that line's offset."""
    lines: list[Line] = []
    for offset, raw in enumerate(block.lines):
        stripped = raw.strip(b" \t\r\n")
        if stripped:
            line = Line(block.place + offset, stripped, block.field)
            if not line.read():
                return lines, offset
            lines.append(line)
    return lines, None


def as_graded(block: Block, lines: Sequence[Line], verdicts: Sequence[Verdict], bad: int | None) -> Graded:
    """The verdicts of the first lines as text and numbers; `bad` is from `read_lines`."""
    graded = Graded(rows=len(verdicts))
    if len(verdicts) == len(lines):
        graded.count, graded.bad = len(block.lines), bad
    else:
        graded.count = lines[len(verdicts)].place - block.place
    text: list[bytes] = []
    for line, verdict in zip(lines, verdicts, strict=False):
        reward, components, kind, message, trace, seconds, output = verdict
        error = None if kind is None else (kind, message)
        text.append(with_grade(line.raw, line.has_grade, grade_text(reward, components, error)))
        graded.seconds.append(seconds)
        if kind is not None:
            graded.failures.append(Failure(line.place - block.place, kind, message, trace))
        elif reward is None:
            graded.skipped += 1
        else:
            graded.rewards.append(reward)
            for name, value in components.items():
                graded.components.setdefault(name, array("d")).append(value)
        if output:
            graded.outputs.append((line.place - block.place, output))
    graded.text = b"".join(text)
    return graded
