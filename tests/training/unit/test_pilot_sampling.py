"""How many completions a pilot samples, with which limit, and when it goes on: a toy model and a grader in-process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rft_cli.config import RunConfig
from rft_cli.errors import RunFailed
from rft_cli.events import Event, Note, Progress
from rft_cli.job import Job
from rft_cli.stopping import Stop
from rft_cli.training.auto import LengthLimits
from rft_cli.training.context import JobContext
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.pilot_sampling import PilotSampler
from rft_cli.types import Grade, GradeError, GradeRequest
from tests.training.toys import FunctionGrader, example, graded, qwen3, tokenizer_of

LIMITS = LengthLimits(context=128, longest_prompt=28)


def waves(
    grade: Callable[[GradeRequest], Grade], rows: int = 16, model: Any = None, **sections: Any
) -> tuple[PilotSampler, list[Event], list[list[int]]]:
    """A pilot that has run; its events; of each wave the tokens of its completions."""
    config = RunConfig.model_validate({"pilot": {"prompts": 4}, "rollout": {"group_size": 4}, **sections})
    grader: Any = FunctionGrader(grade)
    events: list[Event] = []
    data: Any = None
    job = Job(config, data, data)
    context = JobContext(job, tokenizer_of(16), LIMITS, grader, events.append, Stop())
    found = PilotSampler(context, model or qwen3(), temperature=0.7)
    found.run([example(number, f"w1 w2 w{number % 15 + 1}") for number in range(rows)])
    lengths = [[r.metadata["completion_tokens"] for r in requests] for requests in grader.requests]
    return found, events, lengths


def never_ending() -> Any:
    """A model that gives the token which ends completions no chance."""
    model = qwen3()

    def forbid(_module: Any, _args: Any, logits: torch.Tensor) -> torch.Tensor:
        logits[..., 0] = -1e9
        return logits

    model.lm_head.register_forward_hook(forbid)
    return model


def by_length(request: GradeRequest) -> Grade:
    return graded(float(request.metadata["completion_tokens"]))


def test_first_one_completion_a_prompt_then_the_rest_with_what_was_found() -> None:
    found, events, lengths = waves(by_length)
    assert list(map(len, lengths)) == [4, 12]
    ended = sorted(n for n in lengths[0] if n < 100)
    assert len(ended) >= 1
    assert max(lengths[1]) <= max(64, 2 * ended[-1])
    samples = found.sampled.samples
    assert sorted({s.row for s in samples}) == sorted({s.row for s in samples[:4]})
    assert all(sum(s.row == row for s in samples) == 4 for row in {s.row for s in samples})
    assert found.sampled.timed == 12
    assert events[-1] == Progress("pilot", 16, 16)


def test_the_same_pilot_twice_and_random_numbers_left_alone() -> None:
    before = torch.get_rng_state()
    one, two = (waves(by_length)[0].sampled.samples for _ in range(2))
    assert [(s.row, s.completion) for s in one] == [(s.row, s.completion) for s in two]
    assert bool((torch.get_rng_state() == before).all())


def test_a_limit_that_was_chosen_takes_one_wave() -> None:
    found, _, lengths = waves(by_length, rollout={"group_size": 4, "max_completion_tokens": 5})
    assert list(map(len, lengths)) == [16]
    assert max(lengths[0]) == 5
    assert found.limit().value == found.widest == 5


def test_further_prompts_are_answered_while_no_rewards_differ() -> None:
    found, _, lengths = waves(lambda _: graded(0.0))
    assert list(map(len, lengths)) == [4, 12, 16, 16, 16]
    assert len({s.row for s in found.sampled.samples}) == 16
    assert list(map(len, waves(lambda _: graded(0.0), rows=6)[2])) == [4, 12, 8]
    _, _, lengths = waves(lambda _: graded(0.0), pilot={"prompts": 4, "gate": "none"})
    assert list(map(len, lengths)) == [4, 12]


def test_a_model_that_never_ends_is_asked_for_less() -> None:
    found, _, lengths = waves(lambda _: graded(0.0), model=never_ending())
    assert [set(wave) for wave in lengths] == [{100}, {100}]  # the generous limit, within the context
    assert list(map(len, lengths)) == [4, 3]  # a quarter of the prompts gets its group
    assert found.limit().reason.startswith(
        "max completion 100 tokens: 0 of 7 completions ended by themselves; context 128, longest prompt 28"
    )


def test_too_many_failures_end_it() -> None:
    failed = Grade("failed", error=GradeError("raised", "out of order"))
    with pytest.raises(RunFailed, match=r"100% of the last 64 grades failed[\s\S]*out of order"):
        waves(lambda _: failed, pilot={"prompts": 16})


def test_a_reward_too_large_to_train_on_is_a_failed_grade() -> None:
    samples = waves(lambda _: graded(1e300))[0].sampled.samples
    assert {s.grade.status for s in samples} == {"failed"}


def test_memory_that_runs_out_makes_the_batches_smaller_once() -> None:
    model = qwen3()
    rows: list[int] = []

    def refuse(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows.append(len(kwargs["input_ids"]))
        if rows[-1] > 5:
            raise torch.OutOfMemoryError("out of memory")

    backbone_of(model).register_forward_pre_hook(refuse, with_kwargs=True)
    _, events, lengths = waves(lambda _: graded(0.0), rows=8, model=model)
    assert sum(map(len, lengths)) == 4 + 12 + 16
    assert sum(n > 5 for n in rows) == 2
    assert [e.text for e in events if isinstance(e, Note)] == [
        "pilot: 12 completions at a time do not fit into memory, now 6",
        "pilot: 6 completions at a time do not fit into memory, now 3",
    ]
