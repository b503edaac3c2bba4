"""The engines that `rft serve` starts: what is installed, which one fits, and the command of each."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rft_cli.config.suggest import did_you_mean
from rft_cli.errors import UsageError
from rft_cli.serving import llama_cpp
from rft_cli.serving.model import ServedModel

HOST = "127.0.0.1"
FRONT = ("starlette", "uvicorn", "httpx2")
"""Packages that the front needs, whatever the engine."""
INSTALL = "pip install 'rft-cli[serve]'"


@dataclass(frozen=True, slots=True)
class Engine:
    """A program that answers OpenAI's requests.

    `missing`: what it lacks here, None where it can start. `name_of`: the model's name in requests to it. `reads_gguf`,
    `reads_folder`: whether it serves a GGUF file, and a folder of transformers'. `checks_length`: whether it refuses
    prompts that are too long.
    """

    name: str
    install: str
    missing: Callable[[], str | None]
    command: Callable[[ServedModel, int], list[str]]
    name_of: Callable[[ServedModel], str]
    reads_gguf: bool = False
    reads_folder: bool = True
    checks_length: bool = True


def _transformers_missing() -> str | None:
    lacks = [name for name in ("fastapi", "openai", "uvicorn") if not _installed(name)]
    return f"the packages {', '.join(lacks)}" if lacks else None


def _transformers_command(model: ServedModel, port: int) -> list[str]:
    options = ["--host", HOST, "--port", str(port), "--dtype", model.dtype, "--log-level", "error"]
    trust = ["--trust-remote-code"] if model.trust_remote_code else []
    # As a module: its script may be that of another environment.
    program = [sys.executable, "-P", "-m", "transformers.cli.transformers"]
    return [*program, "serve", str(model.place), *options, *trust]


def _vllm_missing() -> str | None:
    return None if _installed("vllm") or shutil.which("vllm") else "the package vllm"


def _vllm_command(model: ServedModel, port: int) -> list[str]:
    place = str(model.place)
    if _installed("vllm"):
        program = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", place]
    else:
        program = ["vllm", "serve", place]
    where = ["--host", HOST, "--port", str(port), "--served-model-name", model.name]
    trust = ["--trust-remote-code"] if model.trust_remote_code else []
    return [*program, *where, "--dtype", model.dtype, *trust]


def _llama_command(model: ServedModel, port: int) -> list[str]:
    where = ["--host", HOST, "--port", str(port), "--alias", model.name]
    return [
        *(llama_cpp.server_command() or [llama_cpp.PROGRAM]),
        "--model",
        str(model.place),
        *where,
        "--jinja",
    ]


ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            name="vllm",
            install="pip install vllm",
            missing=_vllm_missing,
            command=_vllm_command,
            name_of=lambda model: model.name,
        ),
        Engine(
            name="transformers",
            install=INSTALL,
            missing=_transformers_missing,
            command=_transformers_command,
            name_of=lambda model: str(model.place),
            # rft unpacks it.
            reads_gguf=True,
            checks_length=False,
        ),
        Engine(
            name="llama.cpp",
            install=llama_cpp.INSTALL,
            missing=lambda: None if llama_cpp.server_command() else llama_cpp.MISSING,
            command=_llama_command,
            name_of=lambda model: model.name,
            reads_gguf=True,
            reads_folder=False,
        ),
    )
}
"""By name, in the order in which `auto` takes them."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What there is of a model: a folder that transformers loads, a GGUF file.

    `make_gguf`: the command that makes the file, None where there is no such command.
    """

    folder: bool
    gguf: bool
    make_gguf: str | None = None


def choose_engine(wanted: str, files: ModelFiles) -> Engine:
    """The engine to start; UsageError where it isn't here or doesn't read such files."""
    lacks = [name for name in FRONT if not _installed(name)]
    if lacks:
        raise UsageError(f"rft serve needs {', '.join(lacks)}, which is not installed", INSTALL)
    if wanted == "auto":
        return _first_installed(files)
    if wanted not in ENGINES:
        known = ["auto", *ENGINES]
        fix = did_you_mean(wanted, known) or f"take one of: {', '.join(known)}"
        raise UsageError(f"--engine {wanted!r} is not known", fix)
    engine = ENGINES[wanted]
    if not _reads(engine, files):
        others = " or ".join(one.name for one in ENGINES.values() if _reads(one, files))
        if files.folder:
            what = "serves GGUF files alone, and there is none"
            fix = f"make one: {files.make_gguf}; or take" if files.make_gguf else "take"
        else:
            what, fix = "does not serve a GGUF file", "take"
        raise UsageError(f"{engine.name} {what}", f"{fix} --engine {others}")
    lacking = engine.missing()
    if lacking is not None:
        raise UsageError(f"--engine {engine.name} needs {lacking}, which is not here", engine.install)
    return engine


def _reads(engine: Engine, files: ModelFiles) -> bool:
    return (files.folder and engine.reads_folder) or (files.gguf and engine.reads_gguf)


def _first_installed(files: ModelFiles) -> Engine:
    """The first that is here: those that read a folder where there is one, else llama.cpp, which others unpack for."""
    fitting = [engine for engine in ENGINES.values() if _reads(engine, files)]
    fitting.sort(key=lambda engine: engine.reads_folder != files.folder)
    for engine in fitting:
        if engine.missing() is None:
            return engine
    offers = [f"{engine.name}: {engine.install}" for engine in fitting]
    if files.make_gguf and not files.gguf and ENGINES["llama.cpp"].missing() is None:
        offers.append(f"llama.cpp, which is installed, needs a GGUF file: {files.make_gguf}")
    raise UsageError("no engine that serves this model is installed", "; or ".join(offers))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def own_fields(engine: Engine, body: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the fields that make this engine sample from all tokens, as rft does, where it has none."""
    plain = {
        "llama.cpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
        # Its defaults come from the folder's generation_config.json.
        "vllm": {},
        "transformers": {},
    }[engine.name]
    return {**plain, **body}
