"""rft's PPO, or TRL 1.16's GRPOTrainer with the very same arguments, as a side of a benchmark.

    python -m benchmarks.trainers ours|grpo CONFIG_JSON [--rollouts N] [--free-length]

GRPO gets what rft would give it: model, prompts, LoRA, batch, micro-batch, passes, optimizer; beta is 0 and the reward
function calls the scorer in this process. rft's side is the whole trainer as a job runs it: grader processes, the
journal that writes metrics and rollouts; only validations and checkpoints are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.footprint import Footprint
from benchmarks.parts import Parts
from benchmarks.rounds import Over, Rounds
from benchmarks.side import Channel
from rft_cli.config import RunConfig
from rft_cli.events import Event
from rft_cli.grading.open import open_grader
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job, create_run, load_job
from rft_cli.training import build, hf_args, main
from rft_cli.training.hf_args import Resolved
from rft_cli.training.hooks.journal import Journal
from rft_cli.training.hooks.tripwires import TripwireMonitor, Tripwires
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.lora import lora_targets
from rft_cli.training.precision import choose_attention
from rft_cli.training.rollouts.prompts import PromptEncoder, training_rows
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.rollout_trainer import RolloutTrainer
from rft_cli.training.stop_tokens import stop_tokens
from rft_cli.types import Example

ENDLESS = 1_000_000
"""Epochs: the parent says when it has seen enough."""
NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Loaded:
    """A job whose model is in memory; `footprint` measures from there."""

    job: Job
    resolved: Resolved
    lengths: main.Lengths
    model: Any
    footprint: Footprint

    @property
    def steps(self) -> int:
        """Optimizer steps of one rollout batch."""
        return self.resolved.minibatches * self.job.config.ppo.passes

    @property
    def completions(self) -> int:
        """Completions of one rollout batch."""
        return self.resolved.rollout_size(self.job.config.rollout.group_size)


def load(config_json: str, output_dir: str, *, endless: bool = True) -> Loaded:
    """As `rft train` does it, with its auto rules; the run goes to `output_dir`. Endless: the parent ends it."""
    config = RunConfig.model_validate({**json.loads(config_json), "output_dir": output_dir})
    job = load_job(config)
    quiet_libraries()
    state = PartialState(cpu=not torch.cuda.is_available())
    lengths = main.check(job)
    model, resolution = main.load(job, lengths, state, lambda _event: None)
    resolved = resolution.resolved
    if endless:
        resolved = replace(resolved, n_epochs=ENDLESS, max_steps=None, validate_every=ENDLESS)
    return Loaded(job, resolved, lengths, model, Footprint(model))


def quietly(_: Event) -> None:
    """Events that nobody looks at."""


def ours(loaded: Loaded, grader: Grader) -> Any:
    """rft's trainer with its journal."""
    job, config, tokenizer = loaded.job, loaded.job.config, loaded.lengths.tokenizer
    run = create_run(job)
    stop = stop_tokens(loaded.model.config, loaded.model.generation_config, tokenizer)
    reward = GraderReward(grader, job.train.examples, stop, PromptEncoder.of(tokenizer, config))
    rows = training_rows(job.train.examples)
    longest = loaded.lengths.limits.longest_prompt + loaded.resolved.max_completion_tokens
    device = PartialState().device.type
    choose_attention(loaded.model, config.model.attention, device, loaded.resolved.compute, longest)
    trainer = build.build_trainer(
        config, loaded.resolved, tokenizer, loaded.model, str(run.path), reward, rows
    )
    # Without ValidateAndSave: what is timed here is training, not baseline and validations.
    wires = Tripwires(config.tripwires, config.algorithm, loaded.resolved.max_completion_tokens)
    monitor = TripwireMonitor(wires, config.tripwires.action, run, quietly, trainer.accelerator.process_index)
    journal = Journal(run, quietly, trainer.accelerator, config.grader.max_failure_rate, monitor)
    reward.on_graded = journal.on_graded
    trainer.add_callback(journal)
    return trainer


