"""Wall time until the mean validation reward is 0.8: rft's PPO against TRL 1.12.0's, each at its best settings.

Learning rate and batch of both sides are searched over the same grid. Every cell is run with seed 0; the two best
cells of a side then run with the other seeds, and the cell with the lowest mean time stands for the side. Everything
else is rft's default, on TRL's side too where it has the setting (see `benchmarks.trl_ppo`). The clock counts training
alone: loading and validating are outside, and the validation loop is the same function on both sides.

Runs take turns, stop after CAP seconds, and are kept in build/bench/time_to_reward.json: a run that was cut off goes
on where it was. --quick: one seed and a grid of two.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import trl_env
from benchmarks.common import Row, main
from benchmarks.side import BUILD, ROOT, Side
from benchmarks.workload import settings
from rft_cli.config import RunConfig

LIMIT = 0.5
TARGET = 0.8
CAP = 100.0
"""Seconds of training after which a run counts as not having got there."""

RATES = (5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
BATCHES = (64, 128)
SEEDS = (0, 1, 2)
EVERY = 128
"""Completions between validations: 2 batches of 64, 1 of 128."""

SideName = Literal["rft", "trl"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid; `batch` is completions in one rollout batch."""

    rate: float
    batch: int


@dataclass(frozen=True, slots=True)
class Reached:
    """One finished run: training seconds until the target, or until the cap where it was not reached."""

    reached: bool
    seconds: float
    completions: int
    best: float


def rows(quick: bool = False) -> list[Row]:
    """The claim; prints every cell on standard error."""
    name = f"time to validation reward {TARGET}: rft against TRL {trl_env.VERSION} PPO"
    try:
        interpreter = trl_env.python()
    except trl_env.NotInstalled as error:
        return [Row(name, None, LIMIT, "lower", str(error))]
    grid = [Cell(r, b) for r, b in itertools.product(RATES, BATCHES)]
    if quick:
        grid = [Cell(2e-4, 128), Cell(4e-4, 128)]
    seeds = SEEDS[:1] if quick else SEEDS
    runs = Runs(BUILD / "time_to_reward.json", interpreter)
    best = search(runs, grid, seeds)
    print(table(runs, grid), file=sys.stderr)
    return [verdict(name, runs, best, seeds)]


