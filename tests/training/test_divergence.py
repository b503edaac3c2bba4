"""Numbers that are not finite, put into real small jobs: the step is skipped and counted, and three end the job."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from rft_cli.errors import RunFailed
from rft_cli.runs import Run
from rft_cli.training.hooks.divergence import Diverged, check_finite, explain_divergence, not_finite
from rft_cli.types import Grade, GradeError, GradeRequest
from tests.training import toys

pytestmark = pytest.mark.fault("NaN in loss, gradient or weights; all skipped; all rewards equal")
PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8", "w9 w9"]
ALGORITHMS = ["ppo", "grpo", "rloo"]
NAN, INF = float("nan"), float("inf")


def high_words(request: GradeRequest) -> Grade:
    words = request.completion.split()
    return toys.graded(sum(int(w[1:]) > 7 for w in words) / max(len(words), 1))


def trainer_for(
    folder: Path,
    algorithm: str = "ppo",
    grade: Callable[[GradeRequest], Grade] = high_words,
    critic: str = "mlp",
    steps: int = 6,
    **changes: Any,
) -> Any:
    """A job of `steps` steps, one a rollout batch of 16 completions."""
    return toys.trainer_of(
        folder,
        toys.qwen3(head_std=0.1),
        toys.tokenizer_of(16),
        toys.FunctionGrader(grade),
        prompts=PROMPTS,
        settings={
            "algorithm": algorithm,
            "ppo": {"kl_coef": 0.05, "passes": 1, "critic_warmup": 0},
            "rollout": {"group_size": 4},
        },
        critic=critic,
        n_epochs=steps,
        micro_batch_size=8,
        **changes,
    )


class Steps(TrainerCallback):
    """Everything that a step may move, as it was behind each one."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.after: list[list[Tensor]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.after.append(moved(self.trainer))

    def stood_still(self) -> list[int]:
        """Steps (from 2) that moved neither weights nor moments."""
        pairs = enumerate(pairwise(self.after), 2)
        return [n for n, (a, b) in pairs if all(torch.equal(x, y) for x, y in zip(a, b, strict=True))]


def moved(trainer: Any) -> list[Tensor]:
    """The policy, and the moments and counts of its Adam."""
    state = trainer.optimizer.state
    moments = [v for p in state for v in state[p].values() if isinstance(v, Tensor)]
    return [t.detach().clone() for t in [*trainer.model.parameters(), *moments]]


def poison_loss(trainer: Any, at: set[int], value: float) -> None:
    """From now on the losses of these steps (from 1) have `value` added in their last micro-batch."""
    inner = trainer._compute_loss

    def poisoned(model: Any, inputs: Any) -> Tensor:
        loss: Tensor = inner(model, inputs)
        last = trainer.accelerator.sync_gradients
        return loss + value if last and trainer.state.global_step + 1 in at else loss

    trainer._compute_loss = poisoned


def poison_gradient(trainer: Any, parameter: Tensor, at: set[int], value: float = NAN) -> None:
    """The same for a gradient."""
    parameter.register_hook(lambda g: g * value if trainer.state.global_step + 1 in at else g)


def lines_of(trainer: Any) -> list[dict[str, Any]]:
    return [line for line in trainer.state.log_history if "skipped_steps" in line]


def assert_no_nan(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        for name, value in line.items():
            assert value is None or torch.isfinite(torch.tensor(float(value))), (name, line)


@pytest.mark.parametrize(
    ("algorithm", "value"), [("ppo", NAN), ("ppo", INF), ("grpo", NAN), ("grpo", -INF), ("rloo", INF)]
)
def test_a_loss_that_is_not_finite_moves_nothing_and_is_no_number(
    algorithm: str, value: float, tmp_path: Path
) -> None:
    trainer = trainer_for(tmp_path, algorithm)
    steps = Steps(trainer)
    trainer.add_callback(steps)
    poison_loss(trainer, {3}, value)
    trainer.train()
    lines = lines_of(trainer)
    assert steps.stood_still() == [3]
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 1, 1, 1]
    assert [n for n, line in enumerate(lines, 1) if line["loss"] is None] == [3]
    assert_no_nan(lines)
    assert not_finite(trainer) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_gradient_that_is_not_finite_moves_nothing(algorithm: str, tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, algorithm)
    steps = Steps(trainer)
    trainer.add_callback(steps)
    poison_gradient(trainer, trainer.model.lm_head.weight, {2, 4, 5})
    trainer.train()
    lines = lines_of(trainer)
    assert steps.stood_still() == [2, 4, 5]
    assert [line["skipped_steps"] for line in lines] == [0, 1, 1, 2, 3, 3]
    assert [n for n, line in enumerate(lines, 1) if line["grad_norm"] is None] == [2, 4, 5]
    assert_no_nan(lines)


