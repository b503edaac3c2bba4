"""Plans an export (checkpoint, format) and writes its directory whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast, get_args

from rft_cli.config.suggest import did_you_mean
from rft_cli.errors import UsageError
from rft_cli.runs.files import fsync_path
from rft_cli.runs.run import Run
from rft_cli.runs.suggested_commands import resume_command

Format = Literal["merged", "adapter", "gguf"]
Precision = Literal["float32", "bfloat16", "float16"]

Quantization = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
"""How the matrices of a GGUF file are stored; what its Python package can write."""

MARKER = "rft-export.json"
"""A file in every export that says what was verified; only directories with it are replaced."""


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """An export that was asked for and can be made. `precision` None keeps the one the weights are stored in; so does
    `quantization` None, which GGUF has in its place."""

    run: Run
    step: int
    format: Format
    precision: Precision | None
    target: Path
    replace: bool
    quantization: Quantization | None = None

    @property
    def checkpoint(self) -> Path:
        return self.run.checkpoint_path(self.step)

    @property
    def is_lora(self) -> bool:
        """Whether the checkpoint holds an adapter, and not the model's own weights."""
        return (self.checkpoint / "adapter_config.json").is_file()


def plan_export(
    run: Run,
    *,
    checkpoint: str,
    format: str,
    dtype: str | None,
    to: str | None,
    force: bool,
    quantize: str | None = None,
) -> ExportPlan:
    """Check what was asked for against what the run has; UsageError if it can't be done."""
    chosen = cast(Format, _known("--format", format, get_args(Format)))
    precision = None if dtype is None else cast(Precision, _known("--dtype", dtype, get_args(Precision)))
    quantization = None if quantize is None else _quantization(quantize)
    _check_gguf(chosen, dtype, quantize)
    step = _step(run, checkpoint)
    target = (run.path / "export" / chosen if to is None else Path(to).expanduser()).resolve()
    plan = ExportPlan(run, step, chosen, precision, target, force, quantization)
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
    raise UsageError(
        f"{flag} {word!r} is not known", did_you_mean(word, known) or f"take one of: {', '.join(known)}"
    )


def _quantization(word: str) -> Quantization:
    """The type with this name, in any case; llama.cpp's own tool writes those that its Python package does not."""
    known, name = get_args(Quantization), word.lower()
    if name in known:
        return cast(Quantization, name)
    if re.fullmatch(r"i?q\d_(k|k_[sml]|xxs|xs|s|m|nl)|[tm]\w*q\d\w*", name):
        raise UsageError(
            f"--quantize {word}: rft does not write this type ({', '.join(known)})",
            f"export with --quantize f32, then: llama-quantize DIR/model-F32.gguf DIR/model-{word.upper()}.gguf "
            f"{word.upper()}   (comes with llama.cpp)",
        )
    return cast(Quantization, _known("--quantize", word, known))


def _check_gguf(format: Format, dtype: str | None, quantize: str | None) -> None:
    """The flags that only GGUF has, or that it has not, and its package."""
    if format != "gguf":
        if quantize is not None:
            raise UsageError(
                f"--quantize is for --format gguf, not {format}", "add --format gguf, or take --dtype"
            )
        return
    if dtype is not None:
        raise UsageError("--dtype is not for --format gguf", "say --quantize f32, bf16 or f16")
    if find_spec("gguf") is None:
        raise UsageError("writing a GGUF file needs the package gguf", "pip install 'rft-cli[gguf]'")


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
