"""`rft dashboard`: the runs of a folder in a browser."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from rft_cli.commands import flags, terminal
from rft_cli.errors import UsageError

Port = Annotated[
    int,
    typer.Option("--port", min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0 takes any free one."),
]
Open = Annotated[bool, typer.Option("--open", help="Open it in the browser of this machine.")]


def dashboard(
    output_dir: flags.OutputDir = None,
    port: Port = 0,
    open: Open = False,
    json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Look at runs in a browser: all of a folder, live while they train.

    Listens on 127.0.0.1 only; the printed address has a token that it asks for. Ctrl-C ends it.

    Example:

    \b
    rft dashboard --open
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"rft dashboard needs {' and '.join(missing)}, not installed here",
            "pip install 'rft-cli[dashboard]'",
        )
    folder = Path(output_dir or "runs").expanduser()
    if output_dir is not None and not folder.is_dir():
        raise UsageError(
            f"--output-dir {output_dir}: there is no such folder", "give the folder in which runs lie"
        )
    from rft_cli.dashboard.server import serve

    def ready(address: str, once: str) -> None:
        with terminal.results():
            if json:
                terminal.print_json({"schema": "rft.dashboard/1", "url": address, "output_dir": str(folder)})
            else:
                print(f"dashboard  {address}\nCtrl-C ends it.")
        if open:
            _open(once)

    serve(folder, port, ready)


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        print("warning: no browser was found: open the address above in one", file=sys.stderr)
