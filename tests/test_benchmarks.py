"""The measuring itself: pairs, verdicts, the table, and the runner over real benchmark processes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import common, run
from benchmarks.common import Row, cpu_seconds, pair, table

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("ratio", "better", "ok"),
    [
        (1.99, "lower", True),
        (2.0, "lower", True),
        (2.01, "lower", False),
        (1.99, "higher", False),
        (2.0, "higher", True),
        (math.nan, "lower", False),
        (math.nan, "higher", False),
        (None, "lower", None),
    ],
)
def test_verdict(ratio, better, ok):
    assert Row("a", ratio, 2.0, better).ok is ok


def test_pair_takes_the_median_of_ratios_and_changes_who_goes_first():
    order: list[str] = []
    ours = iter([100.0, 2.0, 9.0, 4.0])  # the first of each side is the warm-up
    theirs = iter([1.0, 1.0, 3.0, 1.0])

    def one() -> float:
        order.append("ours")
        return next(ours)

    def other() -> float:
        order.append("theirs")
        return next(theirs)

    result = pair(one, other, pairs=3)
    # Ratios 2, 3 and 4; the ratio of the medians would be 4 / 1.
    assert (result.ratio, result.low, result.high) == (3.0, 2.0, 4.0)
    assert (result.ours, result.theirs) == (4.0, 1.0)
    assert order == ["ours", "theirs", "ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_cpu_seconds_counts_the_work_of_children_and_not_waiting():
    loop = "for _ in range(3_000_000): pass"
    idle = cpu_seconds([sys.executable, "-c", "import time; time.sleep(0.5)"])
    parent = cpu_seconds(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {loop!r}])"]
    )
    assert idle < 0.5
    assert parent > idle


def test_cpu_seconds_refuses_another_exit_code():
    with pytest.raises(RuntimeError, match="ended with 3 instead of 0"):
        cpu_seconds([sys.executable, "-c", "raise SystemExit(3)"])


def test_table_lines_up_and_names_each_verdict():
    rows = [
        Row("speed", 1.6, 1.5, "higher", "8 against 5 episodes a second"),
        Row("start-up", 2.5, 2.0, "lower"),
        Row("share", 0.0042, 0.02, "lower"),
        Row("memory", None, 1.15, "lower", "needs a GPU"),
    ]
    assert table(rows).splitlines() == [
        "benchmark   ratio      limit           detail",
        "speed       1.60x   >= 1.50x  ok       8 against 5 episodes a second",
        "start-up    2.50x   <= 2.00x  MISSED",
        "share      0.004x  <= 0.020x  ok",
        "memory          -   <= 1.15x  not run  needs a GPU",
    ]


@pytest.mark.parametrize("ratio", [1.25, None, math.inf])
def test_rows_travel_as_json(ratio):
    row = Row("a", ratio, 2.0, "lower", "detail")
    assert Row.from_json(json.loads(json.dumps(row.to_json(), allow_nan=False))) == row


@pytest.mark.parametrize(("ratio", "code"), [(1.0, 0), (3.0, 1), (None, 0)])
def test_a_module_exits_with_its_verdict(monkeypatch, capsys, ratio, code):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json"])

    def rows() -> list[Row]:
        return [Row("a", ratio, 2.0, "lower")]

    with pytest.raises(SystemExit) as ended:
        common.main(rows)
    assert ended.value.code == code
    assert json.loads(capsys.readouterr().out)["ratio"] == ratio


def test_every_listed_module_exists():
    assert [name for name in run.MODULES if not (ROOT / "benchmarks" / f"{name}.py").is_file()] == []


def test_a_benchmark_that_breaks_is_named_and_fails_the_run(monkeypatch, capsys):
    monkeypatch.setattr(run, "MODULES", ("missing",))
    assert run.main([]) == 1
    assert "missing did not run to its end" in capsys.readouterr().err


def test_runner_prints_the_rows_of_a_real_benchmark():
    program = "import benchmarks.startup as s; s.PAIRS = 1; s.rows.__defaults__ = (1,); s.main(s.rows)"
    measured = subprocess.run(
        [sys.executable, "-c", program, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert measured.returncode in (0, 1), measured.stderr
    rows = [Row.from_json(json.loads(line)) for line in measured.stdout.splitlines()]
    assert [row.name for row in rows] == ["start-up: rft --help", "start-up: config error"]
    # One pair on a busy machine: that it is no order of magnitude off. The limit of 2 is `make bench`'s.
    assert all(row.ratio is not None and 0.3 < row.ratio < 6 for row in rows)
