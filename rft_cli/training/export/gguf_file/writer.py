"""Write a model and its tokenizer as one GGUF file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from rft_cli.errors import RunFailed
from rft_cli.training.export.gguf_file.architectures import (
    Architecture,
    Array,
    architecture_of,
    laid_out,
    rope_factors,
    write_sizes,
)
from rft_cli.training.export.gguf_file.vocabulary import Vocabulary, model_name, write_vocabulary

TYPES: Mapping[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q5_1": (GGMLQuantizationType.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    "q5_0": (GGMLQuantizationType.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "q4_1": (GGMLQuantizationType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
"""How matrices are stored; vectors (norms, biases) stay in float32."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the reward was measured: what llama.cpp samples with when its caller says nothing."""

    temperature: float
    top_p: float


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into a file, beside the weights."""

    name: str
    vocabulary: Vocabulary
    sampling: Sampling
    type: str


def type_of(dtype: torch.dtype) -> str:
    """The type that keeps weights of this precision as they are."""
    return {torch.float16: "f16", torch.bfloat16: "bf16"}.get(dtype, "f32")


def write_gguf(file: Path, model: Any, content: Content) -> None:
    """The file, whole. Raises UsageError for an architecture that GGUF or rft has no names for."""
    config = model.config
    architecture = architecture_of(config)
    writer = GGUFWriter(str(file), architecture.name)
    writer.add_type("model")
    writer.add_name(model_name(content.name, content.vocabulary, architecture.name))
    writer.add_file_type(int(TYPES[content.type][1]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_sampling_temp(content.sampling.temperature)
    writer.add_sampling_top_p(content.sampling.top_p)
    writer.add_sampling_top_k(0)
    writer.add_sampling_min_p(0.0)
    writer.add_sampling_penalty_repeat(1.0)
    write_sizes(writer, config, architecture)
    write_vocabulary(writer, content.vocabulary)
    for name, weight in _weights(model, architecture):
        values = laid_out(name.transformers, weight, config, architecture)
        kind = stored_as(values.shape, content.type)
        if kind == GGMLQuantizationType.F32:
            writer.add_tensor(name.gguf, np.ascontiguousarray(values))
        else:
            packed = np.ascontiguousarray(quantize(values, kind))
            own = None if kind == GGMLQuantizationType.F16 else kind
            writer.add_tensor(name.gguf, packed, raw_dtype=own)
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def stored_as(shape: tuple[int, ...], type: str) -> GGMLQuantizationType:
    """The type of one weight: blocks of 32 must fill its rows, else it is kept in float16."""
    wanted = TYPES[type][0]
    if len(shape) < 2:
        return GGMLQuantizationType.F32
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    return wanted if shape[-1] % block == 0 else GGMLQuantizationType.F16


@torch.no_grad()
def round_as_stored(model: Any, type: str) -> None:
    """Give every weight the value that a file of this type gives back."""
    for name, weight in _weights(model, architecture_of(model.config)):
        kind = stored_as(weight.shape, type)
        if kind != GGMLQuantizationType.F32:
            back = dequantize(quantize(weight, kind), kind).astype(np.float32, copy=False)
            name.tensor.copy_(torch.from_numpy(back))


@dataclass(frozen=True, slots=True)
class Name:
    """A weight's name in both worlds, and the tensor itself."""

    transformers: str
    gguf: str
    tensor: torch.Tensor


def _weights(model: Any, architecture: Architecture) -> Iterator[tuple[Name, Array]]:
    """Every weight with its names and its values in float32; an output layer that is the embedding comes once."""
    config = model.config
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise RunFailed(
                f"GGUF has no name for the weight {name}", "export whole weights with --format merged"
            )
        yield Name(name, found, tensor), tensor.detach().cpu().float().numpy()
