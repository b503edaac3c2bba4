"""Plans an export (checkpoint, format) and writes its directory whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from rft_cli.config.suggest import did_you_mean
from rft_cli.errors import UsageError
from rft_cli.runs.files import fsync_path
from rft_cli.runs.run import Run
from rft_cli.runs.suggested_commands import resume_command

Format = Literal["merged", "adapter"]
Precision = Literal["float32", "bfloat16", "float16"]

MARKER = "rft-export.json"
"""A file in every export that says what was verified; only directories with it are replaced."""


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """An export that was asked for and can be made. `precision` None keeps the one the weights are stored in."""

    run: Run
    step: int
    format: Format
    precision: Precision | None
    target: Path
    replace: bool

    @property
    def checkpoint(self) -> Path:
        return self.run.checkpoint_path(self.step)

    @property
    def is_lora(self) -> bool:
        """Whether the checkpoint holds an adapter, and not the model's own weights."""
        return (self.checkpoint / "adapter_config.json").is_file()


def plan_export(
    run: Run, *, checkpoint: str, format: str, dtype: str | None, to: str | None, force: bool
) -> ExportPlan:
    """Check what was asked for against what the run has; UsageError if it can't be done."""
    chosen = cast(Format, _known("--format", format, get_args(Format)))
    precision = None if dtype is None else cast(Precision, _known("--dtype", dtype, get_args(Precision)))
    step = _step(run, checkpoint)
    target = (run.path / "export" / chosen if to is None else Path(to).expanduser()).resolve()
    plan = ExportPlan(run, step, chosen, precision, target, force)
    if chosen == "adapter" and not plan.is_lora:
        raise UsageError(
            f"{run.path} has no adapter: all weights were trained, so what was learned is spread over them",
            "export the whole model with --format merged",
        )
    _check_target(target, force)
    damage = run.verify_checkpoint(step)
    if damage is not None:
        raise UsageError(f"checkpoint {step} of {run.path} is damaged: {damage}", _others(run, step))
    return plan


def _known(flag: str, word: str, known: tuple[str, ...]) -> str:
    if word in known:
        return word
    if word == "gguf":
        fix = "export merged weights, and turn them into GGUF with llama.cpp's convert_hf_to_gguf.py"
    else:
        fix = did_you_mean(word, known) or f"take one of: {', '.join(known)}"
    raise UsageError(f"{flag} {word!r} is not known", fix)


def _step(run: Run, wanted: str) -> int:
    steps = run.checkpoints()
    if not steps:
        raise UsageError(
            f"{run.path} has no checkpoint: there is nothing to export",
            f"its status is {run.info.get('status')!r}; train it with `{resume_command(run.path)}`",
        )
    if wanted == "best":
        best = run.best_checkpoint()
        if best is None:
            raise UsageError(
                f"nothing beat the base model in {run.path}: its best model is the base, unchanged",
                f"use the base, or export a checkpoint all the same with --checkpoint {steps[-1]}",
            )
        wanted = best.name
    number = re.fullmatch(r"(?:step-)?(\d{1,18})", wanted)
    if number is None or int(number[1]) not in steps:
        raise UsageError(
            f"{run.path} has no checkpoint {wanted!r}",
            f"take best or one of: {', '.join(map(str, steps))}",
        )
    return int(number[1])


def _others(run: Run, step: int) -> str:
    rest = [str(other) for other in run.checkpoints() if other != step]
    if not rest:
        return "there is no other checkpoint; restore the file, or train again"
    return f"restore the file, or take another one with --checkpoint: {', '.join(rest)}"


def _check_target(target: Path, force: bool) -> None:
    if target == Path.cwd():
        raise UsageError(f"{target} is the directory you are in", "name a new one with --to DIR")
    for path in (target, *target.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise UsageError(f"{path} is a file", "name a directory with --to DIR")
    if not target.exists() or not any(target.iterdir()):
        return
    if not force:
        raise UsageError(
            f"{target} exists and is not empty", "choose another --to DIR, or replace it with --force"
        )
    if not (target / MARKER).is_file():
        raise UsageError(
            f"{target} was not made by `rft export` (it has no {MARKER}): --force does not delete it",
            "choose another --to DIR",
        )


@contextlib.contextmanager
def staged(target: Path, replace: bool) -> Iterator[Path]:
    """An empty directory that is renamed to `target` if the block succeeds, else deleted.

    The block writes MARKER, as any program writes a file: the other files get its permissions.
    UsageError if it can't be made, or where `target` was made by somebody else meanwhile.
    """
    draft = target.with_name(f".new-{target.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
    except OSError as error:
        raise UsageError(f"cannot make {target}: {error.strerror}", "choose another --to DIR") from None
    try:
        yield draft
        mode = (draft / MARKER).stat().st_mode
        for file in (path for path in draft.rglob("*") if path.is_file()):
            # safetensors writes weights that only their owner may read
            file.chmod(mode)
            fsync_path(file)
        _put(draft, target, replace)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _put(draft: Path, target: Path, replace: bool) -> None:
    old = draft.with_name(f"{draft.name}-old")
    if replace and (target / MARKER).is_file():
        os.rename(target, old)
    try:
        # takes the place of an empty directory too
        os.rename(draft, target)
    except BaseException as error:
        if old.exists() and not target.exists():
            os.rename(old, target)
        if isinstance(error, OSError):
            raise UsageError(f"cannot make {target}: {error.strerror}", "choose another --to DIR") from None
        raise
    fsync_path(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
