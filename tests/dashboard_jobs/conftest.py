"""A dashboard as a process of its own, over a folder with small files, and a client that holds its token."""

from __future__ import annotations

import re
import subprocess
from html import unescape
from pathlib import Path

import httpx2
import pytest

from tests.command import RFT, ROOT, environment

SHORT = {
    "data.train": "train.jsonl",
    "data.validation": "val.jsonl",
    "grader.path": "scorer.py",
    "rollout.group_size": "2",
    "rollout.prompts_per_batch": "2",
    "rollout.max_completion_tokens": "8",
    "more": "pilot.prompts=0\ngrader.workers=1\ngrader.audit=none\nppo.passes=1\nppo.minibatches=1",
}
"""A form's values of a job whose steps take part of a second."""


SCORER = """
import time

def score(completion):
    # a job that mostly waits leaves the processor to the dashboard and the browser
    time.sleep(0.1)
    return len(set(completion)) / 10
"""


class Dashboard:
    """One dashboard: its folder, its address with and without the token, and requests as a page sends them."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [*RFT, "dashboard", "--port", "0", *options],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.opening = self._process.stdout.readline().split()[1]
        self.address = self.opening.partition("/?")[0]
        self.client = httpx2.Client(base_url=self.address, timeout=280)
        self.client.get(self.opening)
        self.token = self.form_token()

    def get(self, path: str, **query: str) -> httpx2.Response:
        return self.client.get(path, params=query)

    def post(self, path: str, origin: str | None = None, **values: str) -> httpx2.Response:
        headers = {"origin": origin or self.address}
        return self.client.post(path, data={"form_token": self.token} | values, headers=headers)

    def form_token(self) -> str:
        return re.search(r'name="form_token" value="([^"]+)"', self.get("/start").text)[1]

    def end(self) -> int:
        self._process.terminate()
        return self._process.wait(20)


def problems(page: str) -> dict[str, str]:
    """What a form's page says is wrong: field → text."""
    found = re.findall(r'<div class="wrong" id="problem-([^"]*)">(.*?)</div>', page, re.DOTALL)
    return {name: " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split()) for name, text in found}


def command(page: str) -> str:
    """The command that the page shows."""
    return unescape(re.search(r'<pre[^>]* id="command"[^>]*>(.*?)</pre>', page, re.DOTALL)[1])


def fill(folder: Path) -> Path:
    """Copy the sample data, a few rows of it, into the folder."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", 24), ("val", 6)):
        lines = (ROOT / "sample_data" / f"{name}.jsonl").read_text().splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[:rows]))
    (folder / "scorer.py").write_text(SCORER)
    return folder


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """A dashboard over a new folder."""
    opened = Dashboard(fill(tmp_path_factory.mktemp("work")))
    yield opened
    opened.end()
