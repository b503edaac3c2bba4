"""The model behind docs/scale.md, in numbers small enough to check by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.pipeline_model import Gpu, Phases, Work, batch_seconds, limit, line_through, on_gpus, starts

QUICK = Phases(sample=2.0, score=1.0, grade=5.0, train=4.0)


def test_without_a_batch_ahead_grading_hides_behind_scoring_alone() -> None:
    # Sampled at 2, scored twice until 4, graded at 7, trained until 11.
    assert starts(QUICK, 2, ahead=0) == [0.0, 11.0, 22.0]


def test_with_a_batch_ahead_grading_hides_behind_the_batch_before() -> None:
    # Batches 0 and 1 are sampled and scored until 6, graded at 7 and 12; trained on until 11, 19 and 24.
    assert starts(QUICK, 3, ahead=1) == [0.0, 11.0, 19.0, 24.0]
    assert batch_seconds(QUICK, ahead=1) == 8.0


def test_a_grader_that_is_slower_than_all_else_is_the_pace() -> None:
    slow = replace(QUICK, grade=20.0)
    assert batch_seconds(slow, ahead=1) == 20.0
    assert limit(slow, ahead=1) == "the grader"
    assert limit(QUICK, ahead=1) == "updates"


@pytest.mark.parametrize(("ahead", "seconds"), [(0, 11.5), (1, 8.5)])
def test_synchronising_adds_to_the_updates(ahead: int, seconds: float) -> None:
    assert batch_seconds(replace(QUICK, sync=0.5), ahead) == seconds


def test_the_line_through_two_sizes() -> None:
    line = line_through([(32, 5.0), (64, 8.0)])
    assert line.at(128) == 14.0
    # No time is below 0, and more completions take no less.
    assert line_through([(32, 2.0), (64, 8.0)]).at(0) == 0.0
    assert line_through([(32, 5.0), (64, 4.0)]).at(128) == 5.0


def test_a_decoding_step_reads_all_weights_however_few_completions_there_are() -> None:
    gpu = Gpu(flops=1e12, memory_bytes_s=1e10, link_bytes_s=1e9, compute_share=0.5, memory_share=0.5)
    work = Work(
        parameters=1e9, trained=1e6, completions=8, prompt=0, tokens=10, passes=1, minibatches=1, grade_s=1.0,
        graders=4, graders_a_gpu=False,
    )  # fmt: skip
    one, eight = on_gpus(work, gpu, 1), on_gpus(work, gpu, 8)
    # 2 GB at 5 GB/s for each of 10 tokens.
    assert one.sample == eight.sample == pytest.approx(4.0)
    # 2e9 operations a token, 80 tokens, 5e11 a second.
    assert one.score == pytest.approx(0.32)
    assert eight.score == pytest.approx(0.04)
    # Backward, an adapter's is as long as forward.
    assert one.train == pytest.approx(0.64)
    assert one.grade == eight.grade == 2.0
    assert on_gpus(replace(work, graders_a_gpu=True), gpu, 8).grade == 0.25
    assert one.sync == 0.0
    # 4 bytes a weight, out and back, seven eighths of them.
    assert eight.sync == pytest.approx(0.007)
