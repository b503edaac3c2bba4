"""Every auto rule: the value it gives, the reason it prints, and that a user's own value passes through in silence."""

from __future__ import annotations

import pytest

from rft_cli.training import auto
from rft_cli.training.auto import BatchSizes, Chosen, LengthLimits, SeenLengths


@pytest.mark.parametrize(
    ("setting", "parameters", "expected"),
    [
        ("auto", 1_000_000, Chosen(False, "full fine-tuning: 1.0 M parameters, at most 100 M")),
        ("auto", 100_000_000, Chosen(False, "full fine-tuning: 100.0 M parameters, at most 100 M")),
        ("auto", 494_000_000, Chosen(True, "LoRA: 494.0 M parameters, over 100 M")),
        (True, 1_000_000, Chosen(True)),
        (False, 7_000_000_000, Chosen(False)),
    ],
)
def test_use_lora(setting: bool | str, parameters: int, expected: Chosen[bool]) -> None:
    assert auto.use_lora(setting, parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "lora", "rate"),
    [
        (200_000, False, 2e-4),  # no higher below 1 M
        (1_000_000, False, 2e-4),
        (10_000_000, False, 5e-5),  # 2e-4 / 10 ** 0.6 = 5.02e-5
        (1_000_000, True, 1e-3),  # no higher
        (135_000_000, True, 6e-4),
        (7_000_000_000, False, 9.9e-7),
        (8_000_000_000, True, 3.0e-5),  # 6e-4 / 59.3 ** 0.73 = 3.05e-5
        (72_000_000_000, True, 2e-5),  # no lower
    ],
)
def test_learning_rate(parameters: int, lora: bool, rate: float) -> None:
    assert auto.learning_rate("auto", parameters, lora).value == pytest.approx(rate, rel=1e-9)


def test_learning_rate_says_why_or_nothing() -> None:
    assert auto.learning_rate("auto", 10_000_000, False).reason == (
        "learning rate 5.0e-05: full fine-tuning of 10.0 M parameters"
    )
    assert (
        auto.learning_rate("auto", 10_000_000, True).reason
        == "learning rate 1.0e-03: LoRA of 10.0 M parameters"
    )
    assert auto.learning_rate(3e-5, 10_000_000, True) == Chosen(3e-5)


def test_small_models_are_sampled_at_a_lower_temperature() -> None:
    small = auto.temperature("auto", 134_500_000)
    assert small.value == 0.7
    assert small.reason == "sampling temperature 0.7: 134.5 M parameters, under 1 B"
    assert auto.temperature("auto", 1_500_000_000) == Chosen(1.0)
    assert auto.temperature(0.9, 134_500_000) == Chosen(0.9)


def test_prompts_per_batch() -> None:
    assert auto.prompts_per_batch(16, 48, 1) == Chosen(16)
    assert auto.prompts_per_batch(16, 16, 2) == Chosen(16)
    assert auto.prompts_per_batch(16, 11, 1) == Chosen(
        11, "11 prompts a rollout batch: the training file has 11 rows"
    )
    assert auto.prompts_per_batch(16, 11, 2).value == 10
    assert auto.prompts_per_batch(16, 48, 3) == Chosen(
        15, "15 prompts a rollout batch: a multiple of 3 processes"
    )
    assert auto.prompts_per_batch(2, 48, 4).value == 4


ENDED = SeenLengths(list(range(1, 101)), 128, 512)
"""100 of 128 completions ended by themselves, 95 % of them within 95 tokens."""


@pytest.mark.parametrize(
    ("setting", "context", "seen", "value"),
    [
        (64, 512, ENDED, 64),
        (500, 512, None, 412),
        ("auto", 4096, None, 512),
        ("auto", 512, None, 412),
        ("auto", 4096, ENDED, 190),
        ("auto", 250, ENDED, 150),
        ("auto", 4096, SeenLengths([10] * 128, 128, 512), 64),
        ("auto", 4096, SeenLengths([40] * 31, 128, 512), 512),
        ("auto", 4096, SeenLengths([40] * 32, 128, 512), 80),
        ("auto", 4096, SeenLengths([], 16, 512), 512),
        ("auto", 300, SeenLengths([], 16, 512), 200),
        ("auto", 4096, SeenLengths([400] * 16, 16, 512), 800),
    ],
)
def test_max_completion_tokens(
    setting: int | str, context: int, seen: SeenLengths | None, value: int
) -> None:
    assert auto.max_completion_tokens(setting, LengthLimits(context, 100), seen).value == value


