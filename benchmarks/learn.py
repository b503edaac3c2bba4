"""What rft learns: `python -m benchmarks.learn` (`make learn`).

Runs the real command for seeds 0, 1 and 2 with PPO and with GRPO on the sample task, PPO in two processes too, and with
defaults on a second task of another kind with another base. Checks the figures below on test rows (not used to choose a
checkpoint); --write puts the tables into docs/learning.md. Runs lie under build/learn; finished ones are kept, so that
it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs import Finished, finished, interval, numbered, put_into, run_job
from rft_cli.report.estimates import compare
from rft_cli.types import Estimate

FOLDER = Path("build/learn")
SECOND = Path("build/second")
PAGE = Path("docs/learning.md")
SEEDS = (0, 1, 2)
MOST_COMPLETIONS = 40_000


@dataclass(frozen=True, slots=True)
class Learned:
    """All jobs of the page."""

    ppo: list[Finished]
    grpo: list[Finished]
    two: Finished
    """PPO in two processes."""
    second: list[Finished]


def _job(name: str, arguments: Sequence[str]) -> Finished:
    return finished(run_job(FOLDER, name, arguments))


def sample_task(algorithm: str, seed: int, processes: int = 1) -> Finished:
    data = Path("sample_data")
    return _job(
        f"{algorithm}-{seed}" if processes == 1 else f"{algorithm}-{processes}-processes-{seed}",
        [
            "-t", str(data / "train.jsonl"), "-v", str(data / "val.jsonl"), "--test", str(data / "test.jsonl"),
            "--reward-model", str(data / "scorer.py"), "--algorithm", algorithm, "--seed", str(seed),
            "--num-processes", str(processes),
        ],
    )  # fmt: skip


def second_task(seed: int) -> Finished:
    """Word problems with a 0.5 M Llama base: nothing is set but the files and the model."""
    if not (SECOND / "base" / "config.json").is_file():
        subprocess.run([sys.executable, "-m", "recipes.build_second", "--out", str(SECOND)], check=True)
    return _job(
        f"second-ppo-{seed}",
        [
            "-t", str(SECOND / "train.jsonl"), "-v", str(SECOND / "val.jsonl"), "--test", str(SECOND / "test.jsonl"),
            "--reward-model", str(SECOND / "scorer.py"), "--model", str(SECOND / "base"), "--seed", str(seed),
        ],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """A figure and whether it was reached."""

    what: str
    ok: bool


def checks(learned: Learned) -> list[Check]:
    found = []
    for run in (*learned.ppo, learned.two):
        before, after = run.test("before"), run.test("after")
        right, right_after = run.test("before", "all_correct"), run.test("after", "all_correct")
        found += [
            Check(f"{run.name}: reward {before['mean']:.3f} <= 0.50", before["mean"] <= 0.50),
            Check(f"{run.name}: reward {after['mean']:.3f} >= 0.85", after["mean"] >= 0.85),
            Check(f"{run.name}: all right {right['mean']:.3f} <= 0.30", right["mean"] <= 0.30),
            Check(f"{run.name}: all right {right_after['mean']:.3f} >= 0.70", right_after["mean"] >= 0.70),
            Check(f"{run.name}: intervals apart", before["ci95"][1] < after["ci95"][0]),
            Check(
                f"{run.name}: {run.result['completions_sampled']} completions <= {MOST_COMPLETIONS}",
                run.result["completions_sampled"] <= MOST_COMPLETIONS,
            ),
        ]
    gap = final_gap(learned.ppo, learned.grpo)
    found.append(
        Check(
            f"PPO less GRPO at the end {gap.mean:+.3f} [{gap.ci95[0]:+.3f}, {gap.ci95[1]:+.3f}]: no lower",
            gap.ci95[1] >= 0,
        )
    )
    for run in learned.second:
        before, after = run.test("before"), run.test("after")
        gain = after["mean"] - before["mean"]
        apart = before["ci95"][1] < after["ci95"][0]
        found.append(Check(f"{run.name}: gain {gain:.3f} >= 0.20, intervals apart", gain >= 0.20 and apart))
    return found


def final_gap(ppo: Sequence[Finished], grpo: Sequence[Finished]) -> Estimate:
    """Test reward of PPO's best checkpoint less GRPO's at equal completions, paired over rows and seeds."""
    theirs, ours = (numbered(job.run.read_samples("test-after") for job in jobs) for jobs in (grpo, ppo))
    return compare(theirs, ours).difference


def _test(run: Finished, when: str, component: str | None = None) -> str:
    found = run.test(when, component)
    return interval(found["mean"], found["ci95"])


def tables(learned: Learned) -> str:
    """The generated part of docs/learning.md."""
    lines = [
        "| job | completions | minutes | reward before | reward after | all right before | all right after |",
        "|---|---|---|---|---|---|---|",
        *(_row(run, "all_correct") for run in (*learned.ppo, learned.two, *learned.grpo)),
        *(_row(run, None) for run in learned.second),
        "",
        "Validation reward against completions sampled (200 rows; the mean over seeds 0, 1 and 2):",
        "",
        *_curves("sample task", {"PPO": learned.ppo, "GRPO": learned.grpo}),
        "",
        *_curves("second task", {"PPO": learned.second}),
        "",
        *(f"- {'reached' if c.ok else 'MISSED'}: {c.what}" for c in checks(learned)),
    ]
    return "\n".join(lines)


def _row(run: Finished, component: str | None) -> str:
    cells = [_test(run, when) for when in ("before", "after")]
    cells += ["" if component is None else _test(run, when, component) for when in ("before", "after")]
    minutes = run.result["seconds"] / 60
    return f"| {run.name} | {run.result['completions_sampled']} | {minutes:.1f} | " + " | ".join(cells) + " |"


def _curves(title: str, kinds: dict[str, list[Finished]]) -> list[str]:
    marks = [n for n, _ in next(iter(kinds.values()))[0].curve()]
    lines = [f"| {title} | " + " | ".join(map(str, marks)) + " |", "|---" * (len(marks) + 1) + "|"]
    for name, runs in kinds.items():
        curves = [dict(run.curve()) for run in runs]
        means = [sum(c[m].mean for c in curves) / len(curves) for m in marks]
        lines.append(f"| {name} | " + " | ".join(f"{m:.3f}" for m in means) + " |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE}")
    arguments = parser.parse_args()
    learned = Learned(
        ppo=[sample_task("ppo", seed) for seed in SEEDS],
        grpo=[sample_task("grpo", seed) for seed in SEEDS],
        two=sample_task("ppo", 0, processes=2),
        second=[second_task(seed) for seed in SEEDS],
    )
    text = tables(learned)
    print(text)
    if arguments.write:
        put_into(PAGE, text)
    return 0 if all(c.ok for c in checks(learned)) else 1


if __name__ == "__main__":
    sys.exit(main())
