"""TRL 1.12.0's PPOTrainer as a side of a benchmark: run by the interpreter of `benchmarks.trl_env`.

    python -m benchmarks.trl_ppo rounds|reach CONFIG_JSON WORK_JSON

WORK has `tokens` (completion length), `batch` (completions), `minibatches`, `passes`, `learning_rate`; for `reach`
also `target`, `cap` and `every`, as in `benchmarks.reach`.

What speaks for TRL: its value model is the architecture it asks for, started from the policy's weights, but its reward
model is a lookup of our scorer's grade that costs no forward pass; rollouts are generated in one batch (its default is
chunks of 64), without gradient checkpointing and mixed precision (its defaults, slower on a CPU) and without sample
generations. Where rft and TRL have the same setting (KL, clip range, discount, GAE), TRL gets rft's value; its data set
holds every row `group` times, so that its batches are of the same kind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset as HfDataset
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase, PrinterCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

from benchmarks.reach import report, validation
from benchmarks.rounds import Over, Reach, Rounds
from benchmarks.side import Channel
from rft_cli.config import RunConfig
from rft_cli.grading.open import open_grader
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job, load_job
from rft_cli.runs.model_source import find_model
from rft_cli.training import auto
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.models import count_parameters, load_model, load_tokenizer
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import GradeRequest


class GradeLookup(nn.Module):
    """Our scorer in the place of TRL's reward model: `base` is called for hidden states, `score` for their rewards."""

    base_model_prefix = "base"

    def __init__(self, grader: Grader, job: Job, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self._grader, self._tokenizer = grader, tokenizer
        self._examples = dict(
            zip(
                map(tuple, PromptEncoder.of(tokenizer, job.config).encode(job.train.examples)),
                job.train.examples,
                strict=True,
            )
        )
        self._lengths = sorted({len(ids) for ids in self._examples})
        self.score = nn.Identity()

    def base(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        """Every position of a row gets the grade of its completion; TRL reads the last one."""
        requests = [
            self._request(ids[seen].tolist()) for ids, seen in zip(input_ids, attention_mask, strict=True)
        ]
        rewards = [g.reward if g.reward is not None else 0.0 for g in self._grader.grade(requests)]
        states = torch.tensor(rewards, device=input_ids.device).view(-1, 1, 1).expand(*input_ids.shape, 1)
        return SimpleNamespace(hidden_states=[states])

    def _request(self, ids: Sequence[int]) -> GradeRequest:
        """Split a row without padding into prompt and completion: no prompt is the beginning of another."""
        length = next(n for n in self._lengths if tuple(ids[:n]) in self._examples)
        text = self._tokenizer.decode(ids[length:], skip_special_tokens=True)
        return GradeRequest(str(text), self._examples[tuple(ids[:length])].fields, {})


def build(config: RunConfig, job: Job, work: dict[str, Any], grader: Grader, output_dir: str) -> PPOTrainer:
    """The trainer as its documentation says, full fine-tuning."""
    source = find_model(config.model.path)
    tokenizer = load_tokenizer(config.model)
    policy = load_model(source, config.model, torch.float32)
    value = AutoModelForSequenceClassification.from_pretrained(source.base, num_labels=1, dtype=torch.float32)
    prompts = PromptEncoder.of(tokenizer, job.config).encode(job.train.examples)
    rows = [ids for ids in prompts for _ in range(config.rollout.group_size)]
    gpu = torch.cuda.is_available()
    args = PPOConfig(
        output_dir=output_dir,
        seed=config.seed,
        per_device_train_batch_size=work["batch"],
        gradient_accumulation_steps=1,
        num_mini_batches=work["minibatches"],
        num_ppo_epochs=work["passes"],
        local_rollout_forward_batch_size=work["batch"],
        response_length=work["tokens"],
        stop_token=None if work.get("fixed_length") else "eos",
        temperature=auto.temperature(config.rollout.temperature, count_parameters(policy)).value,
        total_episodes=1_000_000 * work["batch"],
        learning_rate=work["learning_rate"],
        lr_scheduler_type="constant",
        kl_coef=config.ppo.kl_coef,
        cliprange=config.ppo.clip_low,
        gamma=config.ppo.gamma,
        lam=config.ppo.lambda_policy,
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not gpu,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    return PPOTrainer(
        args=args,
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=GradeLookup(grader, job, tokenizer),
        value_model=value,
        train_dataset=HfDataset.from_dict({"input_ids": rows}),
    )


def command() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("rounds", "reach"))
    parser.add_argument("config")
    parser.add_argument("work")
    options = parser.parse_args()
    config = RunConfig.model_validate(json.loads(options.config))
    work = json.loads(options.work)
    job = load_job(config)
    quiet_libraries()
    channel = Channel()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_grader(config.grader, log_path=Path(folder) / "grader.log", seed=config.seed) as grader,
    ):
        trainer = build(config, job, work, grader, folder)
        trainer.remove_callback(PrinterCallback)
        try:
            if options.mode == "rounds":
                trainer.add_callback(Rounds(channel, work["rollouts"]))
                channel.say(ready=True)
                trainer.train()
            else:
                run = validation(
                    config,
                    trainer.processing_class,
                    trainer.policy_model,
                    work["tokens"],
                    trainer.accelerator,
                    grader,
                )
                reach = Reach(
                    lambda: run(trainer.policy_model, job.validation.examples),
                    work["every"],
                    work["target"],
                    work["cap"],
                )
                trainer.add_callback(reach)
                trainer.train()
        except Over:
            if options.mode == "reach":
                report(channel, reach, work["batch"])


if __name__ == "__main__":
    command()
