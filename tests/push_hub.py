"""A hub on this machine that takes models: repositories, LFS uploads and commits, as the real client sends them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_token_of_the_tests"


class PushHub:
    """`repos`: name → file → content, as the last commit left them. `private`: those that were made so.

    `read_only`: the token may not write. `full`: uploads fail.
    """

    def __init__(self, read_only: bool = False, full: bool = False) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.commits: list[str] = []
        self.uploads: dict[str, bytes] = {}
        self.read_only, self.full = read_only, full
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def environment(self, home: Path, token: str = TOKEN) -> dict[str, str]:
        """What a command needs to find this hub, logged in by the token file of the hub's own store."""
        home.mkdir(parents=True, exist_ok=True)
        (home / "token").write_text(token)
        return {
            "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: PushHub

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid credentials in Authorization header"}, 401)
        elif self.path == "/api/whoami-v2":
            self._json({"type": "user", "name": "org", "orgs": [], "auth": {"type": "access_token"}})
        else:
            self._json({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self._chunks()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid credentials in Authorization header"}, 401)
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.hub.read_only:
            self._json({"error": "You don't have the rights"}, 403)
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            self._preupload(json.loads(body))
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif "/commit/" in self.path:
            self._commit("/".join(self.path.split("/")[3:5]), body)
        else:
            self._json({"error": f"no such page: {self.path}"}, 404)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.full:
            self._json({"error": "no space"}, 507)
            return
        self.hub.uploads[hashlib.sha256(content).hexdigest()] = content
        self._json({})

    def _create(self, body: dict[str, Any]) -> None:
        name = "/".join(part for part in (body.get("organization"), body["name"]) if part)
        name = name if "/" in name else f"org/{name}"
        self.hub.repos.setdefault(name, {})
        if body.get("private") or body.get("visibility") == "private":
            self.hub.private.add(name)
        self._json({"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name})

    def _preupload(self, body: dict[str, Any]) -> None:
        large = (".safetensors", ".gguf")
        self._json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(large) else "regular",
                        "shouldIgnore": False,
                    }
                    for file in body["files"]
                ]
            }
        )

    def _batch(self, body: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{one['oid']}"}}}
            for one in body["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, body: bytes) -> None:
        files = self.hub.repos[name]
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        number = "a" * 40
        self._json(
            {"success": True, "commitOid": number, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{number}"}
        )

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _json(self, document: object, code: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing in the tests' output."""
