"""What a run has come to, and whether two runs came to the same."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rft_cli.runs import Run

LEFTOVERS = (".partial-*", ".old-*", ".new-*", ".best-new", f".*.[0-9]*-{'[0-9a-f]' * 8}")
"""What is made beside and then renamed; the last are drafts of files: `.NAME.PID-8 hex digits`."""


@dataclass(frozen=True)
class State:
    """All that must come out the same: bytes of weights, tensors of optimizers, lines of metrics, samples, the result.

    `checkpoints` are the steps that are still kept: a job that a signal stopped has saved one more.
    """

    weights: str
    training: dict[str, str]
    metrics: list[dict[str, Any]]
    files: dict[str, str]
    best: int
    best_link: str
    warnings: list[dict[str, Any]]
    result: Any
    checkpoints: list[int]
    leftovers: list[str]


def state_of(run: Run) -> State:
    """What a run has come to."""
    newest = run.checkpoint_path(run.checkpoints()[-1])
    link = run.path / "best"
    return State(
        digest({f.name: load_file(f) for f in sorted(newest.glob("*.safetensors"))}),
        {f.name: digest(loaded(f)) for f in sorted(newest.glob("*.pt")) + sorted(newest.glob("*.pth"))},
        untimed(run.metrics()),
        {f.relative_to(run.path).as_posix(): _samples(f) for f in sorted(run.path.glob("*/*.jsonl"))},
        int(run.info["best_step"]),
        os.readlink(link) if link.is_symlink() else "",
        run.info["warnings"],
        _result(run),
        sorted(int(f.name.removeprefix("step-")) for f in (run.path / "checkpoints").glob("step-*")),
        sorted(f.name for pattern in LEFTOVERS for f in run.path.rglob(pattern)),
    )


def _result(run: Run) -> Any:
    """The result without what a clock says, and without the folder of the scorer, which the next command may name."""
    result, grader = untimed(run.info["result"]), run.info["settings"]["grader.path"]
    if not result or not isinstance(grader, str):
        return result
    return {**result, "next": result["next"].replace(str(Path(grader).parent), "FOLDER")}


def loaded(file: Path) -> Any:
    """A file that torch.save wrote."""
    from transformers.trainer_pt_utils import safe_globals

    with safe_globals():
        return torch.load(file, weights_only=True)


def untimed(value: Any) -> Any:
    """The same without what a clock says."""
    if isinstance(value, dict):
        return {
            key: untimed(item) for key, item in value.items() if "seconds" not in key and key != "latency_s"
        }
    return [untimed(item) for item in value] if isinstance(value, list) else value


def differences(left: State, right: State, but: str = "") -> list[str]:
    """The names of what differs, for a message; the field `but` may. Nothing half-written may be left in either."""
    names = ("weights", "best", "best_link", "warnings", "result", "checkpoints")
    found = [name for name in names if name != but and getattr(left, name) != getattr(right, name)]
    found += [f"left behind: {name}" for state in (left, right) for name in state.leftovers]
    if len(left.metrics) != len(right.metrics):
        found.append(f"metrics: {len(left.metrics)} and {len(right.metrics)} lines")
    for one, other in zip(left.metrics, right.metrics, strict=False):
        keys = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
        if keys:
            found.append(f"metrics of step {one.get('step')}: {sorted(keys)}")
            break
    for these, those in ((left.training, right.training), (left.files, right.files)):
        found += sorted(name for name in these.keys() | those.keys() if these.get(name) != those.get(name))
    return found


def _samples(file: Path) -> str:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return hashlib.sha256(json.dumps(untimed(rows)).encode()).hexdigest()


def digest(value: Any) -> str:
    """A hash of every tensor and value in it."""
    found = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            found.update(f"{item.dtype}{tuple(item.shape)}".encode())
            found.update(item.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(item, dict):
            for key in item:
                found.update(repr(key).encode())
                add(item[key])
        elif isinstance(item, list | tuple):
            found.update(f"[{len(item)}".encode())
            for part in item:
                add(part)
        elif hasattr(item, "tobytes"):
            found.update(item.tobytes())
        else:
            found.update(repr(item).encode())

    add(value)
    return found.hexdigest()
