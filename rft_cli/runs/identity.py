"""What a base model is, in one short text: the same text means the same weights. No network is asked.

A hub model is its commit. A directory is a SHA-256 over its files' names, sizes and contents; of a file over 16 MiB
the contents are 64 blocks of 64 KiB, first and last included, so that hours of training do not begin with minutes of
reading: other weights are seen, a single changed byte in a large file may not be.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.runs.sources import find_model

WHOLE = 16 * 2**20
"""Bytes up to which a file is read whole."""
BLOCKS, BLOCK = 64, 64 * 2**10
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTS = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py")
"""Endings of files that a model is made of; a README or a picture beside them makes no other model."""


def base_identity(model: str, revision: str | None) -> str | None:
    """What `model.path` names now; None where that can't be said without loading it."""
    try:
        source = find_model(model)
    except UsageError:  # told when the model is loaded
        return None
    base = Path(source.base)
    parts = [_of_directory(adapter) for adapter in reversed(source.adapters)]
    parts.append(
        _of_directory(base)
        if base.is_dir()
        else _of_hub(source.base, revision if source.base == model else None)
    )
    return " on ".join(part for part in parts if part is not None) or None


def _of_hub(model: str, revision: str | None) -> str | None:
    import huggingface_hub

    for name in ("config.json", "adapter_config.json"):
        try:
            cached = huggingface_hub.try_to_load_from_cache(model, name, revision=revision)
        except ValueError:  # no id of the hub's
            return None
        if isinstance(cached, str):
            commit = Path(cached).parent.name  # .../snapshots/COMMIT/config.json
            return f"commit {commit}" if _COMMIT.fullmatch(commit) else None
    return None


def _of_directory(folder: Path) -> str | None:
    digest = hashlib.sha256()
    files = sorted(p for p in folder.rglob("*") if p.suffix in _PARTS and p.is_file())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        with file.open("rb") as content:
            if size <= WHOLE:
                digest.update(content.read())
                continue
            for number in range(BLOCKS):
                content.seek((size - BLOCK) * number // (BLOCKS - 1))
                digest.update(content.read(BLOCK))
    return f"sha256 {digest.hexdigest()}" if files else None
