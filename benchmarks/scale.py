"""What a rollout batch takes on more processes: a model of the pipeline, held against real jobs, then asked about GPUs.

The phases of small jobs are measured on one process at two batch sizes and on two processes at the smaller one. From
these, `pipeline_model.py` predicts other jobs: twice the batch on two processes, and both with `rollout.ahead: 1`.
Because other work runs on the machine, phases are CPU seconds, and the share of a core that a job got while it sampled
turns them into wall time. --write puts the tables into docs/scale.md. Jobs are kept under build/scale.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import scale_child
from benchmarks.ahead import write_files
from benchmarks.common import Row, main
from benchmarks.jobs import put_into
from benchmarks.pipeline_model import Gpu, Phases, Work, batch_seconds, limit, line_through, on_gpus, starts

PAGE = Path("docs/scale.md")
FOLDER = Path("build/scale").absolute()
DATA = Path("sample_data").absolute()
SMALL, LARGE = 16, 32
"""Completions of one process in a rollout batch."""
BATCHES = 6
WORKERS = 1
ROUNDS = 2
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
    """Means over a job's batches but the first and the last, of its first process.

    `sample`, `score` (of one of two passes) and `train` are CPU seconds. `grade`, `update` and `turns`, from turn
    to turn, are wall time. `share` is CPU over wall time of what waits for nobody.
    """

    sample: float
    score: float
    train: float
    grade: float
    share: float
    update: float
    turns: float


def measured(folder: Path, setup: Setup, number: int) -> Measured:
    """Run the job, unless it was run before; its mean batch."""
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
    _run(files, [_arguments(folder, setup, name)] * setup.processes, environment)
    print(f"{setup.name}: done", file=sys.stderr, flush=True)
    lines = _lines(files[0])[1:]
    grade = statistics.fmean(line["grade_seconds"] for line in _lines(folder / name / "metrics.jsonl"))
    return _means(lines, grade, setup.processes)


def _run(files: Sequence[Path], arguments: Sequence[list[str]], environment: dict[str, str]) -> None:
    """A process for each file, to its end; a job that was run before is not run again."""
    if (files[0].parent / files[0].stem.rpartition("-")[0] / "report.html").is_file():
        return
    fork = multiprocessing.get_context("fork")
    running = []
    for rank, file in enumerate(files):
        own = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if environment else {})
        running.append(fork.Process(target=scale_child.run, args=(file, arguments[rank], own)))
        running[-1].start()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        said = files[0].with_suffix(".log").read_text(encoding="utf-8")
        raise SystemExit(f"a job failed:\n{said[-3000:]}")


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


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


def _means(lines: Sequence[dict[str, Any]], grade: float, processes: int) -> Measured:
    def mean(clock: int, plus: Sequence[str], minus: Sequence[str] = ()) -> float:
        return statistics.fmean(
            sum(line[name][clock] for name in plus) - sum(line[name][clock] for name in minus)
            for line in lines
        )

    # Updates of several processes wait for each other.
    alone = (["whole"], ["wait"]) if processes == 1 else (["rollout"], ["wait"])
    return Measured(
        sample=mean(1, ["sample"]),
        score=mean(1, ["rollout"], ["sample", "wait"]) / 2,
        train=mean(1, ["whole"], ["rollout"]),
        grade=grade,
        share=min(1.0, mean(1, *alone) / mean(0, *alone)),
        update=mean(0, ["whole"], ["rollout"]),
        turns=mean(0, ["whole"]),
    )


def predicted(setup: Setup, found: dict[Setup, Measured], share: float) -> float:
    """Seconds of a batch of `setup`, from the calibrations and the share of a core that the job got."""
    small, large = (found[Setup(1, own)] for own in (SMALL, LARGE))
    parts = {
        name: line_through([(SMALL, getattr(small, name)), (LARGE, getattr(large, name))]).at(setup.own)
        for name in ("sample", "score", "train", "grade")
    }
    if setup.processes > 1:
        two = found[Setup(2, SMALL)]
        # What the updates of two processes take beyond the same work in one, in seconds of an undivided core.
        parts["sync"] = max(0.0, two.update * two.share - small.train)
    phases = Phases(**{name: value if name == "grade" else value / share for name, value in parts.items()})
    turns = starts(phases, BATCHES, setup.ahead)
    last = BATCHES - 1
    return (turns[last] - turns[1]) / (last - 1)


CALIBRATIONS = (Setup(1, SMALL), Setup(1, LARGE), Setup(2, SMALL))
PREDICTED = (Setup(1, LARGE, 1), Setup(2, LARGE), Setup(2, LARGE, 1))


def rows(write: bool = False) -> list[Row]:
    """Predicted against measured; with `write` also into docs/scale.md."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_files(FOLDER)
    rounds = [
        {setup: measured(FOLDER, setup, number) for setup in (*CALIBRATIONS, *PREDICTED)}
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
