"""Opens the port, serves until a signal, and ends without a word."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from rft_cli.dashboard.app import create_app
from rft_cli.errors import UsageError

HOST = "127.0.0.1"


def serve(folder: Path, port: int, on_ready: Callable[[str, str], None]) -> None:
    """Serve the runs of `folder` until Ctrl-C or SIGTERM. Port 0: any free one.

    `on_ready` gets the address with the token, and one that opens the dashboard once.
    """
    with _listening(port) as listener:
        taken = int(listener.getsockname()[1])
        token, once = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        app = create_app(folder, token=token, once=once, port=taken)
        # Access lines would have the token in them. A page that waits for its next look must not delay the end.
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, server_header=False, timeout_graceful_shutdown=1
        )
        address = f"http://{HOST}:{taken}/?token="
        on_ready(address + token, address + once)
        # Ctrl-C is how it ends; uvicorn raises it again when all is closed
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Else the port of a dashboard that has just ended would stay taken for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"--port {port}: in use by another program",
                "give another one, or leave --port out for a free one",
            ) from None
        raise UsageError(
            f"--port {port}: {error.strerror or error}", "give a port from 1024 to 65535, or leave --port out"
        ) from None
    return listener
