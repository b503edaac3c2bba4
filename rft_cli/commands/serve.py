"""`rft serve`: a run or a model behind an OpenAI-compatible endpoint, on an engine that is installed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rft_cli.commands import flags, terminal
from rft_cli.commands.validation.asked_endpoint import read_key
from rft_cli.errors import Interrupted, RftError, UsageError

if TYPE_CHECKING:
    from rft_cli.serving.engines import Engine
    from rft_cli.serving.model import ServedModel

SCHEMA = "rft.serve/1"

WhatArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|MODEL",
        help="A run (a name, a path, or latest), or a model: a directory, a GGUF file, a hub id.",
        autocompletion=flags.complete_run,
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", metavar="NAME", help="auto: what is installed. transformers, vllm or llama.cpp."
    ),
]
Port = Annotated[
    int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api-key-env", metavar="NAME", help="Ask clients for the key in this environment variable."
    ),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Serve a run's base and its best model, as base and tuned.")
]
ModelName = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="The model's name in requests. Default: that of the run."),
]


def serve(
    what: WhatArgument,
    engine: EngineOption = "auto",
    port: Port = 8000,
    api_key_env: KeyEnv = None,
    compare: Compare = False,
    name: ModelName = None,
    sets: flags.Sets = None,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    debug: flags.Debug = False,
) -> None:
    """Serve a run's best model, or any model, to OpenAI's clients: chat, completions, streaming.

    Examples:

    \b
    rft serve latest
    rft serve latest --compare --port 0
    rft serve my-model --engine vllm
    """
    if compare and name is not None:
        raise UsageError(
            "--compare and --name exclude each other", "with --compare the names are base and tuned"
        )
    if name is not None and not name.strip():
        raise UsageError("--name is empty", "give the name that requests have, or leave --name out")
    key = None if api_key_env is None else read_key(api_key_env)
    from rft_cli.commands.job.model_check import check_model
    from rft_cli.commands.serving.target import find_target
    from rft_cli.serving.engines import choose_engine

    target = find_target(what, output_dir or "runs")
    if compare and target.run is None:
        raise UsageError(f"--compare needs a run; {what} is none", "give a run, or leave --compare out")
    if target.run is None and not target.is_gguf_alone:
        check_model(target.model)
    chosen = choose_engine(engine, target.files(compare))
    names = {"base": "base", "tuned": "tuned"} if compare else {"tuned": name or target.name}
    from rft_cli.commands.serving.models import served_models
    from rft_cli.commands.signals import signals_interrupt
    from rft_cli.console import EventPrinter, choose_mode
    from rft_cli.events import Note
    from rft_cli.serving.engine_process import engines_running, listen
    from rft_cli.serving.server import serve as serve_front

    with (
        listen(port) as sock,
        signals_interrupt(signal.SIGINT),
        tempfile.TemporaryDirectory(prefix="rft-serve-") as folder,
        contextlib.ExitStack() as stack,
    ):
        with terminal.stdout_to_stderr(), EventPrinter(choose_mode(quiet)) as printer:
            models = served_models(target, names, chosen, sets or [], Path(folder), printer)
            printer(Note(f"starting the engine {chosen.name}"))
            engines = stack.enter_context(engines_running(chosen, models, Path(folder)))
        address = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        with _after_the_document():
            serve_front(engines, sock, key, lambda: _print(address, chosen, models, key is not None, json))


@contextlib.contextmanager
def _after_the_document() -> Iterator[None]:
    """A signal is how a server ends: no error. Standard output has its one document already."""
    try:
        yield
    except Interrupted as stop:
        print("stopped", file=sys.stderr)
        raise typer.Exit(stop.exit_code) from None
    except RftError as error:
        error.in_document = True
        raise


def _print(address: str, engine: Engine, models: list[ServedModel], needs_key: bool, as_json: bool) -> None:
    names = [model.name for model in models]
    with terminal.results():
        if as_json:
            document = {
                "schema": SCHEMA,
                "url": address,
                "models": names,
                "engine": engine.name,
                "pid": os.getpid(),
            }
            terminal.print_json(document)
            return
        from rft_cli.console.text import clean

        header = " -H 'Authorization: Bearer KEY'" if needs_key else ""
        body = f'{{"model": "{clean(names[-1])}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        print(f"url     {address}")
        print(f"models  {', '.join(map(clean, names))}")
        print(f"engine  {engine.name}")
        print(
            f"try     curl {address}/chat/completions -H 'Content-Type: application/json'{header} -d '{body}'"
        )
        print("end     Ctrl-C")
