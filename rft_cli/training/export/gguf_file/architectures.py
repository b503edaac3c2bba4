"""The architectures that rft writes as GGUF: llama.cpp's name, sizes, and where its layout differs from transformers'.

Names and layouts as llama.cpp's converter and its model loaders have them, build 11028.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType
from numpy.typing import NDArray

from rft_cli.errors import UsageError

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Architecture:
    """`name`: llama.cpp's. `interleaved`: the two halves of each rotation lie side by side in query and key rows.

    `norm_offset`: added to every norm's weight. `one_window`: all layers see the same window.
    """

    name: str
    interleaved: bool = False
    norm_offset: float = 0.0
    one_window: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("llama", interleaved=True),
    "mistral": Architecture("llama", interleaved=True, one_window=True),
    "qwen2": Architecture("qwen2", one_window=True),
    "qwen3": Architecture("qwen3", one_window=True),
    "gemma2": Architecture("gemma2", norm_offset=1.0),
    "gemma3_text": Architecture("gemma3", norm_offset=1.0),
    "phi3": Architecture("phi3", one_window=True),
}
"""transformers' model_type → what llama.cpp makes of it."""


def architecture_of(config: Any) -> Architecture:
    """UsageError for a model that rft does not write as GGUF."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise UsageError(
            f"rft writes no GGUF of a {config.model_type} model (it does of {', '.join(sorted(ARCHITECTURES))})",
            "export whole weights with --format merged; llama.cpp's convert_hf_to_gguf.py may read them",
        )
    kind = rope_of(config).get("rope_type", "default")
    if kind not in ("default", "linear", "llama3"):
        raise UsageError(
            f"rft writes no GGUF of a model with rope_type {kind!r}",
            "export whole weights with --format merged; llama.cpp's convert_hf_to_gguf.py may read them",
        )
    return found


def rope_of(config: Any) -> Mapping[str, Any]:
    """The rotary settings of the layers that see everything."""
    found = config.rope_parameters or {}
    whole: Mapping[str, Any] = found.get("full_attention", found)
    return whole


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def write_sizes(writer: GGUFWriter, config: Any, architecture: Architecture) -> None:
    """The model's sizes and constants."""
    context, window = config.max_position_embeddings, getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    if architecture.one_window and window:
        # llama.cpp has no window for these: within its width there is no difference.
        context = min(context, window)
    size = head_size(config)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_vocab_size(config.vocab_size)
    rope = rope_of(config)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(size * rope.get("partial_rotary_factor", 1.0)))
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if architecture.name.startswith("gemma"):
        _write_gemma(writer, config, window)
    if architecture.name == "phi3":
        writer.add_rope_scaling_orig_ctx_len(
            getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
        )
        # llama.cpp's Phi-3 needs one; 0 is none.
        writer.add_sliding_window(0)


def _write_gemma(writer: GGUFWriter, config: Any, window: int | None) -> None:
    if config.query_pre_attn_scalar != head_size(config):
        raise UsageError(
            f"rft writes no GGUF of a Gemma with query_pre_attn_scalar {config.query_pre_attn_scalar}: llama.cpp "
            "takes the size of a head",
            "export whole weights with --format merged",
        )
    if window:
        writer.add_sliding_window(window)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    layers = [kind == "sliding_attention" for kind in config.layer_types]
    period = window_period(layers)
    if period is None or (config.model_type == "gemma2" and period not in (2, len(layers) + 1)):
        raise UsageError(
            "rft writes no GGUF of a Gemma whose layers with a window come in no fixed order: llama.cpp has none",
            "export whole weights with --format merged",
        )
    if config.model_type == "gemma3_text":
        writer.add_sliding_window_pattern(period)
        local = (config.rope_parameters or {}).get("sliding_attention") or {}
        writer.add_rope_freq_base_swa(local.get("rope_theta", 10000.0))


def window_period(layers: Sequence[bool]) -> int | None:
    """n where every n-th layer sees everything and the others (True) a window; None where it is otherwise."""
    period = layers.index(False) + 1 if False in layers else len(layers) + 1
    wanted = [(place + 1) % period != 0 for place in range(len(layers))]
    return period if wanted == list(layers) else None


def laid_out(name: str, values: Array, config: Any, architecture: Architecture) -> Array:
    """A weight of transformers' `name` as GGUF has it."""
    if architecture.norm_offset and name.endswith("norm.weight"):
        return values + np.float32(architecture.norm_offset)
    if architecture.interleaved:
        if ".q_proj." in name:
            return interleaved(values, config.num_attention_heads)
        if ".k_proj." in name:
            return interleaved(values, config.num_key_value_heads)
    return values


def interleaved(values: Array, heads: int) -> Array:
    """Rows 0, half, 1, half + 1 … of each head, for rows 0, 1 … half, half + 1 …: `(heads * size, …)`."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def rope_factors(config: Any) -> Array | None:
    """What Llama 3 divides each rotary frequency by, `(size / 2,)`; None where nothing is scaled."""
    rope = rope_of(config)
    if rope.get("rope_type") != "llama3":
        return None
    size = head_size(config)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    before = rope["original_max_position_embeddings"]
    factors = []
    for place in range(0, size, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (place / size)
        if wavelength < before / high:
            factors.append(1.0)
        elif wavelength > before / low:
            factors.append(factor)
        else:
            smooth = (before / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)
