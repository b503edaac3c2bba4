"""Requests as they travel to a worker."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rft_cli.grading.shape import reference_in
from rft_cli.grading.wire.messages import Work
from rft_cli.grading.wire.signature import Binding
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
