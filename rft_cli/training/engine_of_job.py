"""The engine of a job with `rollout.engine: vllm`: checked before the model loads, tried before anything trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from accelerate import PartialState

from rft_cli.events import OnEvent
from rft_cli.job import Job
from rft_cli.runs import Run
from rft_cli.stopping import Stop
from rft_cli.training import memory
from rft_cli.training.auto import LengthLimits
from rft_cli.training.context import JobContext
from rft_cli.training.plan import model_facts
from rft_cli.training.rollouts.engines.open import (
    EngineJob,
    check_endpoints,
    opened_engine,
    try_engine,
    uses_engine,
)
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.sampling import SamplingSettings
from rft_cli.training.stop_tokens import stop_tokens

TRIED_ROWS, TRIED_TOKENS = 4, 16
"""Training prompts that the engine is tried on, and tokens of each completion."""


def engine_wanted(
    job: Job, run: Run, limits: LengthLimits, state: PartialState, emit: OnEvent, stop: Stop
) -> EngineJob | None:
    """What the job needs of an engine, None where the trainer's own process samples; servers that run are checked."""
    config = job.config
    if not uses_engine(config):
        return None
    facts, _ = model_facts(config, state.device.type, state.num_processes)
    wanted = EngineJob(config, facts.lora, facts.compute, state.device.type, limits, run, emit, stop)
    check_endpoints(wanted)
    return wanted


@contextmanager
def with_engine(
    context: JobContext, wanted: EngineJob, model: Any, temperature: float
) -> Iterator[JobContext]:
    """The job with its engine, which was tried on a few prompts. `model`: the base, which goes to its device."""
    tokenizer = context.tokenizer
    with opened_engine(wanted, model, tokenizer) as engine:
        with memory.explain(memory.WEIGHTS):
            model.to(PartialState().device)
        encoder = PromptEncoder.of(tokenizer, context.config)
        prompts = encoder.encode(context.job.train.examples[:TRIED_ROWS])
        settings = SamplingSettings(
            max_new_tokens=min(TRIED_TOKENS, wanted.room),
            temperature=temperature,
            top_p=1.0,
            stop=tuple(stop_tokens(model.config, model.generation_config, tokenizer)),
            pad=int(tokenizer.pad_token_id),
        )
        try_engine(wanted, engine, model, prompts, settings)
        yield replace(context, engine=engine)
