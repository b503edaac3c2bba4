"""What a grader is given to grade, a few at a time: requests of any kind, or lines of JSON from files and pipes."""

from __future__ import annotations

import io
import pickle
import select
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Protocol, TypeVar

from rft_cli.data.rows import check_length, first_line, open_rows, standard_input
from rft_cli.errors import UsageError
from rft_cli.grading.feed import Feed
from rft_cli.grading.shape import reference_in
from rft_cli.grading.wire.signature import Binding
from rft_cli.grading.wire.work import Work
from rft_cli.types import GradeRequest, Message

_READ_BYTES = 1 << 18
_dumps = partial(pickle.dumps, protocol=pickle.HIGHEST_PROTOCOL)

T_co = TypeVar("T_co", covariant=True)


class Supply(Protocol[T_co]):
    """Works in order, the first at place 0."""

    def ready(self) -> bool:
        """Whether `take` would answer at once."""
        ...

    def take(self, most: int) -> Sequence[T_co]:
        """The next works, at least one; none where there are no more."""
        ...


class Requests:
    """Requests as they travel. The row of a group's completions is pickled once, and unpickled for each of them.

    `bind` is asked with the first one how the scorer is called, which decides what travels.
    """

    def __init__(self, requests: Iterable[GradeRequest], bind: Callable[[GradeRequest], Binding]) -> None:
        self._feed = Feed.of(requests)
        self._bind = bind
        self._binding: Binding | None = None
        self._given = 0
        self._row: Mapping[str, Any] | None = None
        self._pickled = b""

    def ready(self) -> bool:
        return self._feed.ready()

    def take(self, most: int) -> list[Work]:
        """At most `most`, and of them those that are there."""
        return [self._work(request) for request in self._feed.take(most)]

    def _work(self, request: GradeRequest) -> Work:
        binding = self._binding = self._binding or self._bind(request)
        if request.fields is not self._row:
            self._row = request.fields
            self._pickled = _dumps(dict(self._row))
        metadata = _dumps(dict(request.metadata)) if request.metadata else None
        self._given += 1
        return Work(self._given - 1, request.completion, self._pickled, metadata, _asked(request, binding))


def _asked(request: GradeRequest, binding: Binding) -> bytes | None:
    """What else the scorer wants of this request."""
    if not (binding.wants_prompt or binding.wants_ids or binding.wants_reference):
        return None
    tokens = request.token_ids if binding.wants_ids else None
    ids = None if tokens is None else [int(token) for token in tokens]
    reference = reference_in(request.fields, binding.columns) if binding.wants_reference else None
    return _dumps((_plain(request.prompt) if binding.wants_prompt else None, ids, reference))


def _plain(prompt: str | Sequence[Message] | None) -> Any:
    return prompt if prompt is None or isinstance(prompt, str) else [dict(message) for message in prompt]


class Lines:
    """The lines of files, one after the other (`-`: standard input), as bytes without their line end.

    Blank lines count as places. `problem` is what ended them early: a file that can't be read, or is no JSON lines.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.problem: UsageError | None = None
        self._left = deque(files)
        self._name = ""
        self._stream: BinaryIO | None = None
        self._lines: list[bytes] = []
        self._tail: list[bytes] = []
        self._begins = False
        self._given = 0
        self._starts: list[tuple[int, str]] = []

    def where(self, place: int) -> tuple[str, int]:
        """The file that a line came from, and its number there."""
        start, name = next(pair for pair in reversed(self._starts) if pair[0] <= place)
        return name, place - start + 1

    def ready(self) -> bool:
        """Whether a whole line, or the end, is there."""
        while not self._lines and self._opened():
            assert self._stream is not None
            if not _readable(self._stream):
                return False
            self._more()
        return True

    def take(self, most: int) -> list[bytes]:
        """At most `most` lines of one file, and of what one reading of it gave."""
        while not self._lines and self._more():
            pass
        taken, self._lines = self._lines[:most], self._lines[most:]
        self._given += len(taken)
        return taken

    def _more(self) -> bool:
        """Read once, of the next file where none is open; False at the end, and at what ends them early."""
        return self._opened() and self._went(self._read)

    def _opened(self) -> bool:
        """Whether a file is open: the next one where none was."""
        return self._stream is not None or (bool(self._left) and self._went(self._open))

    def _went(self, step: Callable[[], None]) -> bool:
        """Take the step; whether it met nothing that ends the lines early."""
        try:
            step()
        except UsageError as problem:
            self.problem = problem
            self._left.clear()
            self._close()
            return False
        return True

    def _open(self) -> None:
        path = self._left.popleft()
        self._name = "stdin" if path == "-" else path
        self._stream = standard_input() if path == "-" else open_rows(path)
        self._begins = True
        self._starts.append((self._given, self._name))

    def _read(self) -> None:
        """What is there to read, as whole lines."""
        assert self._stream is not None
        try:
            read = self._stream.read1 if isinstance(self._stream, io.BufferedIOBase) else self._stream.read
            data = read(_READ_BYTES)
        except OSError as error:
            raise UsageError(f"{self._name}: can't be read: {error.strerror or error}") from error
        ended = not data
        if not ended and b"\n" not in data:
            self._tail.append(data)  # a long line: joined once, when its end is there
            size, line = sum(map(len, self._tail)), self._given - self._starts[-1][0] + 1
            check_length(size, self._name, line)
            return
        lines = b"".join((*self._tail, data)).split(b"\n")
        self._tail = []
        if ended:
            lines = [line for line in lines if line]  # the last line may lack its end
            self._close()
        else:
            self._tail = [last] if (last := lines.pop()) else []
        if lines and self._begins:
            lines[0] = first_line(lines[0], self._name)
            self._begins = False
        self._lines = lines

    def _close(self) -> None:
        if self._stream is not None and (sys.stdin is None or self._stream is not sys.stdin.buffer):
            self._stream.close()
        self._stream = None


def _readable(stream: BinaryIO) -> bool:
    """Whether a reading would answer at once, if only with the end."""
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError):  # a stream without a descriptor does not wait
        return True
