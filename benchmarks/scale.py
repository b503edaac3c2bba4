"""What a rollout batch takes on more processes: a model of the pipeline, held against real jobs, then asked about GPUs.

The phases of small jobs are measured on one process at two batch sizes and on two processes at the smaller one. From
these, `pipeline_model.py` predicts other jobs: twice the batch on two processes, and both with `rollout.ahead: 1`.
Because other work runs on the machine, phases are CPU seconds, and the share of a core that a job got while it sampled
turns them into wall time. --write puts the tables into docs/scale.md.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import scale_child
from benchmarks.ahead import write_files
from benchmarks.common import Row, main
from benchmarks.jobs import put_into
from benchmarks.pipeline_model import Gpu, Phases, Work, batch_seconds, limit, line_through, on_gpus, starts

PAGE = Path("docs/scale.md")
DATA = Path("sample_data").absolute()
SMALL, LARGE = 16, 32
"""Completions of one process in a rollout batch."""
BATCHES = 6
WORKERS = 1
ROUNDS = 1
CLOSE = 1.1
H100 = Gpu(flops=989e12, memory_bytes_s=3.35e12, link_bytes_s=50e9, compute_share=0.4, memory_share=0.6)
SEVEN_B = Work(
    parameters=7e9, trained=40e6, completions=1024, prompt=256, tokens=512, passes=2, minibatches=2,
    grade_s=0.2, graders=8, graders_a_gpu=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setup:
    """A job: processes, completions of each in a batch, batches ahead."""

    processes: int
    own: int
    ahead: int = 0

    @property
    def name(self) -> str:
        several = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{several}, {self.own * self.processes} completions, ahead {self.ahead}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A job's batches, but the first and the last: CPU seconds of phases, the share of a core, wall of waits and turns.

    `update` is wall time.
    """

    sample: float
    score: float
    train: float
    grade: float
    share: float
    update: float
    turns: float


