"""The files of an export that are the base's own, and the base's own class around a tuned text model."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import cached_file

from rft_cli.errors import UsageError
from rft_cli.runs.model_source import ModelSource

DTYPE_KEYS = ("dtype", "torch_dtype")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""Files that prepare images, sounds and videos, which training does not change."""


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A base as its files describe it: config.json and generation_config.json as plain JSON."""

    source: ModelSource
    config: dict[str, Any]
    generation: dict[str, Any]
    trust_remote_code: bool

    def whole_class(self, text: Any) -> type[PreTrainedModel] | None:
        """The class that holds more than the trained model `text`, such as a vision tower; None where it is the same.

        UsageError where config.json names one that can't be written.
        """
        names = self.config.get("architectures") or []
        if type(text).__name__ in names or "text_config" not in self.config:
            return None
        own: Any = type(AutoConfig.from_pretrained(self.source.base, **self._where()))
        if type(text.config) is own:
            return None
        found: Any = getattr(transformers, names[0], None) if names else None
        if getattr(found, "config_class", None) is not own:
            raise UsageError(
                f"{self.source.base} is a {' or '.join(names) or own.__name__}, of which {type(text).__name__} was "
                "trained, and rft can't put it back",
                "export the adapter with --format adapter, where LoRA was trained",
            )
        whole: type[PreTrainedModel] = found
        return whole

    def around(self, text: Any, whole: type[PreTrainedModel], dtype: torch.dtype) -> Any:
        """The base in its own class, with the weights of `text` in place of its own text model's."""
        model: Any = whole.from_pretrained(self.source.base, dtype=dtype, **self._where())
        _put(text, model)
        return model.eval()

    def write(self, folder: Path, architecture: str, dtype: str) -> None:
        """config.json and what prepares other input than text, as the base has them; `dtype` is the weights'."""
        config = _in_dtype(self.config, dtype)
        # The weights were read into plain numbers.
        config.pop("quantization_config", None)
        if not any(key in config for key in DTYPE_KEYS):
            config["dtype"] = dtype
        if architecture not in (config.get("architectures") or []):
            config["architectures"] = [architecture]
        write_json(folder / "config.json", config)
        for name in PROCESSOR_FILES:
            file = _file(self.source, name)
            if file is not None:
                shutil.copyfile(file, folder / name)

    def _where(self) -> dict[str, Any]:
        return {"revision": self.source.revision, "trust_remote_code": self.trust_remote_code}


def read_base(source: ModelSource, trust_remote_code: bool) -> BaseFiles | None:
    """None where the base is out of reach or has no config.json."""
    config = _read_json(source, "config.json")
    if config is None:
        return None
    generation = _read_json(source, "generation_config.json")
    if generation is None:
        known = ("bos_token_id", "eos_token_id", "pad_token_id")
        generation = {key: config[key] for key in known if config.get(key) is not None}
    # It has stop tokens of its own now.
    generation.pop("_from_model_config", None)
    return BaseFiles(source, config, generation, trust_remote_code)


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(source: ModelSource, name: str) -> dict[str, Any] | None:
    file = _file(source, name)
    content = None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else None


def _file(source: ModelSource, name: str) -> str | None:
    """A file of a directory or of the hub; None where there is none."""
    try:
        found: str | None = cached_file(
            source.base,
            name,
            revision=source.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    # No such model, or not reachable.
    except OSError:
        return None
    return found


def _in_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """`config` with every precision in it, also in its parts, set to `dtype`."""
    return {
        key: dtype if key in DTYPE_KEYS else _in_dtype(value, dtype) if isinstance(value, dict) else value
        for key, value in config.items()
    }


def _put(text: Any, whole: Any) -> None:
    """Copy the weights of `text` into the text model of `whole`."""
    same = [module for module in whole.modules() if type(module) is type(text)]
    if len(same) == 1:
        same[0].load_state_dict(text.state_dict())
        return
    body = [module for module in whole.modules() if type(module) is type(text.base_model)]
    heads = whole.get_output_embeddings(), text.get_output_embeddings()
    if len(body) != 1 or None in heads:
        raise UsageError(
            f"rft can't tell where {type(text).__name__} belongs in {type(whole).__name__}",
            "export the adapter with --format adapter, where LoRA was trained",
        )
    body[0].load_state_dict(text.base_model.state_dict())
    heads[0].load_state_dict(heads[1].state_dict())
