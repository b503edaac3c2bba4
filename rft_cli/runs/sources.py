"""What a name of a model means: a base, and the adapters that are merged into it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.runs.find import is_run
from rft_cli.runs.run import Run

BUILTIN = Path(__file__).parent.parent / "builtin"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where weights come from: `base`, a directory or hub id, and the LoRA `adapters` to merge into it in turn."""

    base: str
    adapters: tuple[Path, ...] = ()


def find_model(path: str) -> ModelSource:
    """What `--model` names: `builtin/tiny`, a run (its best checkpoint), an adapter, a model directory, a hub id.

    Raises UsageError where a run's best checkpoint is gone, or an adapter names no base.
    """
    if path.startswith("builtin/"):
        return ModelSource(str(BUILTIN / path.removeprefix("builtin/")))
    folder = Path(path).expanduser()
    if is_run(folder):
        run = Run.open(folder)
        best = run.best_checkpoint()
        base = str(run.info["model"])
        return find_model(base) if best is None else tuned_source(best, base)
    if (folder / "adapter_config.json").is_file():
        return _with_adapter(find_model(_base_of(folder)), folder)
    return ModelSource(str(folder) if folder.is_dir() else path)


def tuned_source(checkpoint: Path, base: str) -> ModelSource:
    """The weights of a run's checkpoint; `base` is the model the run began with."""
    if (checkpoint / "adapter_config.json").is_file():
        return _with_adapter(find_model(base), checkpoint)
    return ModelSource(str(checkpoint))


def _with_adapter(source: ModelSource, adapter: Path) -> ModelSource:
    return ModelSource(source.base, (*source.adapters, adapter))


def _base_of(adapter: Path) -> str:
    """The model that an adapter was trained on, as its configuration names it."""
    file = adapter / "adapter_config.json"
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise UsageError(f"{file}: names no base model", "give an adapter that PEFT has saved")
    return base
