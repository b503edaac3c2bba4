"""A judge as the reward of training: what it gives, and how a spent budget ends the job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import RunFailed
from rft_cli.grading.open import open_grader
from rft_cli.grading.protocol import Grader
from rft_cli.training.rollouts.rewards import GradedBatch, GraderReward
from rft_cli.types import Example, Source
from tests.grading.judge.servers import MODEL, Act, JudgeServer, completion, settings_of, verdict
from tests.training import toys

STOP = 0


SPEC = {
    "type": "score_model",
    "name": "quality",
    "model": MODEL,
    "input": [{"role": "user", "content": "{{ item.question }} {{ sample.output_text }}"}],
}


@pytest.fixture
def open_judge(server: JudgeServer, tmp_path: Path) -> Iterator[Callable[[], Grader]]:
    with ExitStack() as opened:

        def open_it() -> Grader:
            settings = settings_of(server, tmp_path, api_key_env="none", max_tokens=500, concurrency=1)
            return opened.enter_context(open_grader(GraderConfig(spec=SPEC, judge=settings), log_path=None))

        yield open_it


def test_a_spent_budget_ends_training_between_batches(
    server: JudgeServer, open_judge: Callable[[], Grader]
) -> None:
    """120 tokens a request: two batches of two are 480 of 500, in the third it ends."""
    server.acts = [Act(body=verdict(0.25)), Act(body=completion("hm"))]
    rows = [Example(f"r{n}", "1+1?", {"question": f"{n}+1?"}, Source("t.jsonl", n + 1)) for n in range(6)]
    reward = GraderReward(open_judge(), rows, [STOP], toys.encoder_of())
    kept: list[GradedBatch] = []
    reward.on_graded = kept.append

    def train_on(*row: int) -> list[float | None]:
        reward.current = reward.start(row, ["2", "2"], [[5, STOP]] * 2)
        return reward()

    assert train_on(0, 1) == [0.25, None]  # a verdict that can't be read is no reward: masked out
    assert train_on(2, 3) == [0.5, 0.5]
    with pytest.raises(
        RunFailed, match="the judge's budget is spent: 5 requests, 500 tokens read, 100 written"
    ):
        train_on(4, 5)
    # Only batches that were graded whole are recorded.
    assert [[sample.row for sample in batch.samples] for batch in kept] == [[0, 1], [2, 3]]
    assert reward.last is kept[-1]
    # A job that goes on samples the same completions: what was paid for is in the cache.
    server.seen.clear()
    again = GraderReward(open_judge(), rows, [STOP], toys.encoder_of())
    again.current = again.start((4, 5), ["2"] * 2, [[5, STOP]] * 2)
    assert again() == [0.5, 0.5]
    assert len(server.seen) == 1
