"""The two passes that need most memory, run on tensors without content: sampling a batch, and one update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPast
from trl.trainer.utils import add_fused_lm_head

from rft_cli.training.memory_plan.live_memory import LiveMemory, empty_tensors, without_content
from rft_cli.training.rollouts.backbone import backbone_of, replaced_forward
from rft_cli.training.rollouts.base_trainer import leave_casts_to_autocast
from rft_cli.training.rollouts.shared_prompts import Distinct, cache_of_rows, run_prompts


@dataclass(frozen=True, slots=True)
class PassSizes:
    """What one process computes. Tokens are those of the longest prompt and of a completion at its limit.

    `sampled`: completions sampled at a time; `micro`: completions in one pass of an update; `shares`: whether the
    completions of a prompt run it once (`shared_prompts.py`); `compute`: autocast's type, float32 is none; `quantized`:
    the frozen linear layers are in 4 bits.
    """

    prompt: int
    completion: int
    sampled: int
    micro: int
    group: int
    weights: torch.dtype
    compute: torch.dtype
    checkpointing: bool
    shares: bool
    quantized: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """Bytes. `peak`: most that a pass holds beside weights and gradients; `cache`: keys and values, a part of it.

    `weights`, `trained`: of all parameters, and of those that get gradients; `counts`: how many there are of both.
    `largest_block`: of the embeddings and the largest layer, which FSDP gathers.
    """

    peak: int
    cache: int
    weights: int
    trained: int
    counts: tuple[int, int]
    largest_block: int


class TracedModel:
    """The model as it trains, of tensors without content. Use inside of `opened`."""

    def __init__(self, model: Any, shape: PassSizes, memory: LiveMemory) -> None:
        self.model, self.shape, self.memory = model, shape, memory

    def _pass(self, peak: int, cache: int = 0) -> Pass:
        every = list(self.model.parameters())
        trained = [p for p in every if p.requires_grad]
        packed = _packed(self.model) if self.shape.quantized else []
        weights = _bytes(every) if not packed else _bytes_in_4_bits(every, packed)
        # bitsandbytes unpacks one layer at a time for its product.
        unpacked = max((p.numel() for p in packed), default=0) * self.shape.compute.itemsize
        return Pass(
            peak + unpacked,
            cache,
            weights,
            _bytes(trained),
            (_count(every), _count(trained)),
            _largest_block(self.model),
        )

    @contextmanager
    def _measured(self, inputs: int) -> Iterator[None]:
        """Restart the peak; `inputs` is what the block's own arguments hold already."""
        self.memory.peak = self.memory.live - inputs
        with torch.autocast("cpu", self.shape.compute, enabled=self.shape.compute != torch.float32):
            yield

    @torch.no_grad()
    def sampling(self) -> Pass:
        """The prompts' pass, and the last token's, when the cache is largest."""
        shape, backbone = self.shape, backbone_of(self.model)
        self.model.eval()
        before = self.memory.live
        ids = torch.zeros(shape.sampled, shape.prompt, dtype=torch.long)
        with self._measured(ids.nbytes):
            cache = _prompts_cache(backbone, ids, shape)
            prompts = self.memory.peak
            attention = torch.ones(shape.sampled, shape.prompt + shape.completion, dtype=torch.long)
            # All tokens but the last at once: what this pass holds itself does not count.
            rest = torch.zeros(shape.sampled, shape.completion - 1, dtype=torch.long)
            backbone(input_ids=rest, attention_mask=attention[:, :-1], past_key_values=cache, use_cache=True)
            self.memory.restart()
            output = self.model(
                input_ids=rest[:, :1],
                attention_mask=attention,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            # As transformers samples: in float32, divided by the temperature.
            scores = output.logits[:, -1].float() / 0.7
            torch.multinomial(torch.softmax(scores, dim=-1), 1)
            held = sum(layer.keys.nbytes + layer.values.nbytes for layer in _layers(cache))
        return self._pass(max(prompts, self.memory.peak) - before, held)

    def update(self) -> Pass:
        """Forward and backward of a micro-batch."""
        self.model.train()
        if self.shape.checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        peak = self._one_update()
        # Gradients come late in a first pass; in the next ones of a step they are there from the beginning.
        return self._pass(peak if hasattr(self.model, "peft_config") else self._one_update())

    def _one_update(self) -> int:
        shape, backbone = self.shape, backbone_of(self.model)
        before = self.memory.live
        ids = torch.zeros(shape.micro, shape.prompt + shape.completion, dtype=torch.long)
        run = _shared if shape.shares and not shape.checkpointing else _whole

        def states(forward: Any, **inputs: Any) -> BaseModelOutputWithPast:
            found = run(backbone, forward, shape, inputs)
            return BaseModelOutputWithPast(last_hidden_state=found.reshape(1, -1, found.size(-1)))

        with self._measured(ids.nbytes):
            with replaced_forward(backbone, states):
                output = self.model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    shift_labels=ids[:, -shape.completion :].reshape(1, -1),
                    fused_lm_head=True,
                )
            output.log_probs.sum().backward()
        return self.memory.peak - before


