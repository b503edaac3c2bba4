"""Jobs of the real command whose results are kept, so that a long measurement can be stopped and started again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft_cli.report.estimates import estimate
from rft_cli.runs import Run
from rft_cli.types import Estimate, Sample

GATE_NOT_MET = 1
"""Exit code of a job that the pilot's gate stops: there is nothing to learn."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished job: the document that `rft create --json` printed, and its run."""

    name: str
    result: dict[str, Any]

    @property
    def run(self) -> Run:
        return Run(Path(self.result["run"]))

    def test(self, when: str, component: str | None = None) -> dict[str, Any]:
        """The estimate `before` or `after` on the test rows, of the reward or of a component."""
        found = self.result["test"] if component is None else self.result["components"][component]
        return dict(found[when])

    def curve(self) -> list[tuple[int, Estimate]]:
        """Validation reward against completions sampled (sft: rows learned); the job's start first."""
        done = {
            row["step"]: int(row["rows"] if "rows" in row else row["completions"])
            for row in self.run.metrics()
        }
        steps = self.run.validated_steps()
        return [(done.get(s, 0), estimate(self.run.read_samples(f"step-{s:06d}"))) for s in steps]


def run_job(folder: Path, name: str, arguments: Sequence[str], *, may_stop: bool = False) -> Finished | None:
    """Run `rft create` unless `name` has finished before; None where the gate stopped it and `may_stop` allows that."""
    kept = folder / f"{name}.json"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{name}: rft create {shlex.join(arguments)}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "rft_cli", "create", *arguments, "--json"]
        done = subprocess.run(
            [*command, "--output-dir", str(folder), "--name", _free_name(folder, name)],
            stdout=subprocess.PIPE,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            check=False,
        )
        if done.returncode not in ((0, GATE_NOT_MET) if may_stop else (0,)):
            raise SystemExit(f"{name} ended with code {done.returncode}")
        kept.write_bytes(done.stdout if done.returncode == 0 else b"null")
    result = json.loads(kept.read_text(encoding="utf-8"))
    return None if result is None else Finished(name, result)


def finished(job: Finished | None) -> Finished:
    """A job that no gate may stop."""
    if job is None:
        raise SystemExit("a job found nothing to learn")
    return job


def _free_name(folder: Path, name: str) -> str:
    """A run's name that an unfinished earlier try has not taken."""
    tries = [name, *(f"{name}-{n}" for n in range(2, 100))]
    return next(n for n in tries if not (folder / n).exists())


def numbered(runs: Iterable[Sequence[Sample]]) -> list[Sample]:
    """The samples of several runs, each run's rows with numbers of their own: pairs stay within a run."""
    found: list[Sample] = []
    for k, samples in enumerate(runs):
        shift = k * len(samples)
        found += [
            Sample(s.row + shift, s.example_id, s.prompt, s.completion, s.tokens, s.truncated, s.grade)
            for s in samples
        ]
    return found


def interval(mean: float, ci95: Sequence[float], sign: str = "") -> str:
    """`0.613 [0.580, 0.640]`."""
    low, high = ci95
    return f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def put_into(page: Path, text: str, mark: str = "figures") -> None:
    """Replace what is between the marks of a page of the documentation; without marks, add them under a heading."""
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    whole = page.read_text(encoding="utf-8")
    if start not in whole:
        whole = f"{whole.rstrip()}\n\n## {mark.removeprefix('figures: ')}\n\n{start}\n{end}\n"
    head, rest = whole.split(start)
    page.write_text(f"{head}{start}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")
