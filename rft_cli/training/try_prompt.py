"""One prompt, asked of a run's base and of its best model, as the run asked its rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rft_cli.config import RunConfig
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.model_source import find_model, tuned_source
from rft_cli.training import memory
from rft_cli.training.auto import LengthLimits
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.models import context_length, load_config, load_model, load_tokenizer, weights_dtype
from rft_cli.training.resolve import limit_of
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.sampling import SamplingSettings, sample
from rft_cli.training.stop_tokens import stop_tokens
from rft_cli.types import Example, Source


@dataclass(frozen=True, slots=True)
class Tried:
    """What one model wrote: `model` is base or tuned; `seconds` are those of sampling."""

    model: str
    completion: str
    tokens: int
    truncated: bool
    seconds: float


def try_prompt(run: Run, config: RunConfig, prompt: str) -> Iterator[Tried]:
    """The base's completion, then that of the run's best model, where there is one.

    Template, system message, temperature, limit and seed are those of the run's validation. UsageError for a prompt
    that leaves no room.
    """
    quiet_libraries()
    tokenizer = load_tokenizer(config.model)
    encoder = PromptEncoder.of(tokenizer, config)
    example = Example("prompt", prompt, {}, Source("the prompt", 1), system=config.data.system)
    [ids] = encoder.encode([example])
    context = context_length(load_config(config.model))
    if len(ids) >= context:
        raise UsageError(f"the prompt has {len(ids)} tokens; the model's context is {context}", "shorten it")
    limit = limit_of(config, LengthLimits(context, len(ids)), run.read_pilot()).value
    sources = {"base": find_model(config.model.path, config.model.revision)}
    best = run.best_checkpoint()
    if best is not None:
        sources["tuned"] = tuned_source(best, config.model.path, config.model.revision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, source in sources.items():
        model = load_model(source, config.model, weights_dtype(config.model.dtype, True, device))
        stop = tuple(stop_tokens(model.config, model.generation_config, tokenizer))
        settings = SamplingSettings(
            max_new_tokens=min(limit, context - len(ids)),
            temperature=config.validation.temperature,
            top_p=config.validation.top_p,
            stop=stop,
            pad=int(tokenizer.pad_token_id),
        )
        with memory.explain(memory.WEIGHTS):
            placed = model.to(device).eval()
        started = time.monotonic()
        with memory.explain(memory.SAMPLING):
            [found] = sample(placed, [ids], settings, config.validation.seed)
        text = encoder.begun(example) + str(tokenizer.decode(found, skip_special_tokens=True))
        yield Tried(name, text, len(found), found[-1] not in stop, time.monotonic() - started)
        del model, placed