def measured(folder: Path, setup: Setup, number: int) -> Measured:
    """Run the job; the median batch of its first process."""
    name = f"{setup.processes}-{setup.own}-{setup.ahead}-{number}"
    files = [folder / f"{name}-{rank}.jsonl" for rank in range(setup.processes)]
    environment = {}
    if setup.processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            "WORLD_SIZE": str(setup.processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    fork = multiprocessing.get_context("fork")
    running = []
    for rank, file in enumerate(files):
        own = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if environment else {})
        running.append(
            fork.Process(target=scale_child.run, args=(file, _arguments(folder, setup, name), own))
        )
        running[-1].start()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        said = files[0].with_suffix(".log").read_text(encoding="utf-8")
        raise SystemExit(f"the job {setup.name} failed:\n{said[-3000:]}")
    print(f"{setup.name}: done", file=sys.stderr, flush=True)
    lines = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines()][1:-1]
    grades = [
        json.loads(line)
        for line in (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return _summed(lines, statistics.median(line["grade_seconds"] for line in grades))


def _arguments(folder: Path, setup: Setup, name: str) -> list[str]:
    settings = {
        "rollout.ahead": setup.ahead, "rollout.group_size": 8, "num_processes": setup.processes,
        "rollout.prompts_per_batch": setup.own * setup.processes // 8, "optim.max_steps": 4 * BATCHES,
        # Lengths stay as they are.
        "optim.learning_rate": 1e-9, "rollout.max_completion_tokens": 32, "grader.workers": WORKERS,
        "grader.audit": "none", "pilot.prompts": 0, "validation.every_epochs": 999,
    }  # fmt: skip
    return [
        *("create", "-t", str(DATA / "train.jsonl"), "-v", str(folder / "val.jsonl")),
        *("--reward-model", str(folder / "slow.py"), "--output-dir", str(folder), "--name", name, "--quiet"),
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    ]


def _summed(lines: Sequence[dict[str, Any]], grade: float) -> Measured:
    def median(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(of, lines))

    def scored(line: dict[str, Any], clock: int) -> float:
        return float(line["rollout"][clock] - line["sample"][clock] - line["wait"][clock])

    # With a batch ahead, the job's end has batches without sampling.
    lines = [line for line in lines if "sample" in line]
    rollouts = [sum(line["sample"][clock] + scored(line, clock) for line in lines) for clock in (0, 1)]
    return Measured(
        sample=median(lambda line: line["sample"][1]),
        score=median(lambda line: scored(line, 1)) / 2,
        train=median(lambda line: line["whole"][1] - line["rollout"][1]),
        grade=grade,
        share=min(1.0, rollouts[1] / rollouts[0]),
        update=median(lambda line: line["whole"][0] - line["rollout"][0]),
        turns=statistics.fmean(line["whole"][0] for line in lines),
    )


def predicted(setup: Setup, found: dict[Setup, Measured], share: float) -> float:
    """Seconds of a batch of `setup`, from the calibrations and the share of a core that the job got."""
    small, large = (found[Setup(1, own)] for own in (SMALL, LARGE))
    parts = {
        name: line_through([(SMALL, getattr(small, name)), (LARGE, getattr(large, name))]).at(setup.own)
        for name in ("sample", "score", "train", "grade")
    }
    phases = Phases(**{name: value if name == "grade" else value / share for name, value in parts.items()})
    if setup.processes > 1:
        two = found[Setup(2, SMALL)]
        # What the updates of two processes take beyond the same work in one.
        phases = replace(phases, sync=max(0.0, two.update - small.train / two.share))
    turns = starts(phases, BATCHES, setup.ahead)
    last = BATCHES - 1 - setup.ahead
    return (turns[last] - turns[1]) / (last - 1)


CALIBRATIONS = (Setup(1, SMALL), Setup(1, LARGE), Setup(2, SMALL))
PREDICTED = (Setup(1, LARGE, 1), Setup(2, LARGE), Setup(2, LARGE, 1))


def rows(write: bool = False) -> list[Row]:
    """Predicted against measured; with `write` also into docs/scale.md."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        write_files(folder)
        rounds = [
            {setup: measured(folder, setup, number) for setup in (*CALIBRATIONS, *PREDICTED)}
            for number in range(ROUNDS)
        ]
    found = []
    lines = ["| job | measured, s a batch | predicted | predicted / measured |", "|---|---|---|---|"]
    for setup in PREDICTED:
        pairs = [(one[setup].turns, predicted(setup, one, one[setup].share)) for one in rounds]
        actual, guess = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        each = ", ".join(f"{b / a:.2f}" for a, b in pairs)
        lines.append(f"| {setup.name} | {actual:.2f} | {guess:.2f} | {ratio:.2f} ({each}) |")
        found.append(
            Row(
                f"prediction: {setup.name}",
                max(ratio, 1 / ratio),
                CLOSE,
                "lower",
                f"{guess:.2f} s, was {actual:.2f} s",
            )
        )
    if write:
        put_into(PAGE, "\n".join([*lines, "", _calibration(rounds)]), "measured")
        put_into(PAGE, "\n".join(gpu_table()), "prediction")
    return found


def _calibration(rounds: Sequence[dict[Setup, Measured]]) -> str:
    lines = [
        "| calibration | sample | two scoring passes | updates | grade | share of a core |",
        "|---|---|---|---|---|---|",
    ]
    for setup in CALIBRATIONS:
        runs = [one[setup] for one in rounds]
        columns = [(run.sample, 2 * run.score, run.train, run.grade, run.share) for run in runs]
        cells = " | ".join(f"{statistics.median(column):.2f}" for column in zip(*columns, strict=True))
        lines.append(f"| {setup.name} | {cells} |")
    return "\n".join(lines)


def gpu_table() -> list[str]:
    """A 7 B model on 1, 8 and 64 GPUs, with a grader for all and with graders on each machine."""
    lines = [
        "| GPUs | grader | ahead | s a batch | completions a second | speed-up | what limits it |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in (False, True):
        work = replace(SEVEN_B, graders_a_gpu=each)
        kind = "8 at a time a GPU" if each else "8 at a time in all"
        for ahead in (0, 1):
            alone = batch_seconds(on_gpus(work, H100, 1), ahead)
            for gpus in (1, 8, 64):
                phases = on_gpus(work, H100, gpus)
                seconds = batch_seconds(phases, ahead)
                lines.append(
                    f"| {gpus} | {kind} | {ahead} | {seconds:.1f} | {work.completions / seconds:.0f} | "
                    f"{alone / seconds:.1f}x | {limit(phases, ahead)} |"
                )
    return lines


if __name__ == "__main__":
    main(rows, write="put the tables into docs/scale.md")
