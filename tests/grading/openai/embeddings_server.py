"""An OpenAI-compatible embeddings endpoint: the vector of a text is the numbers in it."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rft_cli.config.schema import EmbeddingsConfig, GraderConfig


class Embeddings:
    """The server. `asked` are the bodies that came, `keys` their keys; `fault` answers texts with "bad" in them:
    a status, "hang" or "garbage".
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.fault: int | str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def config(self, spec: dict[str, Any], **settings: Any) -> GraderConfig:
        """A grader that asks here."""
        settings = {"base_url": self.url, "api_key_env": "none", **settings}
        return GraderConfig(spec=spec, timeout_s=1.0, embeddings=EmbeddingsConfig(**settings))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _vector(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+", text)] or [1.0, 0.0]


def _handler(server: Embeddings) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.asked.append(body)
            server.keys.append(self.headers["authorization"])
            fault = server.fault if any("bad" in text for text in body["input"]) else None
            if fault == "hang":
                time.sleep(3)
                return
            vectors = [
                {"object": "embedding", "index": i, "embedding": _vector(text)}
                for i, text in reversed(list(enumerate(body["input"])))
            ]
            if fault == "garbage":
                vectors.pop()
            answer = {"object": "list", "data": vectors, "model": body["model"], "usage": {}}
            status = fault if isinstance(fault, int) else 200
            content = json.dumps(answer if status == 200 else {"error": {"message": "no"}}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
