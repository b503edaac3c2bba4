"""Every benchmark, one after the other, and one table of what they measured: `make bench`.

    python -m benchmarks.run [--only NAME ...] [--json]

All of it takes about 45 minutes; time to a reward, which searches both sides' settings, goes on where it was cut off.

Exits with 1 where a limit is missed or a benchmark does not run to its end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.common import Row, table

# In the order in which they run: the quick ones first. Each is a module of this package (benchmarks/common.py).
MODULES = (
    "startup", "dashboard", "grading", "checkpoints", "memory", "ahead", "scale", "speed", "time_to_reward",
)  # fmt: skip


def run_module(name: str) -> list[Row] | None:
    """The rows of one benchmark, in a process of its own; None where it fails (its errors go to stderr)."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        rows = [Row.from_json(json.loads(line)) for line in process.stdout.splitlines()]
    except (ValueError, TypeError, KeyError):
        return None
    return rows if rows and process.returncode in (0, 1) else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Run the benchmarks.")
    parser.add_argument("--only", action="append", choices=MODULES, help="this one alone; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON object a row on standard output")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    failed: list[str] = []
    for name in options.only or MODULES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.monotonic()
        measured = run_module(name)
        if measured is None:
            failed.append(name)
        else:
            rows += measured
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if options.json:
        for row in rows:
            print(json.dumps(row.to_json()))
    else:
        print(table(rows))
    for name in failed:
        print(f"{name} did not run to its end", file=sys.stderr)
    return 1 if failed or any(row.ok is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
