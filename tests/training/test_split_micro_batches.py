"""Memory that runs out in an update: the step is that of a device with room. A hook raises for the allocator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from rft_cli.events import Note
from rft_cli.training.rollouts.backbone import backbone_of
from tests.training import toys
from tests.training.test_ppo_step import trainer_for

JOBS = [
    ("ppo", "none", "forward"),
    ("ppo", "mlp", "backward"),
    ("ppo", "none", "backward"),
    ("grpo", "none", "backward"),
    ("rloo", "none", "forward"),
]


@contextmanager
def little_memory(trainer: Any, rows: int, where: str) -> Iterator[None]:
    """Passes with gradients of more than `rows` rows find no memory, on the way forward or half-way back."""

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def limit(_: Any, args: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if torch.is_grad_enabled() and states.size(0) > rows:
            if where == "forward":
                full()
            states.register_hook(full)

    handle = backbone_of(trainer.model).layers[1].register_forward_hook(limit)
    yield
    handle.remove()


def trainer_like(folder: Path, algorithm: str, critic: str) -> Any:
    """Two micro-batches a step, two steps a pass, two passes over one rollout batch."""
    return trainer_for(
        folder,
        critic,
        settings={"algorithm": algorithm},
        grade=lambda request: toys.graded(float(len(request.completion.split()))),
        ppo={"passes": 2},
        micro_batch_size=8,
        minibatches=2,
    )


def trained(folder: Path, algorithm: str, critic: str, rows: int | None, where: str) -> tuple[Any, list[str]]:
    trainer = trainer_like(folder, algorithm, critic)
    notes: list[str] = []
    trainer.on_note = lambda event: notes.append(event.text) if isinstance(event, Note) else None
    torch.manual_seed(0)
    if rows is None:
        trainer.train()
    else:
        with little_memory(trainer, rows, where):
            trainer.train()
    return trainer, notes


@pytest.mark.parametrize(("algorithm", "critic", "where"), JOBS)
def test_the_step_stays(algorithm: str, critic: str, where: str, tmp_path: Path) -> None:
    whole, silent = trained(tmp_path / "a", algorithm, critic, None, where)
    parts, told = trained(tmp_path / "b", algorithm, critic, 3, where)
    assert silent == []
    assert told == [
        f"out of memory: from here on {size} completions at a time in updates of the same size"
        for size in (4, 2)
    ]
    assert parts.state.global_step == whole.state.global_step == 4
    for (name, one), other in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        # Adam divides by the gradient's size: what rounding does to tiny gradients shows in the weights.
        torch.testing.assert_close(other, one, atol=2e-5, rtol=1e-3, msg=name)
    # TRL's own trainers average their metrics over passes of whatever size.
    keys = {"loss", "grad_norm"} | (
        {"entropy", "policy_loss", "value_loss", "ratio"} if algorithm == "ppo" else set()
    )
    for one, other in zip(whole.state.log_history, parts.state.log_history, strict=True):
        for key in keys & set(one):
            assert other[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), key


def test_what_a_step_had_is_made_again(tmp_path: Path) -> None:
    """The second micro-batch fails: the first one's gradients were dropped with its, and are made again."""
    whole, _ = trained(tmp_path / "a", "ppo", "none", None, "")
    parts = trainer_like(tmp_path / "b", "ppo", "none")
    rows: list[int] = []

    def second(_: Any, args: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            rows.append((output[0] if isinstance(output, tuple) else output).size(0))
            if rows[-1] == 8 and rows.count(8) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = backbone_of(parts.model).layers[1].register_forward_hook(second)
    torch.manual_seed(0)
    parts.train()
    handle.remove()
    # A prompt that a group shares passes in a row of its own.
    assert [count for count in rows if count > 1][:6] == [8, 8, 4, 4, 4, 4]
    for (name, one), other in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=2e-5, rtol=1e-3, msg=name)


def test_one_row_without_room_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        trained(tmp_path, "ppo", "none", 0, "forward")
