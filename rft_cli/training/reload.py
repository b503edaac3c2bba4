"""An export loaded as anybody loads it, with transformers and PEFT alone, and compared with what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rft_cli.errors import RunFailed
from rft_cli.runs.exports import ExportPlan
from rft_cli.training.answers import Answers, Distance, distance
from rft_cli.training.models import count_parameters
from rft_cli.training.rollouts.prompts import encode
from rft_cli.types import Example

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
"""Largest difference of two logits, over the largest logit, by the precision in which both models compute."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What the reloaded export was compared with, and what came out; `from_float32` says what a cast cost."""

    prompts: int
    completions_equal: int
    max_logit_difference: float
    relative_difference: float
    tolerance: float
    compared_with: str
    from_float32: Distance | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What the small files must give: the prompts' token ids and the ids that end a completion."""

    prompts: Sequence[Sequence[int]]
    stop: tuple[int, ...]
    trust_remote_code: bool


def check_files(plan: ExportPlan, folder: Path, examples: Sequence[Example], expected: Expected) -> None:
    """Tokenizer, chat template and generation_config.json, read back; RunFailed where one says something else."""
    tokenizer = AutoTokenizer.from_pretrained(folder, **_trust(expected.trust_remote_code))
    if encode(tokenizer, examples) != list(expected.prompts):
        raise mismatch(plan, "its tokenizer gives other ids for the validation prompts")
    written = GenerationConfig.from_pretrained(folder).eos_token_id
    stops = written if isinstance(written, list) else [written]
    if set(stops) != set(expected.stop):
        raise mismatch(
            plan, f"generation_config.json ends completions at {stops}, not at {list(expected.stop)}"
        )


def reload_merged(plan: ExportPlan, folder: Path, dtype: str, trust_remote_code: bool) -> Any:
    """The whole model, in the precision that its own files name."""
    model = AutoModelForCausalLM.from_pretrained(folder, **_trust(trust_remote_code))
    if dtype_name(model.dtype) != dtype:
        raise mismatch(plan, f"it loads in {dtype_name(model.dtype)}, not in {dtype}")
    return placed(model)


def reload_adapter(folder: Path, base: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The adapter over its base in float32."""
    trust = _trust(trust_remote_code)
    model = AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype=torch.float32, **trust)
    return placed(PeftModel.from_pretrained(model, str(folder)))


def verdict(
    plan: ExportPlan, checkpoint: Answers, expected: Answers, found: Answers, computed: str, stored: str
) -> Verified:
    """Compare; `expected` is `checkpoint` itself or, after a cast, what the cast weights answered in memory.

    Greedy completions may part where two tokens tie within the tolerance: the logits decide, equality is reported.
    """
    apart = distance(expected, found)
    tolerance = TOLERANCE[computed]
    if not apart.relative <= tolerance:
        raise mismatch(plan, f"reloaded, it answers otherwise: {said(apart)} (allowed {tolerance:.0e})")
    cast = expected is not checkpoint
    return Verified(
        prompts=apart.prompts,
        completions_equal=apart.equal,
        max_logit_difference=apart.absolute,
        relative_difference=apart.relative,
        tolerance=tolerance,
        compared_with=f"the checkpoint, cast to {stored}" if cast else "the checkpoint",
        from_float32=distance(checkpoint, found) if cast else None,
    )


def mismatch(plan: ExportPlan, what: str) -> RunFailed:
    """The error of an export that is not the run's model."""
    return RunFailed(
        f"the export of step {plan.step} is not the model of the run: {what}; nothing was left at {plan.target}",
        "check the disk, and the library versions against those in run.json; then export again",
    )


def said(apart: Distance) -> str:
    return (
        f"the largest difference of two logits is {apart.absolute:.3g} ({apart.relative:.1e} of the largest logit), "
        f"{apart.equal} of {apart.prompts} greedy completions are equal"
    )


def placed(model: Any) -> Any:
    """The model in eval mode: on the GPU where its weights and as much again fit there, else where it is."""
    if torch.cuda.is_available():
        size = count_parameters(model) * model.dtype.itemsize
        if 2 * size < torch.cuda.mem_get_info()[0]:
            model = model.to("cuda")
    return model.eval()


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _trust(trust_remote_code: bool) -> dict[str, bool]:
    return {"trust_remote_code": True} if trust_remote_code else {}
