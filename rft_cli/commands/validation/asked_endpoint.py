"""What the flags of `rft validate --endpoint` say, and the key of the endpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rft_cli.errors import UsageError

if TYPE_CHECKING:
    from rft_cli.grading.judge.endpoint import Endpoint

OPENAI = "api.openai.com"


@dataclass(frozen=True, slots=True)
class AskedEndpoint:
    """The endpoint's address (None: the flag was not given), the model's name there, and how it is asked."""

    url: str | None
    model: str
    key_env: str | None
    concurrency: int
    timeout_s: float

    def check(self, model: str | None, run: object, min_gain: float | None) -> AskedEndpoint | None:
        """This, or None where no endpoint is asked; UsageError for flags that need each other."""
        if self.url is None:
            if self.key_env is not None:
                raise UsageError("--api-key-env needs --endpoint", "it names the key of an endpoint")
            return None
        if model is None:
            raise UsageError("--endpoint needs --model", "give the model's name at the endpoint")
        if min_gain is not None and not run:
            raise UsageError("--min-gain needs --run", "a gain is measured against a run's own completions")
        return self

    def endpoint(self) -> Endpoint:
        """The endpoint with its key; UsageError where one of them can't be used.

        OPENAI_API_KEY goes to OpenAI alone, unless --api-key-env names it.
        """
        from urllib.parse import urlsplit

        from rft_cli.config.judges import url_problem
        from rft_cli.grading.judge.endpoint import Endpoint

        url, variable = (self.url or "").rstrip("/"), self.key_env
        wrong = url_problem(url)
        if wrong is not None:
            fix = "write the address alone, for example http://127.0.0.1:8000/v1"
            raise UsageError(f"--endpoint {wrong}", fix)
        if variable is None and urlsplit(url).hostname == OPENAI:
            variable = "OPENAI_API_KEY"
        return Endpoint(url) if variable is None else Endpoint(url, read_key(variable), variable)


def read_key(variable: str) -> str:
    """The key in this environment variable; UsageError where it can't be used."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(
            f"--api-key-env {variable}: the variable is not set",
            f"set it: export {variable}=... (give the name, not the key)",
        )
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"--api-key-env {variable}: holds characters that no key has", "set it anew")
    return key
