"""What the flags of `rft validate --endpoint` say, and the key of the endpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rft_cli.errors import UsageError

if TYPE_CHECKING:
    from rft_cli.grading.judge.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class AskedEndpoint:
    """The endpoint's address, the model's name there, and how it is asked."""

    url: str
    model: str
    key_env: str | None
    concurrency: int
    timeout_s: float

    def endpoint(self) -> Endpoint:
        """The endpoint with its key; UsageError where one of them can't be used.

        OPENAI_API_KEY goes to OpenAI alone, unless --api-key-env names it.
        """
        from urllib.parse import urlsplit

        from rft_cli.config.judges import url_problem
        from rft_cli.grading.judge.endpoint import OFFICIAL, Endpoint

        url, variable = self.url.rstrip("/"), self.key_env
        wrong = url_problem(url)
        if wrong is not None:
            fix = "write the address alone, for example http://127.0.0.1:8000/v1"
            raise UsageError(f"--endpoint {wrong}", fix)
        if variable is None and urlsplit(url).hostname == urlsplit(OFFICIAL).hostname:
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
