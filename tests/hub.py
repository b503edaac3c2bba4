"""A Hugging Face hub on this machine: `org/model` is builtin/tiny, at whichever commit its `main` is told to be.

Data sets are folders; `org/gated` is one that nobody may read.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

TINY = Path(__file__).parents[1] / "rft_cli" / "builtin" / "tiny"
MODEL = "org/model"


class Hub:
    """`main`: the commit that the branch is at now. `asked`: the path of every request so far.

    `datasets`: id -> the folder of its files, or one folder for each commit.
    """

    def __init__(self, main: str, datasets: Mapping[str, Path | Mapping[str, Path]] | None = None) -> None:
        self.main, self.asked, self.datasets = main, list[str](), dict(datasets or {})
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
        elif path.startswith(("/api/datasets/", "/datasets/")):
            self._dataset(words[1:] if words[0] == "api" else words)
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """`paths-info`: what of the paths that are asked for there is."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.hub.asked.append(self.path)
        words = self.path.partition("?")[0].strip("/").split("/")
        folder = self._folder("/".join(words[2:4]), words[5])
        wanted = json.loads(asked)["paths"] if asked.startswith("{") else parse_qs(asked)["paths"]
        self._json([] if folder is None else [e for e in self._entries(folder) if e["path"] in wanted])

    def _dataset(self, words: list[str]) -> None:
        """words: datasets, org, name, then what is asked of it."""
        name, what = "/".join(words[1:3]), words[3:]
        revision = unquote(what[1]) if what[1:] else "main"
        folder = self._folder(name, revision)
        if name == "org/gated":
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        elif folder is None:
            code = "RevisionNotFound" if name in self.hub.datasets else "RepoNotFound"
            self._answer(404, b"", {"X-Error-Code": code})
        elif what[:1] == ["resolve"]:
            self._file(revision, "/".join(what[2:]), folder)
        elif what[:1] == ["tree"]:
            self._tree(folder, folder.joinpath(*what[2:]))
        else:
            files = [{"rfilename": e["path"]} for e in self._entries(folder)]
            self._json(
                {"id": name, "sha": self._commit(revision), "siblings": files, "tags": [], "downloads": 0}
            )

    def _tree(self, folder: Path, under: Path) -> None:
        """What lies in one folder of a data set, or in all below it."""
        if not under.is_dir():
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        deep = "recursive=true" in self.path.lower()
        inside = sorted(under.rglob("*") if deep else under.iterdir())
        folders = [
            {"type": "directory", "path": path.relative_to(folder).as_posix(), "size": 0, "oid": "0" * 40}
            for path in inside
            if path.is_dir()
        ]
        names = {path.relative_to(folder).as_posix() for path in inside}
        self._json([*folders, *(entry for entry in self._entries(folder) if entry["path"] in names)])

    def _folder(self, name: str, revision: str) -> Path | None:
        found = self.hub.datasets.get(name)
        return found if found is None or isinstance(found, Path) else found.get(self._commit(revision))

    def _entries(self, folder: Path) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": file.relative_to(folder).as_posix(),
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        ]

    def _commit(self, revision: str) -> str:
        return self.hub.main if revision == "main" else revision

    def _file(self, revision: str, name: str, folder: Path = TINY) -> None:
        headers, file = {"X-Repo-Commit": self._commit(revision)}, folder / name
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
