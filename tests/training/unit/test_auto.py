"""Every auto rule: the value it gives, the reason it prints, and that a user's own value passes through in silence."""

from __future__ import annotations

import pytest

from rft_cli.errors import UsageError
from rft_cli.training import auto
from rft_cli.training.auto import BatchSizes, Chosen


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
        (100_000_000, True, 1.3e-4),  # ten times 1.26e-5
        (7_000_000_000, False, 9.9e-7),
        (7_000_000_000, True, 9.9e-6),
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
        == "learning rate 5.0e-04: LoRA of 10.0 M parameters"
    )
    assert auto.learning_rate(3e-5, 10_000_000, True) == Chosen(3e-5)


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


@pytest.mark.parametrize(
    ("setting", "context", "prompt", "reference", "value"),
    [
        (64, 512, 100, None, 64),
        (500, 512, 100, None, 412),
        ("auto", 4096, 100, None, 512),
        ("auto", 512, 100, None, 412),
        ("auto", 512, 100, 5, 32),
        ("auto", 512, 100, 40, 96),
        ("auto", 512, 100, 300, 412),
    ],
)
def test_max_completion_tokens(
    setting: int | str, context: int, prompt: int, reference: int | None, value: int
) -> None:
    assert auto.max_completion_tokens(setting, context, prompt, reference).value == value


def test_max_completion_tokens_says_why() -> None:
    def reason(setting: int | str, reference: int | None) -> str:
        return auto.max_completion_tokens(setting, 512, 100, reference).reason

    assert reason(64, None) == ""
    assert reason(500, None) == "max completion 412 tokens: the context"
    assert reason("auto", None) == "max completion 412 tokens: no references, context 512, longest prompt 100"
    assert reason("auto", 40) == (
        "max completion 96 tokens: the longest reference has 40, context 512, longest prompt 100"
    )


def test_critic_learning_rate() -> None:
    assert auto.critic_learning_rate("auto", 1e-4, joint=True).value == pytest.approx(1e-3)
    assert auto.critic_learning_rate("auto", 1e-4, joint=False).value == pytest.approx(3e-4)
    assert auto.critic_learning_rate(0.5, 1e-4, joint=True).value == 0.5


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
        ("auto", 128, 2, 1, 90_000_000, "cpu", BatchSizes(8, 2)),
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


def test_an_adapter_critic_needs_lora() -> None:
    auto.check_critic("adapter", lora=True)
    with pytest.raises(UsageError, match="needs LoRA"):
        auto.check_critic("adapter", lora=False)
