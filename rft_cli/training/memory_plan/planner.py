"""Plans a job's memory on one device: what each phase holds, whether that fits, and which settings would make it fit.

Every process holds what stands here; under data parallelism more GPUs share the completions and not the model. FSDP
shares the weights, gradients and moments too, and gathers a block of the model at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rft_cli.config import RunConfig
from rft_cli.errors import UsageError
from rft_cli.report.memory import MemoryPlan, Phase, Remedy
from rft_cli.training import auto, hf_args, precision
from rft_cli.training.build import parameters_of
from rft_cli.training.lora import lora_targets
from rft_cli.training.memory import ADAM_BYTES
from rft_cli.training.memory_plan.passes import Pass, PassSizes, opened
from rft_cli.training.model_checks import MODEL_ERRORS
from rft_cli.training.models import load_config, weights_dtype
from rft_cli.training.resolve import ModelFacts


@dataclass(frozen=True, slots=True)
class Device:
    """What is planned for. `kind`: cuda or cpu; `memory`: bytes of one; `count`: how many, a process on each."""

    kind: str
    memory: int
    count: int = 1

    @property
    def usable(self) -> int:
        """Bytes for tensors: a GPU's own context and fragments of freed memory take the rest."""
        return int(0.95 * self.memory) - (10**9 if self.kind == "cuda" else 0)


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings that decide over memory; a remedy changes one of them."""

    lora: bool
    prompts: int
    group: int
    micro: int
    checkpointing: bool
    completion: int
    sharded: bool = False


class Planner:
    """Plans for one configuration and device. `prompt`: tokens of the longest prompt."""

    def __init__(self, config: RunConfig, device: Device, prompt: int, completion: int) -> None:
        self.config, self.device, self.prompt = config, device, prompt
        self.parameters = parameters_of(config.model)
        self._known: dict[tuple[str, Setup], Pass] = {}
        self.first = self._as_configured(completion)

    def plan(self) -> MemoryPlan:
        """The job as it is configured, and the first settings with which it would fit where it does not."""
        phases = self._phases(self.first)
        parameters, trained = self._update(self.first).counts
        remedy = None if _peak(phases) <= self.device.usable else self._remedy()
        return MemoryPlan(
            model=self.config.model.path,
            parameters=parameters,
            trained=trained,
            device=self.device.kind,
            memory=self.device.memory,
            usable=self.device.usable,
            count=self.device.count,
            phases=phases,
            settings=self._settings(self.first),
            remedy=remedy,
        )

    def _as_configured(self, completion: int) -> Setup:
        config, device = self.config, self.device
        lora = auto.use_lora(config.lora.enabled, self.parameters, config.lora.quantize).value
        prompts = max(device.count, config.rollout.prompts_per_batch // device.count * device.count)
        group = config.rollout.group_size
        sizes = auto.batch_sizes(
            config.optim.micro_batch_size,
            prompts * group,
            config.ppo.minibatches,
            device.count,
            self.parameters,
            device.kind,
        ).value
        facts = ModelFacts(self.parameters, lora, device.kind, device.count, "")
        checkpointing = facts.checkpoints_gradients(config.model.gradient_checkpointing)
        return Setup(lora, prompts, group, sizes.micro, checkpointing, completion)

    def _settings(self, setup: Setup) -> dict[str, Any]:
        """The settings of a setup under their own names."""
        return {
            "lora.enabled": setup.lora,
            "optim.micro_batch_size": setup.micro,
            "model.gradient_checkpointing": setup.checkpointing,
            "rollout.prompts_per_batch": setup.prompts,
            "rollout.group_size": setup.group,
            "rollout.max_completion_tokens": setup.completion,
        }

    # -- what a setup needs ------------------------------------------------------------------------------------------

    def _shape(self, setup: Setup) -> PassSizes:
        kind, dtype = self.device.kind, self.config.model.dtype
        fast = kind == "cuda" or precision.has_bfloat16(kind, self.parameters)
        weights = weights_dtype(dtype, setup.lora, torch.device(kind), self.parameters)
        if kind == "cuda" and setup.lora and dtype == "auto":
            weights = torch.bfloat16
        return PassSizes(
            prompt=self.prompt,
            completion=setup.completion,
            sampled=self._sampled(setup),
            micro=setup.micro,
            group=min(setup.group, setup.micro),
            weights=weights,
            compute=getattr(torch, precision.compute_dtype(dtype, kind, fast)),
            checkpointing=setup.checkpointing,
            shares=not setup.sharded,
            quantized=setup.lora and self.config.lora.quantize != "none",
        )

    def _sampled(self, setup: Setup) -> int:
        """Completions that a process samples at a time: its share of a rollout batch, or of a validation."""
        return setup.prompts * setup.group // self.device.count

    def _sampling(self, setup: Setup) -> Pass:
        """The pass that samples; micro-batches do not matter to it, and its memory is linear in its completions."""
        count = self.device.count
        least, most = (
            replace(setup, micro=1, checkpointing=False, prompts=n) for n in (count, self.first.prompts)
        )
        part = (setup.prompts - least.prompts) / max(1, most.prompts - least.prompts)
        return _between(self._traced("sampling", least), self._traced("sampling", most), part)

    def _update(self, setup: Setup) -> Pass:
        """The update's pass; how many completions are sampled does not matter to it, and it is linear in `micro`."""
        least, most = (replace(setup, prompts=self.device.count, micro=n) for n in (1, self.first.micro))
        part = (setup.micro - 1) / max(1, self.first.micro - 1)
        return _between(self._traced("update", least), self._traced("update", most), part)

    def _traced(self, name: str, setup: Setup) -> Pass:
        if (name, setup) not in self._known:
            self._known[name, setup] = self._trace(name, setup)
        return self._known[name, setup]

    def _trace(self, name: str, setup: Setup) -> Pass:
        def adapter(model: Any) -> Any:
            return hf_args.peft_config(self.config, lora_targets(model, self.config.lora.target_modules))

        shape, model = self._shape(setup), self.config.model
        own = load_config(model)
        compute, tokens = str(shape.compute).removeprefix("torch."), shape.prompt + shape.completion
        if model.attention is not None:
            own._attn_implementation = model.attention
        elif precision.wants_plain_attention(self.device.kind, compute, tokens):
            own._attn_implementation = "eager"
        for shares in (shape.shares, False):
            tried = replace(shape, shares=shares)
            try:
                with opened(own, tried, adapter if setup.lora else None, model.trust_remote_code) as traced:
                    return traced.sampling() if name == "sampling" else traced.update()
            except MODEL_ERRORS as error:
                cause = error
        raise UsageError(
            f"model {model.path!r} ({own.model_type}) can't be planned: its code needs numbers and not only shapes "
            f"({type(cause).__name__})",
            "train it for a step: optim.micro_batch_size=auto is measured on a GPU",
        ) from cause

    def _phases(self, setup: Setup) -> tuple[Phase, ...]:
        sampling, update = self._sampling(setup), self._update(setup)
        shares = self.device.count if setup.sharded else 1
        held = self._held(setup, update)
        return (
            Phase(
                "sampling", {**held, "cache": sampling.cache, "activations": sampling.peak - sampling.cache}
            ),
            Phase("update", {**held, "gradients": update.trained // shares, "activations": update.peak}),
        )

    def _held(self, setup: Setup, model: Pass) -> dict[str, int]:
        """What is there in every phase: the weights, the frozen copy of a full model, the optimizer's moments."""
        shares = self.device.count if setup.sharded else 1
        reference = model.weights if not setup.lora and self._has_reference() else 0
        gathered = model.largest_block if setup.sharded else 0
        return {
            "weights": (model.weights + reference) // shares + gathered,
            "optimizer": model.trained // 4 * ADAM_BYTES // shares,
        }

    def _has_reference(self) -> bool:
        return self.config.algorithm == "ppo" or self.config.ppo.kl_coef > 0

    # -- what would make it fit --------------------------------------------------------------------------------------

    def _remedy(self) -> Remedy | None:
        """The first setup that fits, and that changes as little as it can; None where none does."""
        for setup in self._candidates():
            fitting = self._smaller(setup)
            if fitting is not None:
                before, after = self._settings(self.first), self._settings(fitting)
                changed = {key: value for key, value in after.items() if value != before[key]}
                return Remedy(changed, fitting.sharded, _peak(self._phases(fitting)))
        return None

    def _candidates(self) -> Iterator[Setup]:
        """As configured, with an adapter, with shared weights; then the same for shorter completions."""
        for completion in _halved(self.first.completion, min(auto.LEAST_LIMIT, self.first.completion)):
            for sharded in (False, True) if self.device.count > 1 else (False,):
                for lora in (False, True) if not self.first.lora else (True,):
                    yield replace(self.first, completion=completion, sharded=sharded, lora=lora)

    def _smaller(self, setup: Setup) -> Setup | None:
        """The setup with micro-batches and rollout batches as large as they may be; None where none is small enough.

        Smaller micro-batches compute the same; recomputed activations take time; smaller batches learn otherwise.
        """
        usable, group = self.device.usable, setup.group
        if sum(self._held(setup, self._update(replace(setup, micro=1))).values()) > usable:
            return None
        tried = [setup.checkpointing] if setup.checkpointing else [False, True]
        for checkpointing in tried:
            for micro in _halved(setup.micro, 1):
                smaller = replace(setup, checkpointing=checkpointing, micro=micro)
                if self._phases(smaller)[1].total <= usable:
                    return self._fewer(smaller, group)
        return None

    def _fewer(self, setup: Setup, group: int) -> Setup | None:
        for prompts in _halved(setup.prompts, self.device.count):
            whole = prompts // self.device.count * self.device.count
            fewer = replace(setup, prompts=whole, micro=min(setup.micro, whole * group // self.device.count))
            if _peak(self._phases(fewer)) <= self.device.usable:
                return fewer
        return None


def _halved(value: int, least: int) -> Iterator[int]:
    """The value, its half, and so on, down to `least`."""
    while value >= least:
        yield value
        value //= 2


def _between(least: Pass, most: Pass, part: float) -> Pass:
    """A pass whose bytes lie between those of a small and a large one."""
    peak = least.peak + part * (most.peak - least.peak)
    return replace(most, peak=int(peak), cache=int(least.cache + part * (most.cache - least.cache)))


def _peak(phases: Sequence[Phase]) -> int:
    return max(phase.total for phase in phases)