def test_max_completion_tokens_says_why() -> None:
    def reason(setting: int | str, context: int, seen: SeenLengths | None) -> str:
        return auto.max_completion_tokens(setting, LengthLimits(context, 100), seen).reason

    assert reason(64, 512, ENDED) == ""
    assert reason(500, 512, None) == "max completion 412 tokens: the context"
    assert reason("auto", 4096, None) == "max completion 512 tokens: no pilot measured what the model needs"
    assert reason("auto", 4096, ENDED) == (
        "max completion 190 tokens: of 100 completions that ended by themselves 95 % have at most 95, so twice that"
    )
    assert reason("auto", 4096, SeenLengths([10] * 8, 8, 512)) == (
        "max completion 64 tokens: of 8 completions that ended by themselves 95 % have at most 10, so at least 64"
    )
    assert reason("auto", 612, SeenLengths([9], 16, 512)) == (
        "max completion 512 tokens: 1 of 16 completions ended by themselves"
    )
    assert reason("auto", 250, SeenLengths([], 16, 512)) == (
        "max completion 150 tokens: 0 of 16 completions ended by themselves; context 250, longest prompt 100"
    )


def test_the_generous_limit_is_smaller_on_a_cpu() -> None:
    assert (auto.generous_limit("cpu"), auto.generous_limit("cuda")) == (512, 1024)


def test_critic_learning_rate() -> None:
    assert auto.critic_learning_rate("auto") == 1e-3
    assert auto.critic_learning_rate(0.5) == 0.5


def test_critic_warmup_is_a_tenth_of_the_job_at_most() -> None:
    assert auto.critic_warmup(2, 40) == Chosen(2)
    assert auto.critic_warmup(0, 5) == Chosen(0)
    assert auto.critic_warmup(4, 30) == Chosen(3, "critic warm-up 3 rollout batches: the job has 30")
    assert auto.critic_warmup(4, 9).value == 0


@pytest.mark.parametrize(
    ("setting", "rollout", "minibatches", "world", "parameters", "device", "expected"),
    [
        ("auto", 128, 2, 1, 1_000_000, "cpu", BatchSizes(64, 2)),
        ("auto", 512, 2, 1, 1_000_000, "cpu", BatchSizes(128, 2)),
        ("auto", 128, 2, 2, 1_000_000, "cpu", BatchSizes(32, 2)),
        ("auto", 128, 2, 1, 90_000_000, "cpu", BatchSizes(32, 2)),
        ("auto", 128, 2, 1, 2_000_000_000, "cpu", BatchSizes(8, 2)),
        ("auto", 512, 1, 1, 10_000_000, "cuda", BatchSizes(128, 1)),
        ("auto", 512, 1, 1, 500_000_000, "cuda", BatchSizes(32, 1)),
        ("auto", 512, 1, 1, 7_000_000_000, "cuda", BatchSizes(8, 1)),
        (48, 128, 2, 1, 1_000_000, "cpu", BatchSizes(32, 2)),  # the largest divisor of 64 that is at most 48
        (500, 128, 2, 1, 1_000_000, "cpu", BatchSizes(64, 2)),
        ("auto", 88, 4, 1, 1_000_000, "cpu", BatchSizes(22, 4)),
    ],
)
def test_batch_sizes(
    setting: int | str,
    rollout: int,
    minibatches: int,
    world: int,
    parameters: int,
    device: str,
    expected: BatchSizes,
) -> None:
    assert auto.batch_sizes(setting, rollout, minibatches, world, parameters, device) == Chosen(expected)


def test_fewer_steps_where_the_batch_does_not_divide() -> None:
    assert auto.batch_sizes("auto", 66, 4, 1, 1_000_000, "cpu") == Chosen(
        BatchSizes(22, 3), "3 steps a pass: 66 completions do not divide by 4"
    )


def test_small_models_take_more_completions() -> None:
    assert [auto.completions_wanted(n) for n in (1_000_000, 135_000_000, 8_000_000_000)] == [
        6_000,
        3_000,
        3_000,
    ]
