"""A new run directory: filled under a temporary name and then renamed, so that no half-made run is ever seen."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rft_cli.errors import UsageError
from rft_cli.runs.files import finite, fsync_path, write_atomic
from rft_cli.runs.find import SCHEMA_VERSION
from rft_cli.runs.suggested_commands import resume_command

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def check_new(output_dir: str | Path, name: str | None) -> None:
    """Raise UsageError if `create` could not make this run."""
    parent = Path(output_dir).expanduser()
    final = parent / _checked_name(name, datetime.now(UTC), "model", parent)
    if os.path.lexists(final):
        raise _exists(final)
    there = next(folder for folder in (parent, *parent.absolute().parents) if os.path.exists(folder))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"cannot make a run in {parent}", "choose another folder with --output-dir")


def create(
    output_dir: str | Path,
    name: str | None,
    *,
    config_yaml: str,
    info: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Make `output_dir/name` with config.yaml, run.json and `files` (path inside the run -> content).

    Without a name it is `<UTC date-time>-<slug of info["model"]>`, and the next free one where processes start
    together. An existing name is a UsageError, and so is a folder that can't be written.
    """
    parent = Path(output_dir).expanduser()
    now = datetime.now(UTC)
    model = str(info.get("model", "model"))
    final = parent / _checked_name(name, now, model, parent)
    if os.path.lexists(final):
        raise _exists(final)
    draft = parent / f".new-{final.name}-{os.getpid()}-{secrets.token_hex(4)}"
    record = {
        "schema_version": SCHEMA_VERSION,
        "name": final.name,
        "path": str(final.absolute()),
        "status": "created",
        "created": now.isoformat(),
        "finished": None,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "best_step": 0,
        "result": None,
        **info,
    }
    try:
        parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        _fill(draft, config_yaml, record, files or {})
        # made by another process meanwhile
        while not _placed(draft, final):
            if name is not None:
                raise _exists(final)
            final = parent / _checked_name(None, now, model, parent)
            write_info(draft, record | {"name": final.name, "path": str(final.absolute())})
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise UsageError(
            f"cannot make a run in {parent}: {error.strerror}", "choose another folder with --output-dir"
        ) from None
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    fsync_path(parent)
    return final


def write_info(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace the run's run.json."""
    write_atomic(folder / "run.json", json.dumps(finite(record), indent=2) + "\n")


def _fill(draft: Path, config_yaml: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    (draft / "config.yaml").write_text(config_yaml, encoding="utf-8")
    for inside, content in files.items():
        (draft / inside).parent.mkdir(parents=True, exist_ok=True)
        (draft / inside).write_bytes(content)
    for folder in ("rollouts", "validation", "checkpoints"):
        (draft / folder).mkdir()
    write_info(draft, record)


def _placed(draft: Path, final: Path) -> bool:
    """Give the run its name; False if the name is taken."""
    try:
        os.rename(draft, final)
    except OSError:
        if os.path.lexists(final):
            return False
        raise
    return True


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists already", f"choose another --name, or continue it with `{resume_command(path)}`"
    )


def _checked_name(name: str | None, now: datetime, model: str, parent: Path) -> str:
    if name is not None:
        if name == "latest" or not _NAME.fullmatch(name):
            raise UsageError(
                f"--name {name!r} can't be a run's name",
                "use letters, digits, '.', '_', '+' and '-', beginning with a letter or digit (not 'latest')",
            )
        return name
    return free_name(model, parent, now)


def free_name(model: str, parent: Path, now: datetime | None = None) -> str:
    """`<UTC date-time>-<slug of model>`, with a number where `parent` has that already."""
    now = now or datetime.now(UTC)
    last_part = model.rstrip("/").rsplit("/", 1)[-1].lower()
    slug = re.sub(r"[^a-z0-9.]+", "-", last_part).strip("-.")[:40]
    base = f"{now:%Y%m%d-%H%M%S}-{slug or 'model'}"
    taken = 1
    while os.path.lexists(parent / (base if taken == 1 else f"{base}-{taken}")):
        taken += 1
    return base if taken == 1 else f"{base}-{taken}"
