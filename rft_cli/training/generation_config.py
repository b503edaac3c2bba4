"""The model's own generation config: ignored in sampling, kept in what is saved.

`generate` fills every field that its caller leaves open from `model.generation_config`. A `min_p`, a beam count or a
list of suppressed tokens in it would change what is sampled, but not how it is scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

FILE = "generation_config.json"


@contextmanager
def blank_generation_config(model: Any) -> Iterator[None]:
    """While open, `model` (PEFT's or not) has an empty generation config."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


def write_generation_config(config: GenerationConfig, folder: Path) -> None:
    """Write it unchecked: transformers refuses to save some that it loads (a temperature without `do_sample`)."""
    config.to_json_file(folder / FILE, use_diff=True)
