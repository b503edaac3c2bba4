"""Runs the front in this process until a signal ends it, or an engine ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

import uvicorn

from rft_cli.serving.engine_process import EngineProcess
from rft_cli.serving.front import Front

_LOOK_S = 0.5
_CLOSE_S = 3
"""Seconds that requests have to end in, once the server is asked to end."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def serve(
    engines: Sequence[EngineProcess], sock: socket.socket, key: str | None, on_ready: Callable[[], None]
) -> None:
    """Answer requests on `sock`. uvicorn passes the signal that ended it on to the caller's handler.

    Raises RunFailed where an engine ends.
    """
    config = uvicorn.Config(
        Front(engines, key).app,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_S,
    )
    server = _Server(config, on_ready)
    asyncio.run(_until_ended(server, engines, sock))
    for process in engines:
        process.check()


async def _until_ended(server: _Server, engines: Sequence[EngineProcess], sock: socket.socket) -> None:
    watch = asyncio.ensure_future(_watch(server, engines))
    try:
        await server.serve(sockets=[sock])
    finally:
        watch.cancel()


async def _watch(server: _Server, engines: Sequence[EngineProcess]) -> None:
    """Ask the server to end once an engine has."""
    while not any(process.has_ended for process in engines):
        await asyncio.sleep(_LOOK_S)
    server.should_exit = True
