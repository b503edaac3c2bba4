"""`cosine`: texts become vectors at an OpenAI-compatible embeddings endpoint; their cosine is the reward."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence

from rft_cli.config.schema import EmbeddingsConfig
from rft_cli.errors import UsageError
from rft_cli.grading.openai.templates import Missing, Scope, Template
from rft_cli.grading.protocol import PartGrader
from rft_cli.types import Grade, GradeError, GradeRequest

_TEXTS_A_CALL = 64
_PROBE = "rft"
_RETRIES = 4
"""After a server error, a rate limit or a timeout; the client waits longer each time."""

_Vector = list[float] | GradeError


class CosineGrader(PartGrader):
    """max(0, cosine) of the embeddings of two texts. An empty text gets 0, without a call."""

    def __init__(
        self, text: Template, reference: Template, settings: EmbeddingsConfig, timeout_s: float
    ) -> None:
        self._key = _key(settings)
        import openai

        self._sides = (text, reference)
        self._model = settings.model
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=settings.base_url, api_key=self._key, timeout=timeout_s, max_retries=_RETRIES
        )
        try:
            self._embed([_PROBE])
        except openai.OpenAIError as error:
            self.close()
            raise UsageError(
                f"cosine: the embeddings endpoint {settings.base_url} gives no vectors: {self._message(error)}",
                "check grader.embeddings.base_url and grader.embeddings.model",
            ) from None

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order; their texts are embedded together."""
        start = time.perf_counter()
        pairs = [self._render(request) for request in requests]
        texts = list(
            dict.fromkeys(text for pair in pairs if isinstance(pair, tuple) for text in pair if text.strip())
        )
        vectors: dict[str, _Vector] = {}
        for first in range(0, len(texts), _TEXTS_A_CALL):
            part = texts[first : first + _TEXTS_A_CALL]
            try:
                vectors.update(zip(part, self._embed(part), strict=True))
            except (self._openai.OpenAIError, ValueError) as error:
                vectors.update(dict.fromkeys(part, self._failure(error)))
        seconds = (time.perf_counter() - start) / max(1, len(requests))
        rewards = (_reward(pair, vectors) for pair in pairs)
        return [
            Grade("failed", error=reward, seconds=seconds)
            if isinstance(reward, GradeError)
            else Grade("graded", reward, seconds=seconds)
            for reward in rewards
        ]

    def close(self) -> None:
        self._client.close()

    def _render(self, request: GradeRequest) -> tuple[str, str] | GradeError:
        scope = Scope(request)
        try:
            return (self._sides[0].render(scope), self._sides[1].render(scope))
        except Missing as missing:
            return missing.error

    def _embed(self, texts: list[str]) -> list[list[float]]:
        reply = self._client.embeddings.create(model=self._model, input=texts, encoding_format="float")
        return [entry.embedding for entry in sorted(reply.data, key=lambda entry: entry.index)]

    def _failure(self, error: Exception) -> GradeError:
        kind = "judge_server"
        if isinstance(error, self._openai.APITimeoutError):
            kind = "judge_timeout"
        elif isinstance(error, self._openai.RateLimitError):
            kind = "judge_rate_limit"
        return GradeError(kind, f"embeddings: {self._message(error)}")

    def _message(self, error: Exception) -> str:
        """The error's first line without the key, which servers repeat."""
        line = (str(error).splitlines() or [type(error).__name__])[0][:300]
        return line if self._key == "none" else line.replace(self._key, "[key]")


def _key(settings: EmbeddingsConfig) -> str:
    """The endpoint's key; raises UsageError where there is no endpoint, or its key is not in the environment."""
    if settings.base_url is None:
        raise UsageError(
            "cosine needs an embeddings endpoint",
            "set grader.embeddings.base_url, for example to https://api.openai.com/v1, or use another metric",
        )
    name = settings.api_key_env
    key = "none" if name == "none" else os.environ.get(name)
    if not key:
        raise UsageError(
            f"cosine: the variable {name}, which holds the endpoint's key, is not set",
            "set it, or grader.embeddings.api_key_env to none for a server that needs no key",
        )
    return key


def _reward(pair: tuple[str, str] | GradeError, vectors: Mapping[str, _Vector]) -> float | GradeError:
    if isinstance(pair, GradeError):
        return pair
    if not all(text.strip() for text in pair):
        return 0.0
    left, right = (vectors[text] for text in pair)
    if isinstance(left, GradeError):
        return left
    if isinstance(right, GradeError):
        return right
    if len(left) != len(right):
        message = f"embeddings: vectors of {len(left)} and {len(right)} numbers"
        return GradeError("judge_server", message)
    return cosine(left, right)


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """max(0, cosine) of two vectors, at most 1; 0 where one of them is 0."""
    size = math.hypot(*left) * math.hypot(*right)
    return min(1.0, max(0.0, sum(a * b for a, b in zip(left, right, strict=True)) / size)) if size else 0.0
