"""The model's own generation config: kept out of sampling, given back in what is saved.

`generate` fills every field that its caller leaves open from `model.generation_config`. A `min_p`, a beam count or a
list of suppressed tokens in there would bend what is sampled, while scoring knows nothing of it.
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
    """While open, `model.generate` finds a generation config that says nothing; `model` may be PEFT's."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


def write_generation_config(config: GenerationConfig, folder: Path) -> None:
    """Write it as it is: transformers refuses to save some that it loads, a temperature without `do_sample` for one."""
    config.to_json_file(folder / FILE, use_diff=True)
