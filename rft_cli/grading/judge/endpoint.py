"""The endpoint of judges and its key, from settings and environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rft_cli.config.judges import NONE, url_problem
from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import UsageError

OFFICIAL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and its key, which is neither printed nor compared."""

    url: str
    key: str | None = field(default=None, repr=False, compare=False)
    key_env: str = NONE

    def redact(self, text: str) -> str:
        """The text without the key: servers repeat it in error messages."""
        return text if self.key is None else text.replace(self.key, "[key]")


def find_endpoint(judge: JudgeConfig, env: Mapping[str, str]) -> Endpoint:
    """The endpoint of the settings, which were checked already; UsageError where its address or key can't be used."""
    from_env = env.get("OPENAI_BASE_URL", "").strip()
    if judge.base_url is None and from_env and (wrong := url_problem(from_env)) is not None:
        raise UsageError(f"OPENAI_BASE_URL: {wrong}", "unset it, or set grader.judge.base_url")
    url = (judge.base_url or from_env or OFFICIAL).rstrip("/")
    if judge.api_key_env.lower() == NONE:
        return Endpoint(url)
    key = env.get(judge.api_key_env, "").strip()
    if not key:
        raise UsageError(
            f"the judge at {url} needs a key: the environment variable {judge.api_key_env} is not set",
            f"export {judge.api_key_env}=..., or for a server that needs no key: "
            "--set grader.judge.api_key_env=none",
        )
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"{judge.api_key_env} holds characters that no key has", "set it anew")
    return Endpoint(url, key, judge.api_key_env)
