"""The examples of a file, kept as the bytes of its lines: a million rows cost little more than their file.

Parsed rows take about ten times the memory of their text, so an example is made when it is asked for. That also
gives every reader a row of its own, which nobody else has changed.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from rft_cli.data.formats import Format, Keys, prompt_of
from rft_cli.data.json_line import parsed
from rft_cli.data.messages import after_system
from rft_cli.data.tools import tools_of
from rft_cli.types import Example, Source


class Lines:
    """Lines that are valid rows, and their numbers in the file: 16 bytes each beside the text."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("Q")
        self._numbers = array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, number: int, text: str) -> None:
        """Keep one line, which stands at `number` of the file."""
        self._text += text.encode()
        self._ends.append(len(self._text))
        self._numbers.append(number)

    def number(self, place: int) -> int:
        """The line number of the row at `place`, both as the file has them."""
        return self._numbers[place]

    def row(self, place: int) -> dict[str, Any]:
        """The row at `place`, parsed anew."""
        start = self._ends[place - 1] if place else 0
        return parsed(self._text[start : self._ends[place]])


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of a file are read: `name` is the file as the user named it, `system` goes before prompts.

    `alone`: no other file is read beside it, so that a line's number names a row.
    """

    name: str
    format: Format
    keys: Keys
    system: str | None
    alone: bool = True

    def example(self, line: int, row: dict[str, Any]) -> Example:
        """The row as an example. Raises BadRow."""
        prompt = prompt_of(row, self.format, self.keys, _nobody)
        key = self.keys["tools"]
        tools = tools_of(row[key], key, _nobody) if key in row else None
        if self.system is not None and not isinstance(prompt, str):
            prompt = after_system(prompt, self.system)
        before = self.system if isinstance(prompt, str) else None
        own = f"line-{line}" if self.alone else f"{self.name}:{line}"
        return Example(_id_of(row) or own, prompt, row, Source(self.name, line), tools, before)


def _nobody(_: str) -> None:
    """What is to be said of a row was said when its file was read."""


def _id_of(row: Mapping[str, Any]) -> str | None:
    own = row.get("id")
    return str(own) if isinstance(own, str | int) and not isinstance(own, bool) and own != "" else None


class _View(Sequence[Example]):
    """A sequence that makes its examples when they are asked for."""

    @abstractmethod
    def _at(self, place: int) -> Example:
        """The example at a place that there is."""

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...

    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self._at(inner) for inner in range(*place.indices(len(self)))]
        return self._at(range(len(self))[place])


class Examples(_View):
    """The rows of one file."""

    def __init__(self, lines: Lines, reading: Reading) -> None:
        self._lines = lines
        self._reading = reading
        self._last: tuple[int, Example] | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def _at(self, place: int) -> Example:
        # The completions of a group ask for the same row one after the other.
        if self._last is None or self._last[0] != place:
            row = self._lines.row(place)
            self._last = (place, self._reading.example(self._lines.number(place), row))
        return self._last[1]


class Selected(_View):
    """Some of the examples, by their places."""

    def __init__(self, examples: Sequence[Example], places: Iterable[int]) -> None:
        self._examples = examples
        self._places = array("Q", places)

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, place: int) -> Example:
        return self._examples[self._places[place]]


class Joined(_View):
    """The examples of several files, one file after the other."""

    def __init__(self, parts: Iterable[Sequence[Example]]) -> None:
        self._parts = [part for part in parts if part]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def _at(self, place: int) -> Example:
        for part in self._parts:
            if place < len(part):
                return part[place]
            place -= len(part)
        raise IndexError(place)