def test_the_steps_behind_a_skipped_one_go_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """transformers adds losses up: a NaN left in its sum would make every later line a NaN."""
    trainer = trainer_for(tmp_path)
    poison_loss(trainer, {2}, NAN)
    trainer.train()
    for line in lines_of(trainer)[2:]:
        assert line["loss"] == pytest.approx(line["policy_loss"], abs=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_three_in_a_row_end_the_job(algorithm: str, tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, algorithm)
    poison_loss(trainer, {1, 2, 4, 5, 6}, NAN)
    with pytest.raises(Diverged) as failure:
        trainer.train()
    # A NaN in the loss makes NaN gradients only where it is multiplied with; here it was added.
    assert failure.value.message == (
        "training diverged: the loss was not finite in 3 steps in a row, the last at step 6"
    )
    assert failure.value.exit_code == 3
    assert [line["skipped_steps"] for line in lines_of(trainer)] == [1, 2, 2, 3, 4, 5]
    assert not_finite(trainer) == []


def test_the_number_of_steps_in_a_row_is_a_setting(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    trainer.max_skipped_steps = 1
    poison_gradient(trainer, trainer.model.lm_head.weight, {2})
    with pytest.raises(Diverged, match=r"the gradient was not finite in a step, the last at step 2"):
        trainer.train()


def test_weights_that_are_not_finite_are_known_and_not_trained_on(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, "grpo")

    class Breaks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if trainer.state.global_step == 2:
                trainer.model.model.norm.weight.data[0] = NAN

    assert not_finite(trainer) == []
    trainer.add_callback(Breaks())
    run = Run.create(tmp_path / "runs", "broken", config_yaml="", info={})
    with pytest.raises(RunFailed) as failure, explain_divergence(run, 0.5, 0.25):
        trainer.train()
    assert failure.value.message == (
        "training diverged: the model's probabilities are not finite numbers any more"
    )
    assert failure.value.fix == (
        "lower optim.learning_rate (it was 0.5) or raise ppo.kl_coef in a new run; this one has no checkpoint, "
        f"and `rft train --resume {run.path}` starts it over"
    )
    assert not_finite(trainer) == ["weights"]
    with pytest.raises(Diverged, match="the weights are not finite numbers at step 2, and are not saved"):
        check_finite(trainer)


@pytest.mark.parametrize(
    ("part", "said", "of_critic"),
    [
        ("policy", "the weights and moments of Adam", False),
        ("policy's moments", "the moments of Adam", False),
        ("critic", "the critic's weights", True),
        ("critic's moments", "the critic's moments of Adam", True),
    ],
)
def test_a_checkpoint_would_hold_what_is_not_finite(
    part: str, said: str, of_critic: bool, tmp_path: Path
) -> None:
    """A finite gradient of 1e30 has a square that float32 can't hold: weights stay finite, and Adam's moments don't."""
    trainer = trainer_for(tmp_path, steps=1)
    trainer.train()
    check_finite(trainer)
    optimizers = {"policy": trainer.optimizer, "critic": trainer.critic_optimizer.inner}
    kept = next(iter(optimizers[part.split("'")[0]].state.values()))
    if part in ("policy", "policy's moments"):
        kept["exp_avg_sq"].view(-1)[-1] = INF
    if part == "policy":
        trainer.model.lm_head.weight.data[0, 0] = NAN
    if part == "critic":
        trainer.critic.head.weight.data.view(-1)[0] = -INF
    if part == "critic's moments":
        kept["exp_avg"].view(-1)[0] = NAN
    with pytest.raises(Diverged) as failure:
        check_finite(trainer)
    assert failure.value.message == (
        f"training diverged: {said} are not finite numbers at step 1, and are not saved"
    )
    assert failure.value.of_critic is of_critic


@pytest.mark.parametrize(("lora", "value"), [(False, NAN), (True, INF)])
def test_a_critic_skips_its_own_steps(lora: bool, value: float, tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, lora=lora, steps=5)
    steps = Steps(trainer)
    trainer.add_callback(steps)
    poison_gradient(trainer, trainer.critic.head.weight, {3}, value)
    inner = trainer.critic_optimizer.fit
    still = []

    def fit(*args: Any) -> Any:
        before = [p.detach().clone() for p in trainer.critic.parameters()]
        loss = inner(*args)
        after = trainer.critic.parameters()
        still.append(all(torch.equal(x, y) for x, y in zip(before, after, strict=True)))
        return loss

    trainer.critic_optimizer.fit = fit
    trainer.train()
    assert still == [False, False, True, False, False]
    lines = lines_of(trainer)
    assert [line["skipped_critic_steps"] for line in lines] == [0, 0, 2, 2, 2]  # two passes, one step each
    assert [line["skipped_steps"] for line in lines] == [0] * 5
    assert steps.stood_still() == []
    assert_no_nan(lines)
    assert not_finite(trainer) == []


def test_a_critic_whose_loss_is_not_finite_ends_the_job(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, steps=3)
    inner = trainer.critic.forward
    trainer.critic.forward = lambda states: inner(states) + (INF if torch.is_grad_enabled() else 0.0)
    with pytest.raises(Diverged) as failure:
        trainer.train()
    assert failure.value.message == (
        "training diverged: the critic's loss or gradient was not finite in 4 updates in a row, the last at "
        "step 2"
    )
    assert failure.value.of_critic
    assert not_finite(trainer) == []


def test_values_that_are_not_finite_do_not_stay_in_the_return_scale(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    inner = trainer.critic.forward
    trainer.critic.forward = lambda states: inner(states) * (NAN if trainer.rollouts_seen == 2 else 1.0)
    trainer.train()
    assert torch.isfinite(trainer.critic.scale.mean)
    assert torch.isfinite(trainer.critic.scale.std)
    assert not_finite(trainer) == []
    lines = lines_of(trainer)
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 1, 1, 1]
    assert lines[2]["explained_variance"] is None
    assert_no_nan(lines)


def test_one_completion_without_log_probabilities_is_masked_out(tmp_path: Path) -> None:
    """A reference that gives a token no probability at all: its KL is infinite, and would spoil every advantage."""
    trainer = trainer_for(tmp_path)
    inner = trainer._reference_scores

    def impossible(*args: Any) -> Any:
        scores = inner(*args)
        if trainer.rollouts_seen == 2:
            scores.logps[3, 0] = -INF
        return scores

    trainer._reference_scores = impossible
    steps = Steps(trainer)
    trainer.add_callback(steps)
    trainer.train()
    lines = lines_of(trainer)
    assert [line["rollouts_not_finite"] for line in lines] == [0, 0, 1, 0, 0, 0]
    assert lines[-1]["skipped_steps"] == 0
    assert steps.stood_still() == []
    assert_no_nan(lines)


def nothing(_: GradeRequest) -> Grade:
    return Grade("skipped")


def broken(_: GradeRequest) -> Grade:
    return Grade("failed", error=GradeError("raised", "no"))


def equal(_: GradeRequest) -> Grade:
    return toys.graded(0.5)


def only_one() -> Callable[[GradeRequest], Grade]:
    seen = iter(range(10**6))
    return lambda _: toys.graded(1.0) if next(seen) % 16 == 5 else Grade("skipped")


def huge() -> Callable[[GradeRequest], Grade]:
    """The largest rewards that count, and some beyond."""
    seen = iter(range(10**6))
    return lambda _: toys.graded((1e15, -1e15, 1e16, 1e308)[next(seen) % 4])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("grader", ["nothing", "broken", "equal", "only_one", "huge"])
def test_batches_without_a_signal_are_no_disaster(algorithm: str, grader: str, tmp_path: Path) -> None:
    graders = {"nothing": nothing, "broken": broken, "equal": equal, "only_one": only_one(), "huge": huge()}
    grade = graders[grader]
    for critic in ("mlp", "none") if algorithm == "ppo" else ("mlp",):
        trainer = trainer_for(tmp_path / critic, algorithm, grade, critic, steps=3)
        trainer.train()
        lines = lines_of(trainer)
        assert len(lines) == 3
        assert [line["skipped_steps"] for line in lines] == [0, 0, 0]
        assert all(line["loss"] is not None for line in lines)
        assert all((line["reward"] is None) == (grader in ("nothing", "broken")) for line in lines)
        assert_no_nan(lines)
        assert not_finite(trainer) == []


def test_the_counters_go_through_a_checkpoint(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, steps=3)
    poison_gradient(trainer, trainer.model.lm_head.weight, {2, 3})
    poison_gradient(trainer, trainer.critic.head.weight, {3})
    trainer.train()
    state = trainer.process_state()
    assert state["guard"] == {
        "policy": {"total": 2, "in_a_row": 2, "what": "gradient"},
        "critic": {"total": 2, "in_a_row": 2, "what": "loss or gradient"},
    }
    other = trainer_for(tmp_path, steps=1)
    other.load_process_state(state)
    poison_gradient(other, other.model.lm_head.weight, {1})
    with pytest.raises(Diverged, match="3 steps in a row"):
        other.train()
    plain = trainer_for(tmp_path, "rloo")
    kept = {"policy": state["guard"]["policy"], "critic": None}
    plain.load_process_state({**plain.process_state(), "guard": kept})
    assert plain.process_state()["guard"] == kept
