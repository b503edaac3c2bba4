"""The first PPO update on recorded rollouts, in as many processes as started this script; writes what it saw as JSON.

Usage: first_update.py FOLDER [--sharded] KIND...: for each kind (full, lora) one update, and FOLDER/KIND.json.
One after the other in the same processes, whose start takes longer than the updates.

Rollouts are recorded: 8 prompts x 2 completions of unequal lengths, one of them with a failed grade. Every process
takes its slice, so that 1 and 2 processes update on the same batch.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.distributed.tensor import DTensor

from rft_cli.config import RunConfig
from rft_cli.grading.protocol import Grader
from rft_cli.grading.stats import GraderStats
from rft_cli.runs.model_source import find_model
from rft_cli.training import build
from rft_cli.training.distributed import sharding
from rft_cli.training.hf_args import Resolved
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.models import load_model, load_tokenizer
from rft_cli.training.rollouts.prompts import PromptEncoder, training_rows
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.stop_tokens import stop_tokens
from rft_cli.types import Example, Grade, GradeError, GradeRequest, Source
from tests.training.distributed.pretend_gpus import pretend_gpus_on_gloo, seen

PROMPTS, GROUP = 8, 2
FAILED = 5
"""The rollout whose grade failed."""


class TableGrader(Grader):
    """Rewards by completion text; one of them fails."""

    def __init__(self) -> None:
        self.stats = GraderStats()

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        return [self._one(r) for r in requests]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        yield self.grade(list(requests))

    def _one(self, request: GradeRequest) -> Grade:
        number = int(request.completion.split("#")[1].split()[0])
        if number == FAILED:
            return Grade("failed", error=GradeError("raised", "planted"))
        return Grade("graded", reward=(number * 7 % 5) / 4)

    def close(self) -> None:
        pass


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter that FSDP2 may have sharded."""
    detached = parameter.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def recorded(tokenizer: Any) -> list[list[int]]:
    """Completions of 4 to 34 tokens; the number in the text tells the grader which it is."""
    texts = [f"#{i} " + "word " * (i * 5 % 13) for i in range(PROMPTS * GROUP)]
    return [tokenizer(t)["input_ids"] + [tokenizer.eos_token_id] for t in texts]


def main() -> None:
    out, *kinds = sys.argv[1:]
    if "--sharded" in kinds:
        kinds.remove("--sharded")
        pretend_gpus_on_gloo()
    quiet_libraries()
    state = PartialState(cpu=True)
    for kind in kinds:
        found = first_update(state, kind)
        if state.is_main_process:
            Path(out, f"{kind}.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def first_update(state: PartialState, kind: str) -> dict[str, Any]:
    """What this process saw of it."""
    config = RunConfig.model_validate(
        {
            "rollout": {"group_size": GROUP},
            "ppo": {"critic_warmup": 0, "passes": 1, "minibatches": 1, "critic_passes": 3},
        }
    )
    examples = [
        Example(f"e{i}", [{"role": "user", "content": f"say {'very ' * i}{i}"}], {"i": i}, Source("x", i))
        for i in range(PROMPTS)
    ]
    tokenizer = load_tokenizer(config.model)
    source = find_model("builtin/tiny")
    plugin = sharding.partition_at_load(source, "float32")
    model = load_model(source, config.model, torch.float32)
    sharding.keep(model, plugin)
    share = PROMPTS * GROUP // state.num_processes
    resolved = Resolved(
        lora=kind == "lora", learning_rate=1e-4, critic="mlp", critic_learning_rate=1e-3, n_epochs=1,
        max_steps=None, prompts_per_batch=PROMPTS, max_completion_tokens=40, micro_batch_size=share // 2,
        gradient_checkpointing=False, validate_every=1, critic_warmup=0, world_size=state.num_processes, minibatches=1,
    )  # fmt: skip
    stop = stop_tokens(model.config, model.generation_config, tokenizer)
    reward = GraderReward(TableGrader(), examples, stop, PromptEncoder.of(tokenizer, config))
    with tempfile.TemporaryDirectory() as folder:
        trainer = build.build_trainer(
            config, resolved, tokenizer, model, folder, reward, training_rows(examples)
        )
        trainer.shuffle_dataset = False
        completions = recorded(tokenizer)
        rank = trainer.accelerator.process_index

        def replay(prompts: Sequence[Any]) -> list[list[int]]:
            return completions[rank * len(prompts) : (rank + 1) * len(prompts)]

        trainer._sample_checked = replay
        losses: list[float] = []
        step = trainer.training_step

        def recording(*args: Any, **kwargs: Any) -> Any:
            loss = step(*args, **kwargs)
            losses.append(float(loss))
            return loss

        trainer.training_step = recording
        trainer.train()
        total = trainer.accelerator.reduce(torch.tensor(sum(losses)), reduction="mean")
        logged = next(row for row in trainer.state.log_history if "grad_norm" in row)
        critic = [whole(p).double().abs().sum().item() for p in trainer.critic.parameters()]
    return {
        "world_size": trainer.accelerator.num_processes,
        **seen(trainer),
        "loss": float(total),
        "grad_norm": float(logged["grad_norm"]),
        "critic": critic,
        **{
            k: logged[k]
            for k in ("kl", "explained_variance", "entropy", "reward", "value_loss", "return_mean")
        },
    }


if __name__ == "__main__":
    main()
