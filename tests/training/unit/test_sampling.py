"""Sampling for validation: seeded, independent of what came before, cut at the first stop token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from rft_cli.training.rollouts.sampling import SamplingSettings, cut, sample
from rft_cli.training.rollouts.validation import Validator, batches_of_rows
from rft_cli.types import Example, Grade, GradeRequest, Sample, Source
from tests.training import toys

SETTINGS = SamplingSettings(max_new_tokens=6, temperature=1.0, top_p=1.0, stop=(0,), pad=0)
PROMPTS = [[1, 2, 3], [4], [5, 6]]
GREEDY = replace(SETTINGS, max_new_tokens=40, temperature=0.0, stop=(15,))


@pytest.mark.parametrize(
    ("ids", "stop", "expected"),
    [
        ([5, 0, 7], (0,), [5, 0]),
        ([0, 0], (0,), [0]),
        ([5, 7], (0,), [5, 7]),
        ([5, 9, 0], (0, 9), [5, 9]),
        ([], (0,), []),
        ([5, 0], (), [5, 0]),
    ],
)
def test_cut_keeps_the_first_stop_token(ids: list[int], stop: tuple[int, ...], expected: list[int]) -> None:
    assert cut(ids, stop) == expected


def test_the_seed_decides_whatever_was_drawn_before() -> None:
    model = toys.qwen3(head_std=0.1)
    torch.manual_seed(1)
    first = sample(model, PROMPTS, SETTINGS, seed=7)
    torch.rand(100)
    again = sample(model, PROMPTS, SETTINGS, seed=7)
    other = sample(model, PROMPTS, SETTINGS, seed=8)
    assert first == again
    assert first != other


def test_the_callers_random_state_stays() -> None:
    model = toys.qwen3()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    sample(model, PROMPTS, SETTINGS, seed=7)
    assert torch.equal(torch.rand(4), expected)


@torch.no_grad()
def test_greedy_takes_the_likeliest_token_whatever_the_padding() -> None:
    model = toys.qwen3(head_std=0.3)
    settings = replace(SETTINGS, temperature=0.0, stop=(15,))
    completions = sample(model, PROMPTS, settings, seed=1)
    assert completions == sample(model, PROMPTS, settings, seed=2)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        text = list(prompt)
        for token in completion:
            assert int(model(torch.tensor([text])).logits[0, -1].argmax()) == token
            text.append(token)


def test_top_p_leaves_only_the_likeliest() -> None:
    model = toys.qwen3(head_std=0.3)
    greedy = sample(model, PROMPTS, replace(SETTINGS, temperature=0.0), seed=1)
    assert sample(model, PROMPTS, replace(SETTINGS, top_p=0.01), seed=1) == greedy


def test_the_models_own_sampling_defaults_do_not_count() -> None:
    model = toys.qwen3(head_std=0.1)
    expected = sample(model, PROMPTS, SETTINGS, seed=7)
    model.generation_config.update(
        top_k=1, top_p=0.5, temperature=0.1, do_sample=True, repetition_penalty=3.0
    )
    assert sample(model, PROMPTS, SETTINGS, seed=7) == expected


def test_a_model_without_stop_tokens_runs_to_the_limit() -> None:
    completions = sample(toys.qwen3(), PROMPTS, replace(SETTINGS, stop=()), seed=7)
    assert [len(c) for c in completions] == [6, 6, 6]


# -- the validation loop ---------------------------------------------------------------------------------------------


def test_plan_sorts_by_length_and_keeps_repeats_together() -> None:
    batches = batches_of_rows([5, 2, 9, 2], samples_per_prompt=2, batch_size=3)
    assert batches == [[1, 1, 3], [3, 0, 0], [2, 2]]


def test_plan_of_no_rows() -> None:
    assert batches_of_rows([], 1, 8) == []


def validate(batch_size: int, grader: toys.FunctionGrader) -> tuple[list[Sample], list[tuple[int, int]]]:
    prompts = ["w1 w2 w3", "w4", "w5 w6"]
    examples = [Example(f"r{i}", p, {"number": i}, Source("v.jsonl", i + 1)) for i, p in enumerate(prompts)]
    validator = Validator(
        accelerator=Accelerator(cpu=True),
        encoder=toys.encoder_of(),
        grader=grader,
        settings=SETTINGS,
        samples_per_prompt=2,
        batch_size=batch_size,
        seed=5,
    )
    model = toys.qwen3(head_std=0.1).train()
    progress: list[tuple[int, int]] = []
    samples = validator.run(model, examples, lambda done, total: progress.append((done, total)))
    assert model.training
    return samples, progress


def length_of(request: GradeRequest) -> Grade:
    return toys.graded(float(request.metadata["completion_tokens"]))


def test_validation_gives_samples_in_the_order_of_the_rows() -> None:
    grader = toys.FunctionGrader(length_of)
    samples, progress = validate(4, grader)
    assert [s.row for s in samples] == [0, 0, 1, 1, 2, 2]
    assert [s.example_id for s in samples] == ["r0", "r0", "r1", "r1", "r2", "r2"]
    assert [r.fields["number"] for batch in grader.requests for r in batch] == [1, 1, 2, 2, 0, 0]
    assert progress == [(4, 6), (6, 6)]
    for s in samples:
        assert s.grade.reward == s.tokens
        assert s.truncated == (s.tokens == 6 and len(s.completion.split()) == 6)
    assert any(s.truncated for s in samples)
    assert samples == validate(4, toys.FunctionGrader(length_of))[0]


@pytest.mark.parametrize(
    ("endless", "patience", "longest"), [(1, 2.0, 16), (1, 6.0, 20), (1, None, 20), (2, 2.0, 20), (0, 2.0, 3)]
)
def test_few_that_go_on_are_not_waited_for(endless: int, patience: float | None, longest: int) -> None:
    model, passes = toys.qwen3(), []

    def end_the_others_with_the_third(_module: object, _args: object, logits: torch.Tensor) -> torch.Tensor:
        passes.append(1)
        logits[..., 0] = -1e9
        if len(passes) == 3:
            logits[endless:, ..., 0] = 1e9
        return logits

    model.lm_head.register_forward_hook(end_the_others_with_the_third)
    settings = replace(SETTINGS, max_new_tokens=20, patience=patience)
    found = sample(model, [[1, 2]] * 8, settings, seed=1)
    assert [len(ids) for ids in found] == [longest] * endless + [3] * (8 - endless)
    assert len(passes) == longest


def test_rows_that_have_ended_leave_the_batch_and_change_nothing() -> None:
    """Greedy completions are the same with and without; a model that goes on runs with fewer and fewer rows."""
    model, sizes = toys.qwen3(head_std=0.3), []
    prompts = [[1 + n % 7, 2 + n % 5, 3] for n in range(12)]
    whole = sample(model, prompts, GREEDY, seed=1, shrink=False)
    assert len({len(row) for row in whole}) > 1
    model.lm_head.register_forward_hook(lambda _m, _a, logits: sizes.append(logits.size(0)))
    assert sample(model, prompts, GREEDY, seed=1, shrink=True) == whole
    assert sizes[0] == 12
    assert sizes[-1] < 12
