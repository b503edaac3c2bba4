"""The real `rft dashboard` in a process of its own, and requests to it as anybody on the machine can send them."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.command import RFT, environment


@dataclass
class Answer:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Dashboard:
    """A dashboard that runs; `url` has its token, `cookie` is what the browser gets for it."""

    process: subprocess.Popen[str]
    url: str
    cookie: str = field(default="")

    @property
    def origin(self) -> str:
        return self.url.partition("/?")[0]

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    @property
    def memory_mb(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    @property
    def cpu_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def ask(self, path: str = "/", method: str = "GET", body: str = "", **headers: str) -> Answer:
        """One request with the cookie; `headers` replace what a browser sends, None-like empty ones leave it out."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie, **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body.encode() or None)
            answer = connection.getresponse()
            text = answer.read().decode()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)
        finally:
            connection.close()

    def end(self, by: int = signal.SIGINT) -> tuple[int, str]:
        """Its exit code, and what it wrote to standard error."""
        self.process.send_signal(by)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextlib.contextmanager
def dashboard(folder: Path, *args: str) -> Iterator[Dashboard]:
    """A dashboard of the runs in `folder`, on a free port, until the block's end."""
    process = subprocess.Popen(
        [*RFT, "dashboard", "--output-dir", str(folder), *args],
        cwd=folder.parent, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        assert said[:1] == ["dashboard"], (said, process.stderr and process.stderr.read())
        started = Dashboard(process, said[1])
        opened = started.ask("/?" + urlsplit(started.url).query)
        started.cookie = opened.headers["set-cookie"].partition(";")[0]
        yield started
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
