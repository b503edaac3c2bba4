"""A llama.cpp server for one GGUF file, on this machine: started, asked with token ids, ended."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft_cli.errors import RunFailed
from rft_cli.serving.engine_process import engine_environment
from rft_cli.training.rollouts.sampling import SamplingSettings

START_S, ANSWER_S, END_S = 300.0, 600.0, 10.0
"""Seconds to load a model, to answer one prompt, to end."""


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A running server."""

    address: str

    def complete(self, prompt: Sequence[int], settings: SamplingSettings, seed: int) -> list[int]:
        """The completion's ids, stop token included."""
        greedy = settings.temperature == 0
        found = self._post(
            "/completion",
            {
                "prompt": list(prompt),
                "n_predict": settings.max_new_tokens,
                "temperature": settings.temperature,
                "top_p": 1.0 if greedy else settings.top_p,
                "top_k": 1 if greedy else 0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "seed": seed,
                "cache_prompt": False,
                "return_tokens": True,
            },
        )
        ids = list(found["tokens"])
        if found.get("stop_type") == "eos" and (not ids or ids[-1] not in settings.stop):
            ids.append(settings.stop[0])
        return ids

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, special tokens in it read as such, none added."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return list(self._post("/tokenize", body)["tokens"])

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with _opener().open(request, timeout=ANSWER_S) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise RunFailed(
                f"llama.cpp's server did not answer {path}: {error}", "look whether it still runs"
            ) from None


@contextlib.contextmanager
def serving(file: Path, program: Sequence[str]) -> Iterator[LlamaServer]:
    """The server of a file, until the block ends; `program` is its command. RunFailed where it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*program, "--model", str(file), "--host", "127.0.0.1", "--port", str(port), "--jinja"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=engine_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            server = LlamaServer(f"http://127.0.0.1:{port}")
            deadline = time.monotonic() + START_S
            while not _ready(server.address):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    last = log.read().decode(errors="replace").strip().splitlines()[-1:] or [
                        "it said nothing"
                    ]
                    raise RunFailed(
                        f"llama.cpp's server does not serve {file.name}: {last[0]}",
                        f"run: {shlex.join([*program, '--model', str(file), '--port', str(port)])}",
                    )
                time.sleep(0.2)
            yield server
        finally:
            _end(process)


def _opener() -> urllib.request.OpenerDirector:
    """Without proxies: the server is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _ready(address: str) -> bool:
    try:
        with _opener().open(address + "/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
            return
