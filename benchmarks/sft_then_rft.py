"""Supervised fine-tuning against reinforcement: `python -m benchmarks.sft_then_rft`.

Runs the real command with the base, sft, ppo, and ppo on top of sft; for each seed and number of training rows all of
them on the same rows, which each seed draws for itself. Everything else is left at its defaults. Prints the curves and
the table of test rows (not used to choose a checkpoint); --write puts them into docs/rft-vs-sft.md under the task's
name. Runs lie under build/sft/TASK; finished ones are kept, so that it can be stopped and started again.

    python -m benchmarks.sft_then_rft --write
    python -m benchmarks.sft_then_rft --task banking --model DIR --train FILE --val FILE --test FILE --scorer FILE \\
        --rows all --write
"""

from __future__ import annotations

import argparse
import random
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs import Finished, interval, put_into, run_job
from rft_cli.report.estimates import compare, estimate
from rft_cli.types import Estimate, Sample

FOLDER = Path("build/sft")
PAGE = Path("docs/rft-vs-sft.md")
SAMPLE = Path("sample_data")
ALL = 0
"""A number of rows: the whole training file."""
SFT, RFT, BOTH = "SFT", "RFT", "SFT, then RFT"


@dataclass(frozen=True, slots=True)
class Task:
    """A model, the files of its task, further flags for each kind of job, and the kinds that are trained."""

    name: str
    model: str
    train: Path
    validation: Path
    test: Path
    scorer: str
    sft: Sequence[str]
    rft: Sequence[str]
    kinds: Sequence[str]

    @property
    def folder(self) -> Path:
        return FOLDER / self.name


@dataclass(frozen=True, slots=True)
class Trained:
    """One job (None where the gate found nothing to learn), and the test samples before and after it."""

    job: Finished | None
    before: list[Sample]
    after: list[Sample]


def rows_of(task: Task, count: int, seed: int) -> Path:
    """The training file with `count` rows that this seed draws."""
    if count == ALL:
        return task.train
    lines = [line for line in task.train.read_text(encoding="utf-8").splitlines() if line.strip()]
    if count > len(lines):
        raise SystemExit(f"{task.train} has {len(lines)} rows, not {count}")
    file = task.folder / f"train-{count}-{seed}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    chosen = lines if count == len(lines) else random.Random(seed).sample(lines, count)
    file.write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")
    return file


def train(
    task: Task,
    name: str,
    count: int,
    seed: int,
    model: str,
    more: Sequence[str],
    before: Sequence[Sample] = (),
) -> Trained:
    """One job with its test samples; `before` where the gate stops it, which leaves the model as it was."""
    job = run_job(
        task.folder,
        name,
        [
            "-t", str(rows_of(task, count, seed)), "-v", str(task.validation), "--test", str(task.test),
            "--reward-model", task.scorer, "--model", model, "--seed", str(seed), *more,
        ],
        may_stop=True,
    )  # fmt: skip
    if job is None:
        return Trained(None, list(before), list(before))
    base = job.run.read_samples("test-before")
    return Trained(
        job, base, job.run.read_samples("test-after") if job.run.has_samples("test-after") else base
    )


Seeds = dict[str, list[Trained]]
"""Each kind of job with one job for every seed."""


def of_rows(task: Task, count: int, seeds: Sequence[int]) -> Seeds:
    """All jobs on `count` rows."""
    found: Seeds = {kind: [] for kind in task.kinds}
    for seed in seeds:
        end = f"{count or 'all'}-{seed}"
        taught = train(task, f"sft-{end}", count, seed, task.model, ["--algorithm", "sft", *task.sft])
        found[SFT].append(taught)
        if RFT in task.kinds:
            found[RFT].append(train(task, f"rft-{end}", count, seed, task.model, task.rft, taught.before))
        model = task.model if taught.job is None else str(taught.job.run.path)
        found[BOTH].append(train(task, f"both-{end}", count, seed, model, task.rft, taught.after))
    return found


def together(jobs: Sequence[Trained], when: str) -> list[Sample]:
    """The test samples of all seeds: a row's mean is over the seeds, and intervals are over rows."""
    return [sample for trained in jobs for sample in getattr(trained, when)]


