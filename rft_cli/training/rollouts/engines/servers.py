"""The vLLM servers of a job: completions divided over them, weights brought to each, dead ones replaced or left out.

In each process of the job there is one of these; process 0 starts the server and brings weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from rft_cli.errors import RunFailed
from rft_cli.events import Note, OnEvent
from rft_cli.serving.vllm.client import (
    EngineLost,
    EngineRefused,
    EngineSlow,
    ServedCompletion,
    VllmClient,
)
from rft_cli.serving.vllm.process import StartedVllm

MOST_PROMPTS = 64
"""Prompts in one request."""
RESTARTS = 3
"""Times that an engine is started again before the job ends."""
_NOT_FOUND = 404


class EngineGone(RunFailed):
    """No engine is left to sample with."""


class Servers:
    """`clients`: one for each server. `start`: starts rft's own, None where they run already.

    `whole`: weights are reloaded whole, and not as adapters under new names.
    """

    def __init__(
        self,
        clients: Sequence[VllmClient],
        connect: Callable[[str], VllmClient],
        base: str,
        whole: bool,
        on_note: OnEvent,
    ) -> None:
        self.clients, self._connect = list(clients), connect
        self.base, self.whole, self._on_note = base, whole, on_note
        self.started: StartedVllm | None = None
        self.start: Callable[[], StartedVllm] | None = None
        self.wait: Callable[[StartedVllm, VllmClient], None] | None = None
        self._restarts = 0

    @property
    def urls(self) -> list[str]:
        return [client.url for client in self.clients]

    def follow(self, urls: Sequence[str]) -> None:
        """Use these addresses, as process 0 does."""
        if list(urls) != self.urls:
            known = {client.url: client for client in self.clients}
            self._use([known.get(url) or self._connect(url) for url in urls])

    def _use(self, clients: list[VllmClient]) -> None:
        for client in self.clients:
            if client not in clients:
                client.close()
        self.clients = clients

    # -- weights -----------------------------------------------------------------------------------------------------

    def bring(self, version: str, folder: Path) -> None:
        """Have every server serve this version; EngineLost where one ended."""
        for client in self.clients:
            with _explained(client):
                if self.whole:
                    client.reload_weights(folder, version)
                else:
                    self._bring_adapter(client, version, folder)

    def _bring_adapter(self, client: VllmClient, version: str, folder: Path) -> None:
        # The name holds a hash of the content: what has it already is the same.
        if any(model.name == version for model in client.models()):
            return
        try:
            client.load_adapter(version, folder)
        except EngineRefused as error:
            shared = error.status == _NOT_FOUND
            fix = (
                "the server must see the run's folder under the same path: put --output-dir on a drive that both share"
                if shared
                else "its --max-lora-rank must be at least lora.r, and it must know every layer in lora.target_modules"
            )
            raise RunFailed(f"{client.url} could not load the adapter {folder}: {error}", fix) from None

    def drop(self, version: str) -> None:
        """Have the servers forget an adapter; it does no harm where one keeps it."""
        for client in self.clients if not self.whole else []:
            with suppress(EngineLost, EngineRefused, EngineSlow):
                client.unload_adapter(version)

    # -- completions -------------------------------------------------------------------------------------------------

    def complete(
        self, version: str, prompts: Sequence[Sequence[int]], sampling: Mapping[str, Any]
    ) -> list[ServedCompletion]:
        """One completion for each prompt from these weights.

        Raises EngineLost where a server ended, RunFailed where one is slow, refuses, or has other weights.
        """
        parts = self._divided(len(prompts))
        pool = ThreadPoolExecutor(len(parts))
        try:
            found = pool.map(
                lambda part: self._part(part[0], version, prompts[part[1] : part[2]], sampling), parts
            )
            return [one for part in found for one in part]
        finally:
            # Where one failed, or the job is to end at once, nobody waits for the others.
            pool.shutdown(wait=False, cancel_futures=True)

    def _divided(self, count: int) -> list[tuple[VllmClient, int, int]]:
        """Neighbours go to one server, which then reads their common prompt once."""
        size = min(MOST_PROMPTS, -(-count // len(self.clients)))
        ends = [*range(0, count, size), count]
        return [
            (self.clients[n % len(self.clients)], first, last)
            for n, (first, last) in enumerate(pairwise(ends))
        ]

    def _part(
        self,
        client: VllmClient,
        version: str,
        prompts: Sequence[Sequence[int]],
        sampling: Mapping[str, Any],
    ) -> list[ServedCompletion]:
        with _explained(client):
            adapter = not self.whole and version != self.base
            try:
                found = client.complete(version if adapter else self.base, prompts, sampling)
            except EngineRefused as error:
                if error.status == _NOT_FOUND and adapter:
                    # It was started again by somebody else, without the adapter.
                    raise EngineLost(str(error)) from None
                raise
            if not self.whole:
                others = sorted({one.version for one in found} - {version})
            elif version == self.base:
                return found
            else:
                now = client.weight_version()
                others = [] if now == version else [now]
        if others:
            raise RunFailed(
                f"stale weights: {client.url} sampled from {', '.join(others)} where {version} was asked for",
                "nothing was trained on these completions; does anything between rft and the engine change the "
                "model's name, or another job use the same engine?",
            )
        return found

    # -- faults ------------------------------------------------------------------------------------------------------

    def recover(self, reason: str) -> None:
        """Start rft's own server again, or go on with those that still answer; EngineGone where there is none.

        Process 0 calls this; weights must be brought again.
        """
        if self.started is not None and self.start is not None and self.wait is not None:
            self._restarts += 1
            if self._restarts > RESTARTS:
                raise EngineGone(
                    f"the engine vllm ended {self._restarts} times, the last time with: {reason}"
                )
            self.started.end()
            self._on_note(Note(f"the engine vllm ended ({reason}): it is started again", "warning"))
            self.started = self.start()
            self._use([self._connect(self.started.url)])
            self.wait(self.started, self.clients[0])
            return
        left = [client for client in self.clients if client.answers()]
        gone = [client.url for client in self.clients if client not in left]
        self._restarts += not gone
        if not left or self._restarts > RESTARTS:
            raise EngineGone(f"rollout.endpoint: no engine answers any more: {reason}")
        if gone:
            self._on_note(
                Note(f"{', '.join(gone)} does not answer ({reason}): the job goes on without it", "warning")
            )
        self._use(left)

    def close(self) -> None:
        """Close connections, and end the server that rft started."""
        for client in self.clients:
            client.close()
        if self.started is not None:
            self.started.end()


@contextmanager
def _explained(client: VllmClient) -> Iterator[None]:
    """Inside, what a server refuses or takes too long for is a RunFailed that names it."""
    try:
        yield
    except EngineLost as error:
        raise EngineLost(f"{client.url}: {error}") from None
    except EngineSlow as error:
        raise RunFailed(
            f"{client.url}: {error} (rollout.vllm.timeout_s)",
            "raise rollout.vllm.timeout_s, or lower rollout.max_completion_tokens",
        ) from None
    except EngineRefused as error:
        raise RunFailed(
            f"{client.url} refused: {error}", "look at its log; docs/engines.md says what it needs"
        ) from None
