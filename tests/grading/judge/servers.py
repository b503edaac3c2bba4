"""A judge's server that misbehaves as scripted, on loopback, and what judges are opened with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rft_cli.config.schema import JudgeConfig
from rft_cli.grading.judge.session import JudgeSession
from rft_cli.grading.openai.schema import LabelModel, ScoreModel
from rft_cli.types import GradeRequest

KEY = "sk-test-4f1d9a7c0b"
MODEL = "judge-model"


def completion(
    content: str | None, *, usage: tuple[int, int] | None = (100, 20), **message: Any
) -> dict[str, Any]:
    """A chat completion in the shape that OpenAI documents."""
    finish = message.pop("finish_reason", "stop")
    body: dict[str, Any] = {
        "id": "c-1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
    }
    if usage is not None:
        read, written = usage
        body["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return body


def verdict(result: Any, **rest: Any) -> dict[str, Any]:
    """A chat completion whose text is a verdict as the schema wants it."""
    steps = [{"description": "read it", "conclusion": "fine"}]
    return completion(json.dumps({"steps": steps, "result": result}), **rest)


@dataclass
class Act:
    """What the server does with one request: wait, then drop the connection, or answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    drop: bool = False
    drip: bool = False


Script = Callable[[dict[str, Any]], Act]


class JudgeServer:
    """Plays `acts` one by one, then `default` for ever; `seen` holds the bodies of chat requests."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.default: Script = lambda body: Act(body=verdict(0.5))
        self.models: Act = Act(body={"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.listings = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.times: list[float] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.listings += 1
                self.play(server.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.seen.append(body)
                    server.headers.append({name.lower(): value for name, value in self.headers.items()})
                    server.times.append(time.monotonic())
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                    act = server.acts.pop(0) if server.acts else server.default(body)
                try:
                    server.ending.wait(act.wait_s)
                    with server._lock:
                        server.in_flight -= 1
                    self.play(act)
                except OSError:
                    self.close_connection = True  # the client has gone

            def play(self, act: Act) -> None:
                if act.drop or server.ending.is_set():
                    self.close_connection = True
                    return
                data = act.body if isinstance(act.body, bytes) else json.dumps(act.body).encode()
                self.send_response(act.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in act.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for place in range(len(data) if act.drip else 0):
                    self.wfile.write(data[place : place + 1])
                    if server.ending.wait(0.05):
                        return
                self.wfile.write(b"" if act.drip else data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.ending = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


MESSAGES = [
    {"role": "developer", "content": "You grade answers."},
    {"role": "user", "content": "{{ item.question }}\n{{ sample.output_text }}"},
]


def score_spec(**changes: Any) -> ScoreModel:
    fixed = {"type": "score_model", "name": "quality", "model": MODEL, "input": MESSAGES}
    return ScoreModel.model_validate({**fixed, **changes})


def label_spec(**changes: Any) -> LabelModel:
    fixed = {
        "type": "label_model",
        "name": "tone",
        "model": MODEL,
        "input": MESSAGES,
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    return LabelModel.model_validate({**fixed, **changes})


def asks(*completions: str) -> list[GradeRequest]:
    return [GradeRequest(text, {"question": "1+1?"}) for text in completions]


def settings_of(server: JudgeServer, folder: Path, **settings: Any) -> JudgeConfig:
    return JudgeConfig(**{"base_url": server.url, "cache": str(folder / "cache"), "retries": 2, **settings})


def session_of(config: JudgeConfig, **more: Any) -> JudgeSession:
    return JudgeSession(config, **{"env": {"OPENAI_API_KEY": KEY}, **more})
