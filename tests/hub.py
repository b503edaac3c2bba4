"""A Hugging Face hub on this machine: `org/model` is builtin/tiny, at whichever commit its `main` is told to be."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TINY = Path(__file__).parents[1] / "rft_cli" / "builtin" / "tiny"
MODEL = "org/model"


class Hub:
    """`main`: the commit that the branch is at now. `asked`: the path of every request so far."""

    def __init__(self, main: str) -> None:
        self.main, self.asked = main, list[str]()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def environment(self, home: Path) -> dict[str, str]:
        """What a command needs to find this hub; its cache is in `home`."""
        endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return {
            "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip

    def loaded(self) -> set[str]:
        """The revisions of which weights were asked for."""
        return {path.split("/")[4] for path in self.asked if path.endswith("/model.safetensors")}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(path)
        words = path.strip("/").split("/")
        if path.startswith(f"/{MODEL}/resolve/"):
            self._file(words[3], "/".join(words[4:]))
        elif path.startswith(f"/api/models/{MODEL}/tree/"):
            self._json([])
        elif path.startswith(f"/api/models/{MODEL}"):
            self._json({"id": MODEL, "sha": self._commit(words[5] if words[4:] else "main"), "siblings": []})
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _commit(self, revision: str) -> str:
        return self.hub.main if revision == "main" else revision

    def _file(self, revision: str, name: str) -> None:
        headers, file = {"X-Repo-Commit": self._commit(revision)}, TINY / name
        if not file.is_file():
            self._answer(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
            return
        content = file.read_bytes()
        self._answer(200, content, {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

    def _json(self, document: object) -> None:
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing in the tests' output."""
