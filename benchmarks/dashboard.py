"""What the dashboard costs, in CPU seconds of its process: the list, a long run, a page that is open on a live run.

    python -m benchmarks.dashboard

The runs are made here, without a model. Each ratio is the CPU time over the one that is allowed.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import Row, main
from rft_cli.report.result import build_result
from rft_cli.runs import Run
from rft_cli.types import Grade, Sample

RUNS = 200
STEPS, COMPLETIONS, VALIDATIONS, VALIDATION_ROWS = 1000, 50_000, 20, 200
LIVE_S, STEP_S, POLL_S = 60.0, 0.5, 2.0
LIST_S, OPEN_S, LIVE_SHARE, GROWTH_MB = 0.2, 1.0, 0.02, 20.0


def rows() -> list[Row]:
    """The list of 200 runs, a run of 1,000 steps and 50,000 completions, and a live run."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for number in range(RUNS):
            _make_run(folder / "many", f"run-{number:03d}", steps=8, completions=32, validations=1)
        _make_run(folder / "long", "long", STEPS, COMPLETIONS, VALIDATIONS)
        live = _make_run(folder / "live", "live", 100, 800, 4, finish=False)
        return [_list(folder / "many"), *_long(folder / "long"), _live(live)]


def _list(folder: Path) -> Row:
    with _Dashboard.of(folder) as served:
        first = served.cpu_of("/")
    detail = f"{first * 1000:.0f} ms for the first page of {RUNS} runs"
    return Row("dashboard: the list", first / LIST_S, 1.0, "lower", detail)


def _long(folder: Path) -> list[Row]:
    with _Dashboard.of(folder) as served:
        opened = served.cpu_of("/runs/long")
        before = served.memory_mb
        asked = (
            "",
            "?split=training",
            "?split=training&q=refund",
            "?split=training&row=7",
            "?split=training&q=none",
        )
        slowest = max(served.cpu_of(f"/runs/long/completions{query}") for query in asked * 4)
        growth = served.memory_mb - before
    run = f"a run of {STEPS:,} steps and {COMPLETIONS:,} completions"
    return [
        Row("dashboard: a long run", opened / OPEN_S, 1.0, "lower", f"{opened * 1000:.0f} ms to open {run}"),
        Row(
            "dashboard: its completions",
            slowest / OPEN_S,
            1.0,
            "lower",
            f"{slowest * 1000:.0f} ms the slowest of 20 pages",
        ),
        Row("dashboard: memory", growth / GROWTH_MB, 1.0, "lower", f"{growth:.1f} MB more after these pages"),
    ]


def _live(run: Run) -> Row:
    """A job that steps twice a second, faster than any real one, and its page, which asks every two seconds."""
    with run.session(), _Dashboard.of(run.path.parent) as served:
        served.poll("/runs/live")
        spent, began, asked, step = served.cpu_s, time.monotonic(), 0.0, 100
        while time.monotonic() - began < LIVE_S:
            step += 1
            run.append_metrics(_line(step))
            if time.monotonic() - asked >= POLL_S:
                asked = time.monotonic()
                served.poll("/runs/live")
            time.sleep(STEP_S)
        share = (served.cpu_s - spent) / (time.monotonic() - began)
    detail = f"{share:.2%} of one core for the page of a run that steps twice a second"
    return Row("dashboard: beside a training", share / LIVE_SHARE, 1.0, "lower", detail)


class _Dashboard:
    """`rft dashboard` in a process of its own, and a browser's requests to it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = psutil.Process(process.pid)
        self._base = url.partition("/?")[0]
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        self._etag = ""
        self._browser.open(url).read()

    @classmethod
    @contextlib.contextmanager
    def of(cls, folder: Path) -> Iterator[_Dashboard]:
        command = [sys.executable, "-m", "rft_cli", "dashboard", "--output-dir", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield cls(process, process.stdout.readline().split()[1])
            finally:
                process.terminate()

    @property
    def cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def memory_mb(self) -> float:
        return float(self._process.memory_info().rss) / 1e6

    def cpu_of(self, path: str) -> float:
        before = self.cpu_s
        self._browser.open(self._base + path).read()
        return self.cpu_s - before

    def poll(self, path: str) -> None:
        request = urllib.request.Request(self._base + path, headers={"If-None-Match": self._etag})
        with contextlib.suppress(urllib.error.HTTPError), self._browser.open(request) as answer:  # 304 is one
            answer.read()
            self._etag = answer.headers["etag"]


def _make_run(
    folder: Path, name: str, steps: int, completions: int, validations: int, *, finish: bool = True
) -> Run:
    draw = random.Random(0)
    settings = {"rollout.max_completion_tokens": 64, "ppo.critic": "none", "data.train": "train.jsonl"}
    info: dict[str, Any] = {
        "model": "builtin/tiny",
        "algorithm": "ppo",
        "seed": 0,
        "settings": settings,
        "hashes": {},
    }
    run = Run.create(folder, name, config_yaml="algorithm: ppo\n", info=info)
    for step in range(1, steps + 1):
        run.append_metrics(_line(step))
    for step in range(0, steps, 4):
        run.write_rollouts(
            step, [_sample(draw, row % 500).to_json() for row in range(completions * 4 // steps)]
        )
    for step in range(0, steps + 1, steps // validations):
        run.write_samples(f"step-{step:06d}", [_sample(draw, row) for row in range(VALIDATION_ROWS)])
    run.update(best_step=steps)
    if finish:
        run.finish(build_result(run))
    return run


def _line(step: int) -> dict[str, Any]:
    return {
        "step": step, "epoch": step / 10, "reward": 0.5, "kl_per_token": 0.01, "entropy": 1.0,
        "completion_tokens": 20.0, "truncated": 0.0, "constant_groups": 0.1, "grade_seconds": 0.01,
        "rollout_seconds": 1.0, "step_seconds": 2.0, "update_seconds": 1.0, "learning_rate": 1e-5,
        "completions": 64 * step, "grader_failed_rate": 0.0,
    }  # fmt: skip


def _sample(draw: random.Random, row: int) -> Sample:
    words = ("refund", "order", "team", "shipping", '{"a": 1}')
    prompt, text = (" ".join(draw.choices(words, k=count)) for count in (40, 60))
    reward = draw.random()
    return Sample(
        row,
        f"line-{row + 1}",
        prompt,
        text,
        60,
        False,
        Grade("graded", reward, {"right": reward, "form": 1.0}),
    )


if __name__ == "__main__":
    main(rows)
