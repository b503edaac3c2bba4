"""What a critic on the reference's states adds to the group's mean: `python -m benchmarks.critic_worth RUN`.

Replays the rollouts of a job with LoRA, in their order, through the real critic: values first, then training on the
batch, as the trainer does it. Two figures a third of the job:

- explained variance of the returns, which a critic earns for knowing which prompts are easy, too;
- the mean square of the advantages, as a share of what the prompt's other completions alone leave. It is what the
  policy's gradient varies by: over 1 the critic adds noise, under 1 it takes some away.

One row trains the critic on what the group's mean leaves, and takes its values from that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rft_cli.config.load import load_own
from rft_cli.job import load_job
from rft_cli.runs import Run
from rft_cli.runs.files import read_lines
from rft_cli.runs.model_source import find_model
from rft_cli.training.models import load_model, load_tokenizer
from rft_cli.training.ppo import advantages as adv
from rft_cli.training.ppo.critic import CriticOptimizer, CriticSettings, MlpCritic
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.logprob_check import padded
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.statistics import identity, masked_moments

THIRDS = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """One rollout batch of `B` completions: the last hidden states before each token `(B, T, H)`, mask `(B, T)`,
    rewards and prompts' numbers `(B,)`.
    """

    states: Tensor
    mask: Tensor
    rewards: Tensor
    groups: Tensor


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    passes: int = 2
    value_clip: float | None = 0.2
    of_what_is_left: bool = False


VARIANTS = (
    Variant("mlp"),
    Variant("mlp, no value clip", value_clip=None),
    Variant("mlp, critic_passes 8", passes=8),
    Variant("mlp, critic_passes 8, no value clip", passes=8, value_clip=None),
    Variant("mlp on what the group's mean leaves", value_clip=None, of_what_is_left=True),
)


@torch.no_grad()
def batches(run: Run) -> Iterator[Batch]:
    """The run's rollout batches with the base model's hidden states."""
    config = load_own(run.path).config
    source = find_model(config.model.path, config.model.revision)
    examples = load_job(config).train.examples
    tokenizer = load_tokenizer(config.model)
    backbone: Any = backbone_of(load_model(source, config.model, torch.bfloat16).eval())
    for file in sorted((run.path / "rollouts").glob("step-*.jsonl")):
        rows = [r for r in read_lines(file) if r["grade"]["reward"] is not None and r["completion"]]
        prompts = PromptEncoder.of(tokenizer, config).encode([examples[r["row"]] for r in rows])
        texts = [tokenizer(r["completion"], add_special_tokens=False)["input_ids"] for r in rows]
        ends = [[] if r["truncated"] else [tokenizer.eos_token_id] for r in rows]
        tokens = [text + end for text, end in zip(texts, ends, strict=True)]
        ids, attention, longest = padded(list(zip(prompts, tokens, strict=True)), pad=0)
        states = []
        for part, seen in zip(ids.split(32), attention.split(32), strict=True):
            hidden = backbone(input_ids=part, attention_mask=seen).last_hidden_state
            states.append(hidden[:, -longest - 1 : -1].float())
        yield Batch(
            torch.cat(states),
            attention[:, -longest:].float(),
            torch.tensor([float(r["grade"]["reward"]) for r in rows]),
            torch.tensor([r["row"] for r in rows]),
        )


def replay(found: Sequence[Batch], variant: Variant) -> list[tuple[float, float]]:
    """Explained variance and the advantages' mean square against the group's alone, for each batch."""
    torch.manual_seed(0)
    critic = MlpCritic(found[0].states.size(-1))
    settings = CriticSettings(
        learning_rate=1e-3,
        passes=variant.passes,
        minibatches=2,
        micro_batch_size=32,
        value_clip=variant.value_clip,
        max_grad_norm=1.0,
    )
    optimizer = CriticOptimizer(critic, settings, identity)
    figures = []
    for number, batch in enumerate(found):
        counts = batch.mask.any(dim=1)
        others = adv.others_mean(batch.rewards, batch.groups, counts)
        alone = (batch.rewards - others).unsqueeze(1).expand_as(batch.mask) * batch.mask
        if variant.of_what_is_left:
            returns, given = alone, alone
        else:
            given = adv.token_rewards(batch.rewards, torch.zeros_like(batch.mask), batch.mask, 0.0)
            returns = adv.gae(given, torch.zeros_like(batch.mask), batch.mask, 1.0, 1.0)
        moments = masked_moments(returns, batch.mask)
        if number == 0:
            critic.update_scale(moments)
        with torch.no_grad():
            values = critic.scale.to_raw(critic(batch.states)) * batch.mask
        if variant.of_what_is_left:
            advantages = (alone - values) * batch.mask
        else:
            plain = adv.gae(given, values, batch.mask, 1.0, 1.0)
            advantages = adv.group_centred(plain, given, values, batch.mask, batch.groups, 1.0)
        explained = float(adv.explained_variance(values, returns, batch.mask))
        figures.append((explained, float(advantages.square().sum() / alone.square().sum())))
        if number > 0:
            critic.update_scale(moments)
        optimizer.fit(batch.states, values, returns, batch.mask, batch.mask.sum())
    return figures


def main(arguments: Sequence[str]) -> None:
    run = Run(Path(arguments[0]))
    found = list(batches(run))
    print("| critic | explained variance, by thirds | mean square of advantages against the group's alone |")
    print("|---|---|---|")
    for variant in VARIANTS:
        figures = replay(found, variant)
        cuts = [len(figures) * i // THIRDS for i in range(THIRDS + 1)]
        thirds = [figures[a:b] for a, b in pairwise(cuts)]
        shown = [[sum(f[kind] for f in third) / len(third) for third in thirds] for kind in (0, 1)]
        explained, square = (", ".join(f"{x:.2f}" for x in kind) for kind in shown)
        print(f"| {variant.name} | {explained} | {square} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
