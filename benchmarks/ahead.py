"""What `rollout.ahead: 1` saves where the grader is slow, and whether the model learns as much.

Time: the sample task, whose scorer sleeps 0.2 s for each completion, with as many workers as make grading take as long
as sampling and updates; training alone counts, without start and validations. Both sides are run in turn.

`--learn` compares the learning instead: seeds 0, 1 and 2 of the sample task with the fast scorer, test rows before and
after, into docs/learning.md. Finished jobs are kept under build/ahead.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Row, main
from benchmarks.jobs import Finished, finished, interval, numbered, put_into, run_job
from rft_cli.report.estimates import compare
from rft_cli.report.facts import batches_of, grade_wait

DATA = Path("sample_data").absolute()
PAGE = Path("docs/learning.md")
FOLDER = Path("build/ahead")
SLEEP_S = 0.2
COMPLETIONS = 64
BATCHES = 16
PAIRS = 2
LIMIT = 0.65
SEEDS = (0, 1, 2)
LEARNED = 64
"""Steps of a learning job: 2,048 completions."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A job's training: wall seconds, how many of them it waited for grades, CPU seconds of all of its processes."""

    wall: float
    waited: float
    cpu: float


def timed(folder: Path, name: str, ahead: int, workers: int, batches: int = BATCHES) -> Timed:
    """Train on the slow scorer; the clock is metrics.jsonl's."""
    settings = {
        "rollout.ahead": ahead, "rollout.group_size": 8, "rollout.prompts_per_batch": COMPLETIONS // 8,
        "optim.max_steps": 4 * batches, "grader.workers": workers, "grader.audit": "none", "pilot.prompts": 0,
        "validation.every_epochs": 999, "rollout.max_completion_tokens": 8,
    }  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    job = finished(
        run_job(
            folder,
            name,
            [
                *("-t", str(DATA / "train.jsonl"), "-v", str(folder / "val.jsonl")),
                *("--reward-model", str(folder / "slow.py")),
                *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
            ],
        )
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [*job.run.metrics()]
    return Timed(
        sum(line["step_seconds"] for line in lines),
        sum(grade_wait(batch[0]) or 0.0 for batch in batches_of(lines)),
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def write_files(folder: Path) -> None:
    """The slow scorer, and few validation rows."""
    text = (DATA / "scorer.py").read_text(encoding="utf-8")
    text = text.replace("import json\n", "import json\nimport time\n", 1)
    marker = '    expected = json.loads(example["output"])\n'
    assert marker in text
    (folder / "slow.py").write_text(
        text.replace(marker, f"    time.sleep({SLEEP_S})\n{marker}"), encoding="utf-8"
    )
    rows = (DATA / "val.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "val.jsonl").write_text("".join(rows[:8]), encoding="utf-8")


def rows(learn: bool = False) -> list[Row]:
    """The ratios of time; with `learn` that of what was learned."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return learning() if learn else times()


def times() -> list[Row]:
    """Training time with a batch ahead over that without, pairs in turn."""
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        write_files(folder)
        first = timed(folder, "calibration", 0, 8, batches=2)
        own = (first.wall - first.waited) / 2
        workers = max(1, round(COMPLETIONS * SLEEP_S / own))
        pairs: list[dict[int, Timed]] = []
        for turn in range(PAIRS):
            order = (0, 1) if turn % 2 else (1, 0)
            pairs.append({ahead: timed(folder, f"{turn}-{ahead}", ahead, workers) for ahead in order})
    wall, waited, cpu = (
        [[getattr(pair[ahead], name) for pair in pairs] for ahead in (0, 1)]
        for name in ("wall", "waited", "cpu")
    )
    detail = (
        f"{statistics.median(wall[1]):.1f} s (of it waited for grades {statistics.median(waited[1]):.1f}) against "
        f"{statistics.median(wall[0]):.1f} ({statistics.median(waited[0]):.1f}); {BATCHES} batches of {COMPLETIONS}, "
        f"{workers} workers, {PAIRS} pairs: " + ", ".join(f"{b / a:.2f}" for a, b in zip(*wall, strict=True))
    )
    return [
        Row("training with a grader of 0.2 s, ahead 1 / 0", _ratio(wall), LIMIT, "lower", detail),
        Row(
            "the same, CPU seconds of the command", _ratio(cpu), 1.1, "lower",
            f"{statistics.median(cpu[1]):.1f} s against {statistics.median(cpu[0]):.1f}",
        ),
    ]  # fmt: skip


def _ratio(sides: Sequence[Sequence[float]]) -> float:
    return float(statistics.median(b / a for a, b in zip(*sides, strict=True)))


def learning() -> list[Row]:
    """The tuned models' reward on the test rows, paired by row and seed."""
    jobs: dict[int, list[Finished]] = {0: [], 1: []}
    for seed, ahead in itertools.product(SEEDS, (0, 1)):
        jobs[ahead].append(_learned(ahead, seed))
    lines = [
        "| `rollout.ahead` | seed | reward before | reward after | all right after |",
        "|---|---|---|---|---|",
    ]
    for (ahead, found), (number, seed) in itertools.product(jobs.items(), enumerate(SEEDS)):
        job = found[number]
        cells = (job.test("before"), job.test("after"), job.test("after", "all_correct"))
        shown = (interval(cell["mean"], cell["ci95"]) for cell in cells)
        lines.append(f"| {ahead} | {seed} | {' | '.join(shown)} |")
    curves = {ahead: [job.curve() for job in found] for ahead, found in jobs.items()}
    sampled = [str(completions) for completions, _ in curves[0][0]]
    lines += [
        "",
        f"| validation reward, mean of the seeds | {' | '.join(sampled)} |",
        "|---" * (len(sampled) + 1) + "|",
    ]
    for ahead, drawn in curves.items():
        means = [
            statistics.fmean(estimate.mean for _, estimate in point) for point in zip(*drawn, strict=True)
        ]
        lines.append(f"| `rollout.ahead: {ahead}` | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    samples = {
        ahead: numbered(job.run.read_samples("test-after") for job in found) for ahead, found in jobs.items()
    }
    gain = compare(samples[0], samples[1]).difference
    verdict = f"Ahead less not ahead, paired by test row and seed: {interval(gain.mean, gain.ci95, '+')}."
    put_into(PAGE, "\n".join([*lines, "", verdict]), "figures: a batch sampled ahead")
    print(json.dumps({"difference": gain.mean, "ci95": list(gain.ci95)}), file=sys.stderr)
    after = [statistics.fmean(job.test("after")["mean"] for job in jobs[ahead]) for ahead in (0, 1)]
    return [Row("reward on test rows, ahead 1 / 0", after[1] / after[0], 0.98, "higher", verdict)]


def _learned(ahead: int, seed: int) -> Finished:
    return finished(
        run_job(
            FOLDER,
            f"{ahead}-{seed}",
            [
                *(
                    "-t",
                    str(DATA / "train.jsonl"),
                    "-v",
                    str(DATA / "val.jsonl"),
                    "--test",
                    str(DATA / "test.jsonl"),
                ),
                *("--reward-model", str(DATA / "scorer.py"), "--seed", str(seed)),
                *("--set", f"rollout.ahead={ahead}", "--set", f"optim.max_steps={LEARNED}"),
            ],
        )
    )


if __name__ == "__main__":
    main(rows, learn="compare what is learned, into docs/learning.md")
