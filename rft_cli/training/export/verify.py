"""An export, loaded with plain transformers and PEFT, and compared with what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rft_cli.config import RunConfig
from rft_cli.errors import RunFailed
from rft_cli.runs.exports import ExportPlan
from rft_cli.runs.model_source import ModelSource
from rft_cli.training.export.cast import LORA, fingerprints
from rft_cli.training.export.compare import GreedyCompletions, LogitDistance, distance
from rft_cli.training.models import count_parameters
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import Example

TOLERANCE = 1e-4
"""Largest difference of two logits, over the largest logit. Both models compute in float32, whatever their weights are
stored in: in half precision rounding alone makes logits of the same weights differ by more than damage would."""

Ask = Callable[[Any], GreedyCompletions]


@dataclass(frozen=True, slots=True)
class Verified:
    """What the reloaded export was compared with, and the result; `from_float32`: what a cast changed."""

    prompts: int
    completions_equal: int
    max_logit_difference: float
    relative_difference: float
    tolerance: float
    compared_with: str
    from_float32: LogitDistance | None


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, as it was in memory.

    `expected` is `checkpoint`'s answers or, after a cast to `dtype`, those of the rounded weights. `weights` has the
    fingerprints of each class that must load from the files; the first one is what AutoModelForCausalLM takes.
    """

    checkpoint: GreedyCompletions
    expected: GreedyCompletions
    dtype: str
    weights: dict[type, dict[str, str]]


def check_files(
    plan: ExportPlan,
    folder: Path,
    config: RunConfig,
    examples: Sequence[Example],
    prompts: Sequence[Sequence[int]],
    stop: Sequence[int],
) -> None:
    """Tokenizer, chat template and generation_config.json, read back.

    Raises RunFailed where the tokenizer gives other ids than `prompts`, or completions end at other ids than `stop`.
    """
    trust = config.model.trust_remote_code
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    if PromptEncoder.of(tokenizer, config).encode(examples) != list(prompts):
        raise mismatch(plan, "its tokenizer gives other ids for the validation prompts")
    written = GenerationConfig.from_pretrained(folder).eos_token_id
    stops = written if isinstance(written, list) else [written]
    if set(stops) != set(stop):
        raise mismatch(plan, f"generation_config.json ends completions at {stops}, not at {list(stop)}")


def check_merged(
    plan: ExportPlan, folder: Path, written: Written, ask: Ask, trust_remote_code: bool
) -> Verified:
    """The whole model, by each class that must load it: the same bits and, in float32, the same completions."""
    found: list[LogitDistance] = []
    plain: GreedyCompletions | None = None
    trust = {"trust_remote_code": trust_remote_code}
    for number, (cls, weights) in enumerate(written.weights.items()):
        loader: Any = AutoModelForCausalLM if number == 0 else cls
        model = loader.from_pretrained(folder, **trust)
        if type(model).__name__ != cls.__name__:
            raise mismatch(plan, f"it loads as {type(model).__name__}, not as {cls.__name__}")
        if dtype_name(model.dtype) != written.dtype:
            raise mismatch(plan, f"it loads in {dtype_name(model.dtype)}, not in {written.dtype}")
        changed = _changed(weights, fingerprints(model))
        if written.dtype != "float32":
            if number == 0:
                plain = ask(placed(model))
                if not (plain.finite and written.expected.finite):
                    raise RunFailed(
                        f"the model does not fit into {written.dtype}: it overflows", "take another --dtype"
                    )
            # What is not saved may be rounded in it: float32 is read again from the files.
            del model
            model = loader.from_pretrained(folder, dtype=torch.float32, **trust)
        found.append(_compared(plan, written, ask(placed(model)), changed))
        del model
    return _verified(written, max(found, key=lambda apart: apart.relative), plain)


def check_adapter(
    plan: ExportPlan, folder: Path, base: ModelSource, written: Written, ask: Ask, trust_remote_code: bool
) -> Verified:
    """The adapter over its base, both in float32: adapters are applied in it, whatever they are stored in."""
    model = AutoModelForCausalLM.from_pretrained(
        base.base, revision=base.revision, dtype=torch.float32, trust_remote_code=trust_remote_code
    )
    over = PeftModel.from_pretrained(model, str(folder))
    (weights,) = written.weights.values()
    changed = _changed(weights, fingerprints(over, LORA))
    answers = ask(placed(over))
    return _verified(written, _compared(plan, written, answers, changed), answers)


def _changed(written: dict[str, str], found: dict[str, str]) -> list[str]:
    """The weights that are not the same in both."""
    return [name for name in {**written, **found} if written.get(name) != found.get(name)]


def _compared(
    plan: ExportPlan, written: Written, answers: GreedyCompletions, changed: Sequence[str]
) -> LogitDistance:
    """Greedy completions may differ where two tokens tie within the tolerance: the logits decide, equality is
    reported. Weights that these prompts do not use are compared by their bits."""
    apart = distance(written.expected, answers)
    which = f"; {len(changed)} of its weights differ, the first is {changed[0]}" if changed else ""
    if not apart.relative <= TOLERANCE:
        raise mismatch(
            plan, f"reloaded, it answers otherwise: {said(apart)} (allowed {TOLERANCE:.0e}){which}"
        )
    if changed:
        raise mismatch(plan, f"reloaded, it answers the same here{which}")
    return apart


def _verified(written: Written, apart: LogitDistance, plain: GreedyCompletions | None) -> Verified:
    cast = written.expected is not written.checkpoint
    return Verified(
        prompts=apart.prompts,
        completions_equal=apart.equal,
        max_logit_difference=apart.absolute,
        relative_difference=apart.relative,
        tolerance=TOLERANCE,
        compared_with=f"the checkpoint, cast to {written.dtype}" if cast else "the checkpoint",
        from_float32=distance(written.checkpoint, plain) if cast and plain is not None else None,
    )


def mismatch(plan: ExportPlan, what: str) -> RunFailed:
    """The error of an export that is not the run's model."""
    return RunFailed(
        f"the export of step {plan.step} is not the model of the run: {what}; nothing was left at {plan.target}",
        "check the disk, and the library versions against those in run.json; then export again",
    )


def said(apart: LogitDistance) -> str:
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