def scorer_of(path: str) -> Callable[..., Any]:
    """The function `score` of a scorer file."""
    spec = importlib.util.spec_from_file_location("scorer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.score  # type: ignore[no-any-return]


def conversations(examples: Sequence[Example]) -> Dataset:
    """What TRL's own trainer is given: it applies the chat template itself."""
    rows = [[dict(message) for message in example.conversation()] for example in examples]
    return Dataset.from_dict({"prompt": rows, "row": list(range(len(examples)))})


def grpo(loaded: Loaded, output_dir: str) -> Any:
    """TRL's own trainer."""
    config, resolved = loaded.job.config, loaded.resolved
    assert config.grader.file is not None
    score, examples = scorer_of(config.grader.file), loaded.job.train.examples

    def reward(completions: Sequence[Any], row: Sequence[int], **_: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
        return [
            float(score(text, dict(examples[number].fields))["reward"])
            for text, number in zip(texts, row, strict=True)
        ]

    return GRPOTrainer(
        model=loaded.model,
        reward_funcs=[reward],
        args=GRPOConfig(
            **hf_args.trainer_arguments(config, resolved, output_dir),
            beta=0.0,
            loss_type="dapo",
            scale_rewards="group",
        ),
        train_dataset=conversations(examples),
        processing_class=loaded.lengths.tokenizer,
        peft_config=hf_args.peft_config(config, lora_targets(loaded.model, config.lora.target_modules))
        if resolved.lora
        else None,
    )


def fix_length(trainer: Any) -> None:
    """Every completion gets exactly as many tokens as the limit allows: no side wins by stopping early."""
    if isinstance(trainer, RolloutTrainer):
        trainer._sampling = replace(trainer._sampling, stop=(NO_TOKEN,))
        return
    limit = trainer.generation_config.max_new_tokens
    trainer.generation_config.min_new_tokens = limit
    trainer.generation_kwargs["min_new_tokens"] = limit


def serve(side: str, loaded: Loaded, output_dir: str, rollouts: int, free_length: bool) -> None:
    """Build the side's trainer and answer until the parent has no more requests."""
    config, channel = loaded.job.config, Channel()
    log = Path(output_dir) / "grader.log"
    with open_grader(config.grader, log_path=log, seed=config.seed) as grader:
        trainer = ours(loaded, grader) if side == "ours" else grpo(loaded, output_dir)
        trainer.remove_callback(PrinterCallback)
        if not free_length:
            fix_length(trainer)
        parts = Parts(trainer, loaded.lengths.tokenizer, loaded.job, loaded.resolved)
        also = {"parts": parts.time, "tokens": lambda: tokens(trainer), "memory": loaded.footprint.read}
        trainer.add_callback(Rounds(channel, loaded.steps * rollouts, also))
        channel.say(
            completions=loaded.completions * rollouts,
            tokens=loaded.resolved.max_completion_tokens,
            minibatches=loaded.resolved.minibatches,
            passes=config.ppo.passes,
            batch=loaded.completions,
            group=config.rollout.group_size,
            learning_rate=loaded.resolved.learning_rate,
            parameters=loaded.footprint.parameters,
        )
        try:
            trainer.train()
        except Over:
            return


def tokens(trainer: Any) -> dict[str, Any]:
    """Mean completion length since this was last asked, as TRL counts it."""
    noted = trainer._metrics["train"]["completions/mean_length"] or [
        entry["completions/mean_length"]
        for entry in trainer.state.log_history
        if "completions/mean_length" in entry
    ]
    return {"tokens": noted[-1]}


def command() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("ours", "grpo"))
    parser.add_argument("config")
    parser.add_argument("--rollouts", type=int, default=1)
    parser.add_argument("--free-length", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(options.config, folder)
        serve(options.side, loaded, folder, options.rollouts, options.free_length)


if __name__ == "__main__":
    command()
