"""Base models and tokenizers: from `--model` to weights in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rft_cli.config.schema import ModelConfig
from rft_cli.errors import RftError, UsageError
from rft_cli.runs.model_source import ModelSource, find_model
from rft_cli.training.dropout import quiet_routers, remember_rates, without_dropout
from rft_cli.training.lora import freeze_beside_text
from rft_cli.training.precision import has_bfloat16
from rft_cli.training.quantization import prepare
from rft_cli.training.stop_tokens import declared_ends, give_end


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the left; raises UsageError where there is none."""
    source = find_model(config.path, config.revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            **place_of(source),
            trust_remote_code=config.trust_remote_code,
            padding_side="left",
        )
    # Whatever the library raises: the files are at fault.
    except Exception as error:
        raise not_loadable(f"model {config.path!r}", error, _MODELS) from error
    # Without its files transformers makes an empty tokenizer of the architecture.
    if not tokenizer("a")["input_ids"]:
        raise UsageError(
            f"model {config.path!r} has no tokenizer", "put its tokenizer files beside the weights"
        )
    if tokenizer.eos_token_id is None:
        declared = declared_ends(_generation_config(source), load_config(config))
        give_end(tokenizer, declared, config.path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _generation_config(source: ModelSource) -> GenerationConfig | None:
    """The one beside the weights, where there is one."""
    try:
        return (
            None
            if source.is_gguf
            else GenerationConfig.from_pretrained(source.base, revision=source.revision)
        )
    except OSError:
        return None


def load_config(config: ModelConfig) -> Any:
    """The model's configuration, without its weights."""
    try:
        source = find_model(config.path, config.revision)
        return AutoConfig.from_pretrained(**place_of(source), trust_remote_code=config.trust_remote_code)
    except Exception as error:
        raise not_loadable(f"model {config.path!r}", error, _MODELS) from error


def load_policy(
    source: ModelSource, config: ModelConfig, dtype: torch.dtype, quantization: Any = None
) -> PreTrainedModel:
    """The model as it trains: without dropout and routers' noise, only what reads text trainable."""
    own = load_config(config)
    model = load_model(source, config, dtype, without_dropout(own), quantization)
    if quantization is not None:
        prepare(model)
    remember_rates(model, own)
    freeze_beside_text(model)
    quiet_routers(model)
    return model


def load_model(
    source: ModelSource,
    config: ModelConfig,
    dtype: torch.dtype,
    architecture: Any = None,
    quantization: Any = None,
) -> PreTrainedModel:
    """The weights on the CPU, adapters merged in; raises UsageError where they can't be read.

    `architecture`: the configuration to build the model from; the checkpoint's own where it is None.
    `quantization`: bitsandbytes's settings; the weights are then on the GPU where there is one.
    """
    extra: dict[str, Any] = {} if config.attention is None else {"attn_implementation": config.attention}
    if architecture is not None:
        extra["config"] = architecture
    if quantization is not None:
        extra["quantization_config"] = quantization
    # transformers before 5.23 unpacks every file.
    unpacked = getattr(transformers, "GgufConfig", None)
    if source.is_gguf and unpacked is not None:
        extra["quantization_config"] = unpacked(dequantize=True)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            **place_of(source),
            trust_remote_code=config.trust_remote_code,
            dtype=dtype,
            output_loading_info=True,
            **extra,
        )
        _check_complete(config.path, found["missing_keys"])
        if source.is_gguf:
            _forget_gguf(model, source.base)
        for adapter in source.adapters:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except Exception as error:
        raise not_loadable(f"model {config.path!r}", error, _MODELS) from error
    # PEFT leaves the weights that it merged into frozen; 4 bits have no gradient.
    if quantization is None:
        model.requires_grad_(True)
    return model


def place_of(source: ModelSource) -> dict[str, Any]:
    """Where `from_pretrained` finds it."""
    if source.is_gguf:
        file = Path(source.base)
        return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    return {"pretrained_model_name_or_path": source.base, "revision": source.revision}


def _forget_gguf(model: Any, file: str) -> None:
    """Mark weights read from GGUF as plain numbers: transformers would refuse to save them."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None
    # An adapter names this as its base.
    model.config.name_or_path = model.name_or_path = file


def _check_complete(model: str, missing: Iterable[str]) -> None:
    """UsageError where the files lack weights, which transformers would initialise. Tied ones are not missing."""
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UsageError(
            f"model {model!r} lacks weights: its files hold no {', '.join(names[:3])}{more}",
            "take a checkpoint of the whole language model, head included",
        )


def weights_dtype(setting: str, lora: bool, device: torch.device, parameters: int = 0) -> torch.dtype:
    """fp32 for weights that are trained: with 16 bits, small updates would be rounded away. A base that is frozen under
    LoRA takes the setting; auto is bf16 where `has_bfloat16` is true."""
    if not lora:
        return torch.float32
    if setting != "auto":
        return getattr(torch, setting)
    return torch.bfloat16 if has_bfloat16(device.type, parameters) else torch.float32


def count_parameters(model: torch.nn.Module, trained: bool = False) -> int:
    """How many numbers the model has, or of them those that are `trained`, over all processes that share it."""
    return sum(_numbers(p) for p in model.parameters() if p.requires_grad or not trained)


def _numbers(parameter: torch.nn.Parameter) -> int:
    if hasattr(parameter, "ds_numel"):
        # ZeRO-3 has partitioned it
        return int(parameter.ds_numel)
    # bitsandbytes packs two numbers into a byte
    packed = 2 * parameter.element_size() if hasattr(parameter, "quant_state") else 1
    return parameter.numel() * packed


def context_length(config: Any) -> int:
    """Longest sequence the model was made for; 2048 where its configuration does not say."""
    text = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 2048)


_MODELS = (
    "give a directory with config.json and weights, a hub id that is downloaded or reachable, or builtin/tiny"
)


def not_loadable(what: str, error: Exception, fix: str) -> RftError:
    """The error for a user; rft's own errors, a signal's for one, pass unchanged."""
    if isinstance(error, RftError):
        return error
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # transformers has printed which.
    if "ignore_mismatched_sizes" in first:
        first = "the shapes of its weights are not those that its configuration says"
    return UsageError(f"{what} can't be loaded: {first}", fix)