def tables(task: Task, counts: Sequence[int], seeds: Sequence[int]) -> str:
    """What was measured, as Markdown."""
    every = {count: of_rows(task, count, seeds) for count in counts}
    lines = [
        f"Model `{task.model}`, seeds {', '.join(map(str, seeds))}.",
        "",
        f"| training rows | base | {' | '.join([*task.kinds, *_differences(task)])} |",
        "|---" * (2 + len(task.kinds) + len(_differences(task))) + "|",
        *(_row(task, count, jobs) for count, jobs in every.items()),
        "",
        "| training rows | job | minutes | rows or completions to train on | nothing to learn |",
        "|---|---|---|---|---|",
        *(_cost(task, count, kind, jobs[kind]) for count, jobs in every.items() for kind in jobs),
        "",
        "Validation reward on the way, the mean over seeds:",
        "",
    ]
    for count, jobs in every.items():
        for kind, runs in jobs.items():
            lines += _curve(f"{kind}, {_named(task, count)} rows", kind, runs)
    return "\n".join(lines).rstrip()


def _named(task: Task, count: int) -> int:
    return count or sum(1 for line in task.train.read_text(encoding="utf-8").splitlines() if line.strip())


def _differences(task: Task) -> list[str]:
    return [f"{BOTH}, less {kind}" for kind in task.kinds if kind != BOTH]


def _row(task: Task, count: int, jobs: Seeds) -> str:
    after = {kind: together(runs, "after") for kind, runs in jobs.items()}
    cells = [_interval(estimate(together(jobs[SFT], "before")))]
    cells += [_interval(estimate(samples)) for samples in after.values()]
    others = [kind for kind in task.kinds if kind != BOTH]
    cells += [_interval(compare(after[kind], after[BOTH]).difference, "+") for kind in others]
    return f"| {_named(task, count)} | {' | '.join(cells)} |"


def _interval(found: Estimate, sign: str = "") -> str:
    return interval(found.mean, found.ci95, sign)


def _cost(task: Task, count: int, kind: str, jobs: Sequence[Trained]) -> str:
    done = [trained.job for trained in jobs if trained.job is not None]
    minutes = sum(job.result["seconds"] for job in done) / 60 / max(1, len(done))
    mean = sum(job.curve()[-1][0] for job in done) / max(1, len(done))
    stopped = len(jobs) - len(done)
    return f"| {_named(task, count)} | {kind} | {minutes:.1f} | {mean:,.0f} | {stopped} of {len(jobs)} |"


def _curve(title: str, kind: str, jobs: Sequence[Trained]) -> list[str]:
    curves = [dict(trained.job.curve()) for trained in jobs if trained.job is not None]
    if not curves:
        return []
    marks = [mark for mark in curves[0] if all(mark in curve for curve in curves)]
    unit = "rows" if kind == SFT else "completions"
    means = [sum(curve[mark].mean for curve in curves) / len(curves) for mark in marks]
    return [
        f"| {title}: {unit} | " + " | ".join(f"{mark:,}" for mark in marks) + " |",
        "|---" * (len(marks) + 1) + "|",
        "| reward | " + " | ".join(f"{mean:.3f}" for mean in means) + " |",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="sample", help="its name: folder, and heading of the page")
    parser.add_argument("--model", default="builtin/tiny")
    parser.add_argument("--train", type=Path, default=SAMPLE / "train.jsonl")
    parser.add_argument("--val", type=Path, default=SAMPLE / "val.jsonl")
    parser.add_argument("--test", type=Path, default=SAMPLE / "test.jsonl")
    parser.add_argument("--scorer", default=str(SAMPLE / "scorer.py"))
    parser.add_argument(
        "--rows", nargs="+", default=["8", "16", "48"], help="numbers of training rows, or all"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sft", default="", help="further flags of the sft jobs, in one piece")
    parser.add_argument("--rft", default="", help="further flags of the ppo jobs, in one piece")
    parser.add_argument("--without-rft", action="store_true", help="leave out RFT alone, the longest jobs")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE}")
    given = parser.parse_args()
    task = Task(
        given.task,
        given.model,
        given.train,
        given.val,
        given.test,
        given.scorer,
        shlex.split(given.sft),
        shlex.split(given.rft),
        (SFT, BOTH) if given.without_rft else (SFT, RFT, BOTH),
    )
    counts = [ALL if count == "all" else int(count) for count in given.rows]
    text = tables(task, counts, given.seeds)
    print(text)
    if given.write:
        put_into(PAGE, text, f"figures: {task.name}")


if __name__ == "__main__":
    main()
