"""Completions on their way: packed for a worker, and what is left to do when it answers, or ends before it does."""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rft_cli.grading.shape import reference_in
from rft_cli.grading.worker.ending import Crash
from rft_cli.grading.worker.messages import WHOLE, Work
from rft_cli.grading.worker.signature import Binding
from rft_cli.types import GradeRequest, Message

_dumps = partial(pickle.dumps, protocol=pickle.HIGHEST_PROTOCOL)


class Packer:
    """Packs requests for a scorer that is called by `binding`, which decides what travels.

    The row of a group's completions is pickled once; each of them gets a copy of its own.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._asks = binding.wants_prompt or binding.wants_ids or binding.wants_reference
        self._row: Mapping[str, Any] | None = None
        self._packed_row = b""

    def pack(self, place: int, request: GradeRequest) -> Work:
        """The request at `place` in the call."""
        if request.fields is not self._row:
            self._row = request.fields
            self._packed_row = _dumps(dict(self._row))
        others = self._others(request) if self._asks or request.metadata else b""
        return place, str(request.completion), self._packed_row, others

    def _others(self, request: GradeRequest) -> bytes:
        """Metadata, prompt, token ids and reference, as far as the scorer wants them."""
        binding = self._binding
        tokens = request.token_ids if binding.wants_ids else None
        ids = None if tokens is None else [int(token) for token in tokens]
        reference = reference_in(request.fields, binding.columns) if binding.wants_reference else None
        prompt = _plain(request.prompt) if binding.wants_prompt else None
        return _dumps((dict(request.metadata), prompt, ids, reference))


def _plain(prompt: str | Sequence[Message] | None) -> Any:
    return prompt if prompt is None or isinstance(prompt, str) else [dict(message) for message in prompt]


_MOST_TRIES = 5
"""Tries of a task whose worker ended before it began any of it; then its first completion is to blame."""


@dataclass(eq=False, slots=True)
class Batch:
    """Neighbouring completions of one call. `outcomes` has an `Outcome` as a plain tuple for each that is graded.

    `binding` says how the scorer is called, pickled. `left` counts completions without an outcome.
    """

    binding: bytes
    works: Sequence[Work]
    outcomes: list[tuple[Any, ...]] = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.works)
        self.outcomes = [()] * self.left

    def keep(self, start: int, outcomes: Sequence[tuple[Any, ...]]) -> int:
        """Keep the outcomes of the completions from `start` on; returns where the next one begins."""
        end = start + len(outcomes)
        self.outcomes[start:end] = outcomes
        self.left -= len(outcomes)
        return end


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """The completions of a batch from `start` to `end`, for one worker."""

    batch: Batch
    start: int
    end: int
    tries: int = 1

    def request(self) -> bytes:
        """The bytes that the worker gets."""
        return marshal.dumps((self.batch.binding, list(self.batch.works[self.start : self.end])))

    def answered(self, body: bytes, workers: int) -> list[Task]:
        """Keep the outcomes of the first completions; the others, which took too long, are divided among `workers`."""
        start = self.batch.keep(self.start, marshal.loads(body))
        size = max(1, -(-(self.end - start) // workers))
        return [
            Task(self.batch, first, min(first + size, self.end)) for first in range(start, self.end, size)
        ]

    def lost(self, begun: int, crash: Crash, timeout_s: float) -> list[Task]:
        """Fail the completion that the lost worker had begun; the others are to be tried again.

        `begun` is its place in the call, WHOLE for all of a batch call. Where the one to blame is not known, each is
        tried alone.
        """
        batch, start, end = self.batch, self.start, self.end
        if (begun == WHOLE or not crash.exact) and end - start > 1:
            return [Task(batch, first, first + 1) for first in range(start, end)]
        at = begun - batch.works[0][0]
        if not start <= at < end:
            if begun != WHOLE and self.tries < _MOST_TRIES:
                return [Task(batch, start, end, self.tries + 1)]
            at = start
        batch.keep(at, [crash.outcome(timeout_s)])
        return [Task(batch, first, last) for first, last in ((start, at), (at + 1, end)) if first < last]
