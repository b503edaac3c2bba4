"""Identifies a base model by one short text: the same text means the same weights.

A hub model is its commit. A directory, or a GGUF file, is a SHA-256 over its files' names, sizes and contents; of a
file over 16 MiB the contents are 64 blocks of 64 KiB, first and last included, so that hours of training do not begin
with minutes of reading: other weights are seen, a single changed byte in a large file may not be.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from rft_cli.errors import RftError, UsageError
from rft_cli.runs.model_source import ModelSource, find_model

WHOLE = 16 * 2**20
"""Bytes up to which a file is read whole."""
BLOCKS, BLOCK = 64, 64 * 2**10
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTS = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py")
"""Endings of files that a model is made of; a README or a picture does not count."""


def base_identity(model: str, revision: str | None) -> str | None:
    """What `model.path` names now; None if that can't be said without loading it."""
    try:
        source = find_model(model, revision)
    except UsageError:
        # reported when the model is loaded
        return None
    base = Path(source.base)
    parts = [_of_directory(adapter) for adapter in reversed(source.adapters)]
    if source.is_gguf:
        parts.append(_of_files([base], base.parent))
    else:
        parts.append(_of_directory(base) if base.is_dir() else _of_hub(source))
    return " on ".join(part for part in parts if part is not None) or None


def commit_of(model: str, revision: str | None) -> str | None:
    """The commit of the hub model that `model.path` comes down to; None if there is none or it is unknown.

    A branch or tag is looked up as loading does: on the hub, else in the cache. Raises UsageError as `find_model` does.
    """
    source = find_model(model, revision)
    return None if source.is_gguf or Path(source.base).is_dir() else _commit(source)


def _of_hub(source: ModelSource) -> str | None:
    commit = _commit(source)
    return None if commit is None else f"commit {commit}"


def _commit(source: ModelSource) -> str | None:
    if source.revision is not None and _COMMIT.fullmatch(source.revision):
        return source.revision
    import huggingface_hub

    try:
        file = huggingface_hub.hf_hub_download(source.base, "config.json", revision=source.revision)
    except RftError:
        # a signal
        raise
    except Exception:
        # loading the model meets the same error and reports it
        return None
    # .../snapshots/COMMIT/config.json
    commit = Path(file).parent.name
    return commit if _COMMIT.fullmatch(commit) else None


def _of_directory(folder: Path) -> str | None:
    files = sorted(p for p in folder.rglob("*") if p.suffix in _PARTS and p.is_file())
    return _of_files(files, folder) if files else None


def _of_files(files: Sequence[Path], folder: Path) -> str:
    digest = hashlib.sha256()
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
    return f"sha256 {digest.hexdigest()}"