class Runs:
    """Finished runs, kept in a file; one that is not there is run. A change of rft's training starts them anew."""

    def __init__(self, path: Path, interpreter: Path) -> None:
        self._path, self._interpreter = path, interpreter
        self.version = fingerprint()
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._kept: dict[str, Any] = (
            kept if kept.get("version") == self.version else {"version": self.version}
        )

    def get(self, side: SideName, cell: Cell, seed: int) -> Reached | None:
        found = self._kept.get(self._key(side, cell, seed))
        return None if found is None else Reached(**found)

    def run(self, side: SideName, cell: Cell, seed: int) -> Reached:
        """From the file, or now."""
        done = self.get(side, cell, seed)
        if done is None:
            print(
                f"{side}, rate {cell.rate:g}, batch {cell.batch}, seed {seed} ...",
                file=sys.stderr,
                flush=True,
            )
            done = self._measure(side, cell, seed)
            self._kept[self._key(side, cell, seed)] = asdict(done)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._kept, indent=1), encoding="utf-8")
        return done

    @staticmethod
    def _key(side: SideName, cell: Cell, seed: int) -> str:
        return f"{side} {cell.rate:g} {cell.batch} {seed}"

    def _measure(self, side: SideName, cell: Cell, seed: int) -> Reached:
        config = config_of(cell, seed)
        work: dict[str, Any] = {"target": TARGET, "cap": CAP, "every": EVERY // cell.batch}
        if side == "rft":
            command = [sys.executable, "-m", "benchmarks.reach", config, json.dumps(work)]
        else:
            ppo = RunConfig().ppo
            work |= {"batch": cell.batch, "learning_rate": cell.rate, "tokens": tokens_limit()}
            work |= {"minibatches": ppo.minibatches, "passes": ppo.passes}
            command = [str(self._interpreter), "-m", "benchmarks.trl_ppo", "reach", config, json.dumps(work)]
        with Side(f"reach-{side}", command) as process:
            said = process.hello
        return Reached(
            said["reached"], said["seconds"], said["curve"][-1][0], max(c[2] for c in said["curve"])
        )


def config_of(cell: Cell, seed: int) -> str:
    """rft's defaults but for what the grid sets; the sample's validation rows judge."""
    group = RunConfig().rollout.group_size
    return settings(
        optim={"learning_rate": cell.rate}, rollout={"prompts_per_batch": cell.batch // group}, seed=seed
    )


def tokens_limit() -> int:
    """The completion length that rft chooses for the sample data: TRL gets the same."""
    command = [sys.executable, "-m", "benchmarks.trainers", "ours", settings()]
    with Side("reach-limit", command) as process:
        return int(process.hello["tokens"])


def fingerprint() -> str:
    """Changes with what decides a run: the training code, its defaults, the model and the data."""
    digest = hashlib.sha256()
    files = [
        *ROOT.glob("rft_cli/training/**/*.py"),
        *ROOT.glob("rft_cli/builtin/tiny/*"),
        *ROOT.glob("sample_data/*"),
    ]
    # Beside them there may be Python's caches.
    for file in sorted(path for path in [*files, Path(__file__)] if path.is_file()):
        digest.update(file.read_bytes())
    digest.update(RunConfig().model_dump_json(exclude={"grader"}).encode())
    return digest.hexdigest()[:16]


def search(runs: Runs, grid: Sequence[Cell], seeds: Sequence[int]) -> dict[SideName, Cell]:
    """The best cell of each side, searched in the same way."""
    for cell in grid:  # in turn, so that a busy hour is busy for both
        runs.run("rft", cell, seeds[0])
        runs.run("trl", cell, seeds[0])
    best: dict[SideName, Cell] = {}
    sides: tuple[SideName, ...] = ("rft", "trl")
    finalists = {side: sorted(grid, key=lambda c: _rank(runs, side, c, seeds[:1]))[:2] for side in sides}
    for seed in seeds[1:]:
        for place in range(len(finalists["rft"])):
            for side in sides:
                runs.run(side, finalists[side][place], seed)
    for side in sides:
        best[side] = min(finalists[side], key=lambda c: _rank(runs, side, c, seeds))
    return best


def _rank(runs: Runs, side: SideName, cell: Cell, seeds: Sequence[int]) -> tuple[float, float]:
    """Lower is better: the mean time; among cells that never get there, the best reward."""
    done = [runs.run(side, cell, seed) for seed in seeds]
    return statistics.mean(d.seconds if d.reached else CAP for d in done), -statistics.mean(
        d.best for d in done
    )


def verdict(name: str, runs: Runs, best: dict[SideName, Cell], seeds: Sequence[int]) -> Row:
    """Mean time over the seeds at each side's best cell; a run that hit the cap counts as the cap."""
    ours = [runs.run("rft", best["rft"], seed) for seed in seeds]
    theirs = [runs.run("trl", best["trl"], seed) for seed in seeds]
    ratio = statistics.mean(r.seconds for r in ours) / statistics.mean(r.seconds for r in theirs)
    if not all(r.reached for r in ours):
        ratio = float("inf")
    detail = f"{_said(best['rft'], ours)}; against {_said(best['trl'], theirs)}"
    return Row(name, ratio, LIMIT, "lower", detail)


def _said(cell: Cell, done: Sequence[Reached]) -> str:
    times = ", ".join(f"{r.seconds:.0f} s" if r.reached else f"over {r.seconds:.0f} s" for r in done)
    return f"{times} at rate {cell.rate:g}, batch {cell.batch}"


def table(runs: Runs, grid: Sequence[Cell]) -> str:
    """Every cell that was run, as markdown."""
    lines = ["| rate | batch | seed | rft | TRL |", "|---|---|---|---|---|"]
    for cell, seed in itertools.product(grid, SEEDS):
        ours, theirs = runs.get("rft", cell, seed), runs.get("trl", cell, seed)
        if ours or theirs:
            lines.append(f"| {cell.rate:g} | {cell.batch} | {seed} | {_cell(ours)} | {_cell(theirs)} |")
    return "\n".join(lines)


def _cell(done: Reached | None) -> str:
    if done is None:
        return ""
    if done.reached:
        return f"{done.seconds:.0f} s, {done.completions} completions"
    return f"not in {done.seconds:.0f} s: {done.best:.2f}"


if __name__ == "__main__":
    main(rows, quick="one seed, a grid of two")
