"""`rft serve`: a run or a model behind an OpenAI-compatible endpoint, on an engine that is installed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rft_cli.commands import flags, terminal
from rft_cli.commands.validation.asked_endpoint import read_key
from rft_cli.errors import Interrupted, RftError, UsageError

if TYPE_CHECKING:
    from rft_cli.console import EventPrinter
    from rft_cli.runs import Run
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
    key = None if api_key_env is None else read_key(api_key_env)
    from rft_cli.serving.engines import choose_engine

    run = find_run(what, output_dir or "runs")
    if compare and run is None:
        raise UsageError(f"--compare needs a run; {what} is none", "give a run, or leave --compare out")
    gguf = run is None and what.lower().endswith(".gguf") and Path(what).is_file()
    chosen = choose_engine(engine, gguf, converts=run is not None and not compare)
    names = {"base": "base", "tuned": "tuned"} if compare else {"tuned": name or model_name(what, run)}
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
            models = _models(what, run, names, chosen, sets or [], Path(folder), printer)
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


def find_run(what: str, output_dir: str) -> Run | None:
    """The run that a person means, None where it is a model; UsageError for a word that is neither."""
    from rft_cli.runs import Run
    from rft_cli.runs.find import is_run

    is_model = "/" in what or Path(what).exists()
    if what != "latest" and is_model and not is_run(Path(what)) and not is_run(Path(output_dir, what)):
        return None
    try:
        return Run.open(what, output_dir)
    except UsageError as error:
        if error.fix is not None and error.message.endswith("is not a run"):
            error.message = f"{what} is neither a run nor a model's directory"
            error.fix += "; a hub model is OWNER/NAME"
        raise


def model_name(what: str, run: Run | None) -> str:
    """The name of the one model: the run's, or the last part of a path; a hub id stays whole."""
    if run is not None:
        return run.name
    return Path(what).resolve().stem if Path(what).exists() else what


def settings_of(run: Run | None, model: str, sets: list[str]) -> Any:
    """The configuration of a run, or of a bare model; --set wins."""
    from rft_cli.commands.settings import Settings
    from rft_cli.runs.model_source import revision_of

    if run is None:
        return Settings(None, {"model.path": model}, sets).load(()).config
    own = {"model.path": run.info["model"], "model.revision": revision_of(run)}
    return Settings(str(run.path / "config.yaml"), own, sets).load(()).config


def _models(
    what: str,
    run: Run | None,
    names: dict[str, str],
    engine: Engine,
    sets: list[str],
    folder: Path,
    printer: EventPrinter,
) -> list[ServedModel]:
    from rft_cli.events import Note

    def note(text: str) -> None:
        printer(Note(text))

    config = settings_of(run, what, sets)
    if engine.name == "llama.cpp":
        from rft_cli.serving.model import RequestDefaults, ServedModel, defaults_of_run

        file = Path(what) if run is None else _gguf_of(run, note)
        # A GGUF file has its own settings, which llama.cpp reads.
        own = RequestDefaults(temperature=None, top_p=None)
        defaults = own if run is None else defaults_of_run(config, run.read_pilot())
        return [ServedModel(names["tuned"], file.resolve(), "auto", 0, defaults)]
    from rft_cli.runs.model_source import find_model
    from rft_cli.training.served_model import ToServe, models_of_run, prepare

    if run is None:
        wanted = [ToServe(names["tuned"], find_model(what), config, None, folder / "merged")]
    else:
        if run.best_checkpoint() is None:
            note(f"nothing beat the base in {run.path}: its best model is the base")
        wanted = models_of_run(run, config, names, folder)
    return [prepare(one, folder / f"model-{number}", note) for number, one in enumerate(wanted)]


def _gguf_of(run: Run, note: Callable[[str], None]) -> Path:
    """The GGUF file that `rft export` made of the run, the newest of several; UsageError where there is none."""
    files = (run.path / "export" / "gguf").glob("*.gguf")
    newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise UsageError(
            f"llama.cpp serves GGUF files, and {run.path} has none in export/gguf",
            f"make one: rft export {run.path} --format gguf; or take another --engine",
        )
    note(f"serving {newest}")
    return newest


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
