"""Episodes a second of rft's PPO against TRL's trainers, and one step against the sum of its parts.

Both sides are processes that are loaded and warm before the clock starts and take turns, one working at a time.
Completions have exactly the same number of tokens on both sides (EOS is suppressed), prompts, padding, batch, passes,
minibatches and micro-batch are the same, and all settings are rft's defaults.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks import trl_env
from benchmarks.common import Pairing, Row, main, pair
from benchmarks.side import Side, SideFailed
from benchmarks.workload import M90, first_rows, random_model, settings
from rft_cli.config import RunConfig

GRPO_LIMIT = 0.85
LORA_LIMIT = 0.80
TRL_PPO_LIMIT = 1.5
PARTS_LIMIT = 1.25

PAIRS = 7
ROLLOUTS = 1
LORA_PAIRS = 4
LORA_PROMPTS = 4
"""Of 8 completions each: the model is ninety times as large as builtin/tiny."""


def rows() -> list[Row]:
    """Full fine-tuning against GRPO and against its parts, LoRA against GRPO, and the old PPOTrainer."""
    return [*tiny_rows(), lora_row(), trl_ppo_row()]


def trainers(side: str, name: str, config: str, rollouts: int = ROLLOUTS) -> Side:
    """rft's PPO or TRL 1.16's GRPO, ready."""
    command = [sys.executable, "-m", "benchmarks.trainers", side, config, "--rollouts", str(rollouts)]
    return Side(f"{name}-{side}", command)


def tiny_config() -> str:
    """Full fine-tuning of builtin/tiny; every batch has the same prompts."""
    return settings(first_rows(RunConfig().rollout.prompts_per_batch))


def lora_config() -> str:
    """LoRA on a random model of about 90 M parameters, everything else as it comes."""
    return settings(
        first_rows(LORA_PROMPTS),
        model={"path": str(random_model(M90))},
        lora={"enabled": True},
        rollout={"prompts_per_batch": LORA_PROMPTS},
    )


class Turns:
    """Rounds of one side: calling it works one, and gives its episodes a second.

    The CPU seconds of each round are kept, because a busy machine disturbs them less than the clock.
    """

    def __init__(self, side: Side, completions: int) -> None:
        self._side, self._completions = side, completions
        self.cpu: list[float] = []

    def __call__(self) -> float:
        answer = self._side.ask("round")
        self.cpu.append(float(answer["cpu"]))
        return self._completions / float(answer["seconds"])


@dataclass(frozen=True, slots=True)
class Against:
    """Episodes a second of both sides, and the same ratio by CPU time; `pairs` were measured."""

    clock: Pairing
    cpu: float
    pairs: int

    def row(self, name: str, limit: float, work: str) -> Row:
        clock = self.clock
        detail = (
            f"{clock.ours:.1f} against {clock.theirs:.1f} episodes/s, {work}; {self.pairs} pairs, "
            f"{clock.low:.2f} to {clock.high:.2f}; by CPU time {self.cpu:.2f}"
        )
        return Row(name, clock.ratio, limit, "higher", detail)


def against(ours: Side, theirs: Side, pairs: int) -> Against:
    """Both sides in turn."""
    completions = ours.hello["completions"]
    left, right = Turns(ours, completions), Turns(theirs, completions)
    clock = pair(left, right, pairs=pairs)
    ratios = [b / a for a, b in zip(left.cpu, right.cpu, strict=True)]
    return Against(clock, statistics.median(ratios[1:]), pairs)


def same_work(ours: Side, theirs: Side) -> str:
    """Raises RuntimeError where the sides did not do the same work; returns what it was, in words."""
    for key in ("completions", "tokens", "minibatches", "passes", "batch", "parameters"):
        if ours.hello[key] != theirs.hello[key]:
            raise RuntimeError(
                f"not the same work: {key} is {ours.hello[key]} here, {theirs.hello[key]} there"
            )
    for side in (ours, theirs):
        if side.ask("tokens")["tokens"] != side.hello["tokens"]:
            raise RuntimeError("completions have not the length that was asked for")
    return (
        f"{ours.hello['batch']} x {ours.hello['tokens']} tokens, {ours.hello['passes']} passes of "
        f"{ours.hello['minibatches']} steps"
    )


def tiny_rows(pairs: int = PAIRS) -> list[Row]:
    """Against GRPO, then the same process against its own parts."""
    config = tiny_config()
    with trainers("ours", "tiny", config) as ours, trainers("grpo", "tiny", config) as grpo:
        found = against(ours, grpo, pairs)
        work = same_work(ours, grpo)
        parts: list[dict[str, float]] = []
        step = pair(
            lambda: float(ours.ask("round")["seconds"]) / ROLLOUTS,
            lambda: _sum_of_parts(ours, parts),
            pairs=pairs,
        )
    names = ", ".join(f"{name} {statistics.median(p[name] for p in parts):.2f} s" for name in parts[0])
    return [
        found.row("speed: PPO against TRL 1.16 GRPO, full fine-tuning of builtin/tiny", GRPO_LIMIT, work),
        Row(
            "speed: one rollout batch against the sum of its parts",
            step.ratio,
            PARTS_LIMIT,
            "lower",
            f"{step.ours:.2f} s against {step.theirs:.2f} s ({names}); "
            f"{pairs} pairs, {step.low:.2f} to {step.high:.2f}",
        ),
    ]


def _sum_of_parts(side: Side, parts: list[dict[str, float]]) -> float:
    parts.append(side.ask("parts"))
    return sum(parts[-1].values())


def lora_row(pairs: int = LORA_PAIRS) -> Row:
    """Policy, reference and critic share one copy of the weights; GRPO has no critic."""
    config = lora_config()
    with trainers("ours", "lora", config) as ours, trainers("grpo", "lora", config) as grpo:
        found = against(ours, grpo, pairs)
        work = same_work(ours, grpo)
    size = f"{ours.hello['parameters'] / 1e6:.0f} M"
    return found.row(f"speed: PPO against TRL 1.16 GRPO, LoRA on a random model of {size}", LORA_LIMIT, work)


def trl_ppo_row(pairs: int = PAIRS) -> Row:
    """The PPOTrainer that TRL removed in 1.13, full fine-tuning of builtin/tiny as well."""
    name = f"speed: PPO against TRL {trl_env.VERSION} PPO, full fine-tuning of builtin/tiny"
    try:
        interpreter = trl_env.python()
    except trl_env.NotInstalled as error:
        return Row(name, None, TRL_PPO_LIMIT, "higher", str(error))
    config = tiny_config()
    with trainers("ours", "trl-ppo", config) as ours:
        work: dict[str, Any] = {
            key: ours.hello[key] for key in ("tokens", "batch", "minibatches", "passes", "learning_rate")
        }
        work |= {"rollouts": ROLLOUTS, "fixed_length": True}
        command = [str(interpreter), "-m", "benchmarks.trl_ppo", "rounds", config, json.dumps(work)]
        try:
            theirs = Side("trl-ppo-theirs", command)
        except SideFailed as error:
            return Row(name, None, TRL_PPO_LIMIT, "higher", str(error))
        with theirs:
            found = against(ours, theirs, pairs)
    said = (
        f"{work['batch']} x {work['tokens']} tokens, {work['passes']} passes of {work['minibatches']} steps"
    )
    return found.row(name, TRL_PPO_LIMIT, said)


if __name__ == "__main__":
    main(rows)
