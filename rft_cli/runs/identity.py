"""What a base model is, in one short text: the same text means the same weights. No network is asked.

A hub model is its commit. A directory is a SHA-256 over its files' names, sizes and contents; of a file over 16 MiB
the contents are 64 blocks of 64 KiB, first and last included, so that hours of training do not begin with minutes of
reading: other weights are seen, a single changed byte in a large file may not be.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from rft_cli.runs.run import Run, is_run

BUILTIN = Path(__file__).parent.parent / "builtin"
WHOLE = 16 * 2**20
"""Bytes up to which a file is read whole."""
BLOCKS, BLOCK = 64, 64 * 2**10
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTS = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py")
"""Endings of files that a model is made of; a README or a picture beside them makes no other model."""


def base_identity(model: str, revision: str | None) -> str | None:
    """What `model.path` names now; None where that can't be said without loading it."""
    if model.startswith("builtin/"):
        return _of_directory(BUILTIN / model.removeprefix("builtin/"))
    folder = Path(model).expanduser()
    if is_run(folder):
        run = Run.open(folder)
        best = run.best_checkpoint()
        base = base_identity(str(run.info.get("model")), None)
        return base if best is None else _joined(_of_directory(best), base)
    if (folder / "adapter_config.json").is_file():
        return _joined(_of_directory(folder), base_identity(_base_of(folder), None))
    return _of_directory(folder) if folder.is_dir() else _of_hub(model, revision)


def _joined(adapter: str | None, base: str | None) -> str | None:
    return adapter if base is None else f"{adapter} on {base}"


def _base_of(adapter: Path) -> str:
    try:
        record = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return str(record["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # told when the model is loaded


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
