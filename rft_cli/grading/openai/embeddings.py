"""`cosine`: texts become vectors at an OpenAI-compatible embeddings endpoint; their cosine is the reward."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import Any

from rft_cli.config.schema import EmbeddingsConfig
from rft_cli.errors import UsageError
from rft_cli.grading.openai.templates import Missing, Scope, Template
from rft_cli.grading.openai.text_graders import BurstGrader
from rft_cli.types import Grade, GradeError, GradeRequest

_TEXTS_A_CALL = 64
_PROBE = "rft"
_RETRIES = 4
"""After a server error, a rate limit or a timeout; the client waits longer each time."""


class CosineGrader(BurstGrader):
    """max(0, cosine) of the embeddings of two texts. An empty text is near to nothing: 0, without a call."""

    def __init__(
        self, text: Template, reference: Template, settings: EmbeddingsConfig, timeout_s: float
    ) -> None:
        if settings.base_url is None:
            raise UsageError(
                "cosine needs an embeddings endpoint",
                "set grader.embeddings.base_url, for example to https://api.openai.com/v1, or use another metric",
            )
        import openai

        self._sides = (text, reference)
        self._model = settings.model
        self._openai = openai
        self._key = _key(settings)
        self._client = openai.OpenAI(
            base_url=settings.base_url, api_key=self._key, timeout=timeout_s, max_retries=_RETRIES
        )
        try:
            self._vectors([_PROBE])
        except openai.OpenAIError as error:
            self.close()
            raise UsageError(
                f"cosine: the embeddings endpoint {settings.base_url} gives no vectors: {self._told(error)}",
                "check grader.embeddings.base_url and grader.embeddings.model",
            ) from None

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order; their texts are embedded together."""
        start = time.perf_counter()
        pairs = [self._render(request) for request in requests]
        texts = {text: None for pair in pairs if isinstance(pair, tuple) for text in pair if text.strip()}
        vectors: dict[str, Any] = {}
        wanted = list(texts)
        for first in range(0, len(wanted), _TEXTS_A_CALL):
            part = wanted[first : first + _TEXTS_A_CALL]
            try:
                vectors.update(zip(part, self._vectors(part), strict=True))
            except (self._openai.OpenAIError, ValueError) as error:
                vectors.update(dict.fromkeys(part, self._failure(error)))
        seconds = (time.perf_counter() - start) / max(1, len(requests))
        return [_grade(pair, vectors, seconds) for pair in pairs]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _render(self, request: GradeRequest) -> tuple[str, str] | GradeError:
        scope = Scope(request)
        try:
            return (self._sides[0].render(scope), self._sides[1].render(scope))
        except Missing as missing:
            return missing.error

    def _vectors(self, texts: list[str]) -> list[list[float]]:
        answer = self._client.embeddings.create(model=self._model, input=texts, encoding_format="float")
        return [entry.embedding for entry in sorted(answer.data, key=lambda entry: entry.index)]

    def _failure(self, error: Exception) -> GradeError:
        kind = "judge_server"
        if isinstance(error, self._openai.APITimeoutError):
            kind = "judge_timeout"
        elif isinstance(error, self._openai.RateLimitError):
            kind = "judge_rate_limit"
        return GradeError(kind, f"embeddings: {self._told(error)}")

    def _told(self, error: Exception) -> str:
        """The error's first line, without the key: servers repeat it."""
        line = (str(error).splitlines() or [type(error).__name__])[0][:300]
        return line if self._key == "none" else line.replace(self._key, "[key]")


def _key(settings: EmbeddingsConfig) -> str:
    if settings.api_key_env == "none":
        return "none"
    key = os.environ.get(settings.api_key_env)
    if not key:
        raise UsageError(
            f"cosine: the variable {settings.api_key_env}, which holds the endpoint's key, is not set",
            "set it, or grader.embeddings.api_key_env to none for a server that needs no key",
        )
    return key


def _grade(pair: tuple[str, str] | GradeError, vectors: dict[str, Any], seconds: float) -> Grade:
    if isinstance(pair, GradeError):
        return Grade("failed", error=pair, seconds=seconds)
    if not all(text.strip() for text in pair):
        return Grade("graded", 0.0, seconds=seconds)
    left, right = (vectors[text] for text in pair)
    for side in (left, right):
        if isinstance(side, GradeError):
            return Grade("failed", error=side, seconds=seconds)
    if len(left) != len(right):
        told = f"embeddings: vectors of {len(left)} and {len(right)} numbers"
        return Grade("failed", error=GradeError("judge_server", told), seconds=seconds)
    return Grade("graded", cosine(left, right), seconds=seconds)


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """max(0, cosine) of two vectors, at most 1; 0 where one of them is 0."""
    size = math.hypot(*left) * math.hypot(*right)
    return min(1.0, max(0.0, sum(a * b for a, b in zip(left, right, strict=True)) / size)) if size else 0.0
