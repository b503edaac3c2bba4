"""What isolation costs: a grade in a worker, `rft grade` against a plain Python loop, and two cores against one.

The plain loop is one process that loads each row, calls the scorer in its own interpreter, adds the grade and dumps the
row: no timeout, no isolation, no outcomes but graded. Both sides write the same bytes, which is checked.
"""

from __future__ import annotations

import filecmp
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Row, main, pair, seconds
from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
from rft_cli.types import GradeRequest

BUDGET_US = 15.0
BATCH = 64
BATCHES = 400
WARM = 200
"""Batches before the clock counts: the figure is that of a job that goes on."""
PAIRS = 3

TRIVIAL = "def score(completion):\n    return 0.5\n"
BURN = """
from time import thread_time

def score(completion):
    end = thread_time() + 0.001
    while thread_time() < end:
        pass
    return 0.5
"""
PLAIN = """
import importlib.util, json, sys

spec = importlib.util.spec_from_file_location("scorer", sys.argv[1])
scorer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scorer)
with open(sys.argv[2], encoding="utf-8") as rows:
    for line in rows:
        row = json.loads(line)
        reward = scorer.score(row["completion"])
        row["grade"] = {"status": "graded", "reward": reward, "components": {}, "error": None}
        sys.stdout.write(json.dumps(row) + "\\n")
"""


def rows(count: int = 1_000_000, burned: int = 20_000, batches: int = BATCHES) -> list[Row]:
    """The three figures: `count` rows with a trivial scorer, `burned` rows with one that takes 1 ms of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        data, some = Path(folder, "rows.jsonl"), Path(folder, "some.jsonl")
        _write(data, count)
        _write(some, burned)
        return [
            _overhead(Path(folder), batches),
            _against_loop(f"rft grade: {count:,} rows", Path(folder), TRIVIAL, data, 4.0, PAIRS),
            _against_loop(
                f"rft grade: {burned:,} rows of 1 ms, two workers", Path(folder), BURN, some, 0.65, 1
            ),
        ]


def _write(file: Path, count: int) -> None:
    with file.open("w", encoding="utf-8") as out:
        for i in range(count):
            a, b = i, i * 7919 % 997
            row = {
                "id": i,
                "prompt": f"What is {a} + {b}? Think step by step and give the number at the end.",
                "completion": f"I add {b} to {a}, which gives {a + b}. The number is {a + b}.",
                "output": str(a + b),
            }
            out.write(json.dumps(row) + "\n")


def _overhead(folder: Path, batches: int) -> Row:
    """Time of a batch in the pool, less the time of the same calls here; the median over batches."""
    scorer = folder / "scorer.py"
    scorer.write_text(TRIVIAL, encoding="utf-8")
    text = "The answer is 42, because six times seven is forty-two. " * 20
    space: dict[str, object] = {}
    exec(TRIVIAL, space)
    score = space["score"]
    pooled, plain = [], []
    with open_grader(GraderConfig(path=str(scorer)), log_path=None) as grader:
        for batch in range(-WARM, batches):
            requests = [GradeRequest(f"{batch} {i} {text}", {"output": "42"}) for i in range(BATCH)]
            took = seconds(lambda requests=requests: grader.grade(requests))  # type: ignore[misc]
            bare = seconds(lambda requests=requests: [score(r.completion) for r in requests])  # type: ignore[misc,operator]
            if batch >= 0:
                pooled.append(took)
                plain.append(bare)
    each = (statistics.median(pooled) - statistics.median(plain)) / BATCH * 1e6
    detail = f"{each:.1f} µs of {BUDGET_US:g} µs a grade, median of {batches} batches of {BATCH}"
    return Row("isolation: overhead of a grade", each / BUDGET_US, 1.0, "lower", detail)


def _against_loop(name: str, folder: Path, source: str, data: Path, limit: float, pairs: int) -> Row:
    """Wall time of `rft grade` on these rows over that of the plain loop, both from start to end of the process."""
    scorer, ours, theirs = folder / "scorer.py", folder / "ours.jsonl", folder / "theirs.jsonl"
    scorer.write_text(source, encoding="utf-8")
    grade = ["-m", "rft_cli", "grade", "--reward-model", str(scorer), "--workers", "2", str(data)]
    result = pair(
        lambda: seconds(lambda: _run(grade, ours)),
        lambda: seconds(lambda: _run(["-c", PLAIN, str(scorer), str(data)], theirs)),
        pairs=pairs,
        warmup=0,
    )
    if not filecmp.cmp(ours, theirs, shallow=False):
        raise RuntimeError("rft grade and the plain loop wrote different lines")
    detail = f"{result.ours:.2f} s against {result.theirs:.2f} s, {pairs} pairs, {result.low:.2f} to {result.high:.2f}"
    return Row(name, result.ratio, limit, "lower", detail)


def _run(arguments: Sequence[str], out: Path) -> None:
    with out.open("wb") as file:
        command = [sys.executable, *arguments]
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, text=True
        )
    if ended.returncode != 0:
        raise RuntimeError(f"{arguments[0]} {arguments[1]} ended with {ended.returncode}: {ended.stderr}")


if __name__ == "__main__":
    main(rows)
