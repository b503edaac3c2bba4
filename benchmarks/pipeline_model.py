"""How long a rollout batch takes: sampling, scoring, grading, updates and their synchronisation, put together.

Pure functions of seconds; `benchmarks/scale.py` measures or assumes what goes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of one process for its part of a rollout batch; `score` is one of two passes, the policy's or the
    reference's. `sync` is what the updates wait for other processes, over all steps of the batch."""

    sample: float
    score: float
    grade: float
    train: float
    sync: float = 0.0


def starts(phases: Phases, batches: int, ahead: int) -> list[float]:
    """The times at which each batch's turn comes, and the end of the job: what `rollout_batches.py` does, in its order.

    A batch is sampled, handed to the grader, then scored under the policy. When its turn comes, batches ahead are
    sampled first, then it is scored under the reference, its grades are awaited, and it is trained on.
    """
    clock = grader_free = 0.0
    graded: list[float] = []
    turns = []
    for number in range(batches):
        turns.append(clock)
        while len(graded) <= min(number + ahead, batches - 1):
            clock += phases.sample
            grader_free = max(grader_free, clock) + phases.grade
            graded.append(grader_free)
            clock += phases.score
        clock = max(clock + phases.score, graded[number]) + phases.train + phases.sync
    return [*turns, clock]


def batch_seconds(phases: Phases, ahead: int) -> float:
    """Seconds from one batch's turn to the next, once the pipeline runs evenly."""
    turns = starts(phases, 40, ahead)
    return (turns[38] - turns[18]) / 20


def limit(phases: Phases, ahead: int) -> str:
    """What takes most of the time of a batch; waiting for grades is the grader's."""
    own = {
        "sampling": phases.sample,
        "scoring": 2 * phases.score,
        "updates": phases.train,
        "synchronising": phases.sync,
    }
    parts = {**own, "the grader": batch_seconds(phases, ahead) - sum(own.values())}
    return max(parts, key=parts.__getitem__)


@dataclass(frozen=True, slots=True)
class Line:
    """`fixed + each * n`."""

    fixed: float
    each: float

    def at(self, n: float) -> float:
        return self.fixed + self.each * n


def line_through(points: Sequence[tuple[float, float]]) -> Line:
    """The line through two points `(n, seconds)`; never falling, never below 0 at 0."""
    (a, low), (b, high) = points
    each = max(0.0, (high - low) / (b - a))
    fixed = max(0.0, low - each * a)
    return Line(fixed, each if fixed else high / b)


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a data sheet says, and the shares of it that are assumed to be reached."""

    flops: float
    memory_bytes_s: float
    link_bytes_s: float
    compute_share: float
    memory_share: float


@dataclass(frozen=True, slots=True)
class Work:
    """A job on GPUs: a model of `parameters` in 16 bits with an adapter of `trained` weights, batches of `completions`
    of `prompt` + `tokens` tokens, `passes` x `minibatches` steps each, graded in `grade_s` by `graders` at a time."""

    parameters: float
    trained: float
    completions: int
    prompt: int
    tokens: int
    passes: int
    minibatches: int
    grade_s: float
    graders: int
    graders_a_gpu: bool


def on_gpus(work: Work, gpu: Gpu, gpus: int) -> Phases:
    """Phases from arithmetic and bytes: a decoding step reads all weights, however few completions it serves.

    2 operations a parameter and token forward, 4 more backward (2 where only an adapter is trained).
    """
    own = work.completions / gpus
    reached = gpu.flops * gpu.compute_share
    forward = 2 * work.parameters * own * (work.prompt + work.tokens) / reached
    weights_s = 2 * work.parameters / (gpu.memory_bytes_s * gpu.memory_share)
    decode = work.tokens * max(weights_s, 2 * work.parameters * own / reached)
    backward = forward * (1 if work.trained < work.parameters else 2)
    steps = work.passes * work.minibatches
    ring = 0.0 if gpus == 1 else steps * 2 * 4 * work.trained * (gpus - 1) / gpus / gpu.link_bytes_s
    graders = work.graders * (gpus if work.graders_a_gpu else 1)
    return Phases(
        sample=decode + forward * work.prompt / (work.prompt + work.tokens),
        score=forward,
        grade=work.completions * work.grade_s / graders,
        train=work.passes * (forward + backward),
        sync=ring,
    )