@contextmanager
def opened(config: Any, shape: PassSizes, adapter: Any, trust_remote_code: bool) -> Iterator[TracedModel]:
    """The model that a configuration describes. `adapter`: makes PEFT's configuration for a model, or is None."""
    with init_empty_weights(include_buffers=True):
        model = AutoModelForCausalLM.from_config(
            config, dtype=shape.weights, trust_remote_code=trust_remote_code
        )
    model.tie_weights()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if adapter is not None:
        settings: PeftLoraConfig = adapter(model)
        model = get_peft_model(model, settings, low_cpu_mem_usage=True)
    if shape.compute != torch.float32:
        leave_casts_to_autocast(model)
    with without_content() as memory:
        empty_tensors(model)
        if adapter is not None:
            _adapter_in_float32(model)
            if shape.checkpointing:
                model.enable_input_require_grads()
        yield TracedModel(model, shape, memory)


def _groups(rows: int, size: int) -> Distinct:
    """Rows of which `size` neighbours each share a prompt."""
    where = torch.arange(rows) // size
    return Distinct(torch.arange(0, rows, size), where)


def _prompts_cache(backbone: Any, ids: Tensor, shape: PassSizes) -> Any:
    """Keys and values of the prompts `(B, P)`."""
    if not shape.shares:
        return backbone(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True).past_key_values
    groups = _groups(shape.sampled, shape.group)
    _, cache = run_prompts(backbone, backbone, ids, torch.ones_like(ids), groups)
    cache.batch_select_indices(groups.where)
    return cache


def _layers(cache: Any) -> list[Any]:
    """The layers that hold keys and values; layers of state-space models hold a state that does not grow."""
    layers = getattr(cache, "layers", [])
    return [layer for layer in layers if getattr(layer, "keys", None) is not None]


def _whole(backbone: Any, forward: Any, shape: PassSizes, inputs: dict[str, Any]) -> Tensor:
    states: Tensor = forward(**inputs).last_hidden_state
    return states[:, -shape.completion - 1 : -1]


def _shared(backbone: Any, forward: Any, shape: PassSizes, inputs: dict[str, Any]) -> Tensor:
    """As `shared_prompts.states_before_each_token`, where all completions are equally long."""
    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    groups = _groups(shape.micro, shape.group)
    first, cache = run_prompts(
        backbone, forward, ids[:, : shape.prompt], attention[:, : shape.prompt], groups
    )
    last: Tensor = first.last_hidden_state[groups.where, -1:]
    rest = forward(
        input_ids=ids[:, shape.prompt : -1],
        attention_mask=attention[:, :-1],
        past_key_values=cache_of_rows(cache, groups.where),
        use_cache=True,
    )
    return torch.cat([last, rest.last_hidden_state], dim=1)


def _adapter_in_float32(model: Any) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _bytes(parameters: Sequence[Tensor]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)


NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes of a number in 4 bits: with the scale of each block of 64 in 8 bits, and 32 bits for each 256 of those."""


def _packed(model: Any) -> list[Tensor]:
    """The frozen weights that bitsandbytes quantises: those of linear layers, without the head."""
    layers = (m for m in backbone_of(model).modules() if isinstance(m, nn.Linear))
    return [layer.weight for layer in layers if not layer.weight.requires_grad]


def _bytes_in_4_bits(every: Sequence[Tensor], packed: Sequence[Tensor]) -> int:
    """Bytes of all parameters; those that are not packed are float32, as PEFT prepares them."""
    small = _count(packed)
    return int(small * NF4_BYTES) + 4 * (_count(every) - small)


def _count(parameters: Sequence[Tensor]) -> int:
    return sum(p.numel() for p in parameters)


def _largest_block(model: Any) -> int:
    """Bytes of the embeddings and of the largest layer."""
    layers = [module for module in backbone_of(model).modules() if isinstance(module, nn.ModuleList)][:1]
    blocks = [_bytes(list(block.parameters())) for found in layers for block in found]
    inside = {id(p) for found in layers for p in found.parameters()}
    rest = [p for p in model.parameters() if id(p) not in inside]
    return _bytes(rest) + max(blocks, default=0)
