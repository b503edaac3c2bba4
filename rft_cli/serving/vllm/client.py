"""The requests that a job sends to one vLLM server: completions as token ids, and new weights.

Token ids go in and come out, so that nothing is tokenised twice. Requests carry no seed: on a CPU a seed of each
request was seen to end the engine (vLLM 0.32, 128 prompts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

CONNECT_S = 10.0
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
RPC, WEIGHT_INFO = "/collective_rpc", "/weight_info"
_ABSENT = (404, 405, 501)
_BROKEN = 500
_SHOWN = 300


class EngineLost(Exception):
    """The server can't be reached, or ended while it worked."""


class EngineSlow(Exception):
    """A request took longer than it may."""


class EngineRefused(Exception):
    """The server answered with an error: `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ServedCompletion:
    """Token ids with the stop token, each one's log-probability, and the name of the weights that sampled them."""

    ids: list[int]
    logps: list[float]
    version: str


@dataclass(frozen=True, slots=True)
class Served:
    """An entry of the list of models: `root` is the place that the server loaded it from."""

    name: str
    root: str
    context: int | None
    parent: str | None


class VllmClient:
    """One server. Threads may share it. `key`: what it asks for as a bearer token."""

    def __init__(self, url: str, timeout_s: float, key: str | None = None) -> None:
        self.url, self.timeout_s = url, timeout_s
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # A proxy of the environment is not meant for this machine itself.
        here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx2.Client(
            base_url=url,
            headers=headers,
            trust_env=not here,
            limits=httpx2.Limits(max_connections=None),
        )

    def close(self) -> None:
        self._http.close()

    # -- what it is --------------------------------------------------------------------------------------------------

    def answers(self) -> bool:
        """Whether it is up and takes requests."""
        try:
            return self._http.get("/health", timeout=CONNECT_S).status_code == 200
        except httpx2.HTTPError:
            return False

    def version(self) -> str | None:
        """vLLM's version; None where the server doesn't say."""
        try:
            return str(self._get("/version")["version"])
        except (EngineRefused, KeyError, TypeError):
            return None

    def models(self) -> list[Served]:
        """The base first, then the adapters that are loaded."""
        answer = self._get("/v1/models")
        try:
            return [
                Served(str(card["id"]), str(card.get("root")), card.get("max_model_len"), card.get("parent"))
                for card in answer["data"]
            ]
        except (AttributeError, KeyError, TypeError):
            raise EngineRefused(200, "its list of models can't be read") from None

    def offers(self, path: str) -> bool:
        """Whether the server has this route: it refuses an empty request, and does nothing."""
        try:
            self._post(path, {})
        except EngineRefused as error:
            return error.status not in _ABSENT
        return True

    # -- completions -------------------------------------------------------------------------------------------------

    def complete(
        self, model: str, prompts: Sequence[Sequence[int]], sampling: Mapping[str, Any]
    ) -> list[ServedCompletion]:
        """One completion for each prompt, in order; `sampling`: the fields of the request that say how."""
        body = {
            **sampling,
            "model": model,
            "prompt": [list(prompt) for prompt in prompts],
            # Of the sampled token alone.
            "logprobs": 0,
            "return_token_ids": True,
        }
        answer = self._post("/v1/completions", body)
        try:
            choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
            found = [
                ServedCompletion(
                    [int(token) for token in choice["token_ids"]],
                    # vLLM writes null for a number that is none.
                    [float("nan") if p is None else float(p) for p in choice["logprobs"]["token_logprobs"]],
                    str(answer["model"]),
                )
                for choice in choices
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise EngineRefused(
                200,
                f"its completions lack {error}: token ids and log-probabilities are needed, which vLLM 0.32 gives",
            ) from None
        whole = all(one.ids and len(one.ids) == len(one.logps) for one in found)
        if len(found) != len(prompts) or not whole:
            raise EngineRefused(
                200, f"{len(found)} completions came for {len(prompts)} prompts, or not whole"
            )
        return found

    # -- weights -----------------------------------------------------------------------------------------------------

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter from a folder that the server can read."""
        self._post(LOAD, {"lora_name": name, "lora_path": str(folder)})

    def unload_adapter(self, name: str) -> None:
        self._sent("POST", UNLOAD, {"lora_name": name}, CONNECT_S)

    def reload_weights(self, folder: Path, version: str) -> None:
        """Replace the whole model by the one in the folder; the server keeps `version` as long as it runs."""
        self._post("/pause?mode=wait", {})
        try:
            self._post(RPC, {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
            # Keys and values of the old weights.
            self._post("/reset_prefix_cache", {})
            self._post("/update_weight_version", {"new_version": version})
        finally:
            self._post("/resume", {})

    def weight_version(self) -> str:
        """What `reload_weights` gave last; another text where the server has started again since."""
        return str(self._get(WEIGHT_INFO)["weight_version"])

    # -- requests ----------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> Any:
        return self._sent("GET", path, None)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._sent("POST", path, body)

    def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float | None = None
    ) -> Any:
        limit = httpx2.Timeout(seconds or self.timeout_s, connect=CONNECT_S)
        try:
            answer = self._http.request(method, path, json=body, timeout=limit)
        except httpx2.ConnectTimeout as error:
            raise EngineLost(_said(error)) from None
        except httpx2.TimeoutException:
            raise EngineSlow(f"no answer to {path} in {seconds or self.timeout_s:g} s") from None
        except httpx2.HTTPError as error:
            raise EngineLost(_said(error)) from None
        if answer.status_code >= 400:
            message = _message(answer)
            # A server whose engine has died answers so until it ends.
            if answer.status_code >= _BROKEN and not self.answers():
                raise EngineLost(message)
            raise EngineRefused(answer.status_code, message)
        try:
            return answer.json()
        except ValueError:
            # Some routes answer with a sentence, or nothing.
            return {}


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:_SHOWN]


def _message(answer: httpx2.Response) -> str:
    """The error's own text, whatever form it has."""
    try:
        content = answer.json()
        found = content.get("error", content) if isinstance(content, dict) else content
        text = found.get("message") or found.get("detail") if isinstance(found, dict) else found
    except (ValueError, AttributeError):
        text = answer.text
    lines = str(text or "").strip().splitlines()
    return (lines[0] if lines else f"status {answer.status_code}")[:_SHOWN]
