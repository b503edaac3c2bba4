"""Training in 16 bits: weights that are trained stay float32, and float16 has a gradient scaler.

The scaler is a GPU's: here it and autocast work on the CPU, where a job is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from rft_cli.runs import Run
from rft_cli.runs.model_source import find_model
from rft_cli.training.hooks.divergence import Diverged
from tests.command import sets
from tests.faults.jobs import make_files, rft_here, small_arguments
from tests.training.test_divergence import Steps, trainer_for


def in_float16(trainer: Any, monkeypatch: pytest.MonkeyPatch, scale: float) -> Any:
    """What `fp16=True` makes of the accelerator on a GPU."""
    monkeypatch.setitem(AcceleratorState._shared_state, "_mixed_precision", "fp16")
    trainer.accelerator.native_amp = True
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return trainer


def norms(trainer: Any) -> list[float | None]:
    return [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_gradients_are_those_of_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, lora: bool
) -> None:
    exact = trainer_for(tmp_path / "a", algorithm, steps=1, lora=lora)
    exact.train()
    trainer = in_float16(trainer_for(tmp_path / "b", algorithm, steps=1, lora=lora), monkeypatch, 1024.0)
    trainer.train()
    assert norms(trainer) != norms(exact)  # it was not float32
    assert norms(trainer)[0] == pytest.approx(norms(exact)[0], rel=0.03)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)


def test_gradients_that_overflow_while_the_scale_falls_are_no_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = in_float16(trainer_for(tmp_path, steps=16), monkeypatch, 2.0**30)
    steps = Steps(trainer)
    trainer.add_callback(steps)
    trainer.train()
    skipped = trainer._skips.total
    assert trainer.max_skipped_steps < skipped < 16
    assert trainer.accelerator.scaler.get_scale() == 2.0 ** (30 - skipped)
    assert steps.stood_still() == [*range(2, skipped + 1)]
    assert trainer._skips.in_a_row == 0


def test_a_gradient_that_is_not_finite_at_any_scale_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = in_float16(trainer_for(tmp_path, steps=16), monkeypatch, 4.0)
    for p in trainer.model.parameters():
        p.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(Diverged, match="the gradient was not finite in 3 steps in a row, the last at step 5"):
        trainer.train()


def test_full_fine_tuning_in_bfloat16_loses_no_update(tmp_path: Path) -> None:
    arguments = [*small_arguments("a"), *sets({"model.dtype": "bfloat16", "optim.learning_rate": 1e-6})]
    done = rft_here(make_files(tmp_path, rows=4), *arguments)
    assert done.code == 0, done.err
    assert "model.dtype bfloat16: full fine-tuning keeps float32 weights" in done.err
    run = Run(tmp_path / "runs" / "a")
    trained = load_file(run.checkpoint_path(2) / "model.safetensors")
    base = load_file(Path(find_model("builtin/tiny").base) / "model.safetensors")
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    changed = sum(int((trained[name] != base[name].float()).sum()) for name in trained)
    assert changed / sum(tensor.numel() for tensor in trained.values()) > 0.9


def test_a_job_in_float16_on_a_cpu_is_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    done = rft_here(make_files(tmp_path, rows=4), *small_arguments("a"), "--set", "model.dtype=float16")
    assert (done.code, done.errors) == (2, ["error: model.dtype: float16 trains on GPUs alone"])
    assert not (tmp_path / "runs" / "a").exists()
