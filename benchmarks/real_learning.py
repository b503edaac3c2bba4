"""PPO against GRPO and RLOO, rft's and TRL 1.16's own, on a real model: `python -m benchmarks.real_learning`.

    python -m benchmarks.real_learning --model DIR --train FILE --val FILE --test FILE --scorer FILE [--write]

PPO runs with the defaults. The others first run seed 0 at each learning rate of a small grid for a part of the
completions (--choose-at); the rate with the highest validation reward then runs all seeds to the end, as PPO does.
Prints rewards on the test rows (not used to choose a rate or a checkpoint), how the answers spread, and PPO less each
other, paired by row and seed. --jobs names the kinds to run. Runs lie under build/real; finished ones are kept.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.jobs import finished, interval, numbered, put_into, run_job
from rft_cli.report.collapse import repetition_of
from rft_cli.report.estimates import compare, estimate
from rft_cli.types import Sample

FOLDER = Path("build/real")
PAGE = Path("docs/learning.md")
MARK = "real model"
PPO, TRL = "ppo", "trl"
KINDS = (PPO, "grpo", "rloo", TRL)


@dataclass(frozen=True, slots=True)
class Task:
    """A model, the files of its task, and settings that every job gets."""

    model: str
    train: str
    validation: str
    test: str
    scorer: str
    settings: Sequence[str]

    def config(self, seed: int, settings: Sequence[str]) -> str:
        """The same job as a JSON configuration, for TRL's trainer."""
        found: dict[str, Any] = {
            "seed": seed,
            "model": {"path": self.model},
            "data": {"train": self.train, "validation": self.validation},
            "grader": {"path": self.scorer},
        }
        for setting in (*self.settings, *settings):
            key, value = setting.split("=", 1)
            group, name = key.split(".")
            found.setdefault(group, {})[name] = json.loads(value)
        return json.dumps(found)


@dataclass(frozen=True, slots=True)
class Trained:
    """The samples of a tuned model's last or best checkpoint; `completions` sampled in training."""

    samples: list[Sample]
    completions: int


def rft(task: Task, name: str, seed: int, settings: Sequence[str], rows: str) -> Trained:
    """A job of `rft create`, measured on its `rows`: "test" or "validation"."""
    test = ["--test", task.test] if rows == "test" else []
    words = [word for setting in (*task.settings, *settings) for word in ("--set", setting)]
    job = finished(
        run_job(
            FOLDER,
            name,
            [
                "-t", task.train, "-v", task.validation, *test, "--reward-model", task.scorer, "--model", task.model,
                "--seed", str(seed), *words,
            ],
        )
    )  # fmt: skip
    kept = "test-after" if rows == "test" else f"step-{job.run.validated_steps()[-1]:06d}"
    return Trained(job.run.read_samples(kept), job.result["completions_sampled"])


def trl(task: Task, name: str, seed: int, settings: Sequence[str], rows: str) -> Trained:
    """TRL's GRPOTrainer with the same settings, its last model measured by `rft validate`."""
    model, log, measured = FOLDER / name, FOLDER / f"{name}.log", FOLDER / f"{name}.json"
    if not measured.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "benchmarks.trl_grpo",
            task.config(seed, settings),
            "--out",
            str(model),
        ]
        print(f"{name}: {shlex.join(command[1:])}", file=sys.stderr, flush=True)
        with log.open("wb") as out:
            subprocess.run(command, stdout=out, check=True)
        file = task.test if rows == "test" else task.validation
        words = [word for setting in task.settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "rft_cli", "validate", "--model", str(model), "-v", file, "--json"]
        more = ["--reward-model", task.scorer, "--output-dir", str(FOLDER), "--set", "pilot.prompts=0"]
        done = subprocess.run([*command, *more, *words], stdout=subprocess.PIPE, check=True)
        measured.write_bytes(done.stdout)
    (file,) = json.loads(measured.read_text(encoding="utf-8"))["completions"]
    lines = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    samples = [
        Sample.from_json({**line["sample"], "completion": line["completion"], "grade": line["grade"]})
        for line in lines
    ]
    printed = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return Trained(samples, printed[-1]["completions"])


def train(task: Task, kind: str, seed: int, rate: float | None, rows: str, steps: int | None) -> Trained:
    """One job: PPO or another algorithm of rft's, or TRL's GRPO."""
    settings = [] if rate is None else [f"optim.learning_rate={rate}"]
    settings += [] if steps is None else [f"optim.max_steps={steps}"]
    name = "-".join(
        [kind, *([] if rate is None else [f"{rate:g}"]), *([] if steps is None else [f"{steps}-steps"])]
    )
    if kind == TRL:
        return trl(task, f"{name}-{seed}", seed, settings, rows)
    return rft(task, f"{name}-{seed}", seed, [*settings, f"algorithm={kind}"], rows)


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind: its rate (None: the default), validation reward by rate at the choice, and a job for each seed."""

    kind: str
    rate: float | None
    tried: dict[float, float]
    seeds: list[Trained]


def measure(task: Task, kind: str, rates: Sequence[float], seeds: Sequence[int], steps: int) -> Measured:
    """Choose the rate (PPO keeps the default), then train every seed."""
    tried: dict[float, float] = {}
    if kind != PPO:
        for rate in rates:
            tried[rate] = estimate(train(task, kind, 0, rate, "validation", steps).samples).mean
    best = max(tried, key=tried.__getitem__) if tried else None
    return Measured(kind, best, tried, [train(task, kind, seed, best, "test", None) for seed in seeds])


def tables(found: Sequence[Measured], seeds: Sequence[int]) -> str:
    """What was measured, as Markdown."""
    lines = [
        "| job | rate | validation reward by rate | seed | completions | test reward | distinct, most frequent |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        tried = ", ".join(f"{rate:g}: {mean:.3f}" for rate, mean in one.tried.items())
        rate = "default" if one.rate is None else f"{one.rate:g}"
        for seed, job in zip(seeds, one.seeds, strict=True):
            answers, reward = repetition_of(job.samples), estimate(job.samples)
            assert answers is not None
            spread = f"{answers.distinct} of {answers.n}, {answers.share:.0%}"
            cells = [one.kind, rate, tried, seed, job.completions, interval(reward.mean, reward.ci95), spread]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    samples = {one.kind: numbered(job.samples for job in one.seeds) for one in found}
    for kind in [kind for kind in samples if kind != PPO and PPO in samples]:
        gap = compare(samples[kind], samples[PPO]).difference
        lines += ["", f"PPO less {kind}, paired by row and seed: {interval(gap.mean, gap.ci95, '+')}."]
    return "\n".join(lines)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--train", "--val", "--test", "--scorer"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--rates", nargs="+", type=float, default=[3e-4, 6e-4, 1e-3])
    parser.add_argument(
        "--choose-at", type=int, default=40, help="optimizer steps after which a rate is chosen"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], help="a setting of every job, KEY=JSON")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    given = parser.parse_args()
    task = Task(given.model, given.train, given.val, given.test, given.scorer, given.set)
    found = [measure(task, kind, given.rates, given.seeds, given.choose_at) for kind in given.jobs]
    text = tables(found, given.seeds)
    print(text)
    if given.write:
        put_into(PAGE, text, MARK)


if __name__ == "__main__":
    main()
