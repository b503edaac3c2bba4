"""How long rft's PPO trains until its validation reward is high enough; and what TRL's side shares for that.

    python -m benchmarks.reach CONFIG_JSON WORK_JSON

WORK has `target` (mean validation reward), `cap` (seconds of training) and `every` (rollout batches between
validations). Prints one JSON object: whether and after how many seconds of training the target was reached, and the
curve. Validations, the same for both sides, stop the clock; loading the model is before it starts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, PrinterCallback

from benchmarks.rounds import Over, Reach
from benchmarks.side import Channel
from rft_cli.config import RunConfig
from rft_cli.grading.open import open_grader
from rft_cli.grading.protocol import Grader
from rft_cli.report.estimates import estimate
from rft_cli.training.models import stop_tokens
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.sampling import SamplingSettings
from rft_cli.training.rollouts.validation import Validator
from rft_cli.types import Example

Validation = Callable[[Any, Sequence[Example]], float]
"""A model and the validation rows -> mean reward."""


def validation(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    max_new_tokens: int,
    accelerator: Any,
    grader: Grader,
) -> Validation:
    """rft's validation loop with its default sampling settings and seed, for the models of both sides."""
    validator = Validator(
        accelerator=accelerator,
        encoder=PromptEncoder.of(tokenizer, config),
        grader=grader,
        settings=SamplingSettings(
            max_new_tokens=max_new_tokens,
            temperature=config.validation.temperature,
            top_p=config.validation.top_p,
            stop=tuple(stop_tokens(model.config, None, tokenizer)),
            pad=int(tokenizer.pad_token_id),
        ),
        samples_per_prompt=1,
        batch_size=100,
        seed=config.validation.seed,
    )
    return lambda model, examples: estimate(validator.run(model, examples)).mean


def report(channel: Channel, reach: Reach, completions: int) -> None:
    """Answer with the curve as (completions, seconds, reward); `completions` are sampled in one trainer step."""
    curve = [
        (steps * completions, round(seconds, 3), round(reward, 4)) for steps, seconds, reward in reach.curve
    ]
    channel.say(reached=reach.reached, seconds=curve[-1][1], curve=curve)


def command() -> None:
    """See the module's docstring."""
    from benchmarks.trainers import load, ours

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("work")
    options = parser.parse_args()
    work = json.loads(options.work)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(options.config, folder)
        config, channel = loaded.job.config, Channel()
        with open_grader(config.grader, log_path=Path(folder) / "grader.log", seed=config.seed) as grader:
            trainer = ours(loaded, grader)
            trainer.remove_callback(PrinterCallback)
            limit = loaded.resolved.max_completion_tokens
            run = validation(
                config, loaded.lengths.tokenizer, trainer.model, limit, trainer.accelerator, grader
            )
            reach = Reach(
                lambda: run(trainer.model, loaded.job.validation.examples),
                work["every"] * loaded.steps,
                work["target"],
                work["cap"],
            )
            trainer.add_callback(reach)
            try:
                trainer.train()
            except Over:
                report(channel, reach, loaded.completions // loaded.steps)


if __name__ == "__main__":
    command()
