"""Resolves a model's name to a base model and the adapters that are merged into it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.runs.find import is_run
from rft_cli.runs.run import Run

BUILTIN = Path(__file__).parent.parent / "builtin"
GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where weights come from: `base`, a directory, GGUF file or hub id, and LoRA `adapters` to merge into it in turn.

    `revision` is that of a hub id, None its default branch.
    """

    base: str
    adapters: tuple[Path, ...] = ()
    revision: str | None = None

    @property
    def is_gguf(self) -> bool:
        return self.base.lower().endswith(GGUF) and Path(self.base).is_file()


def find_model(path: str, revision: str | None = None) -> ModelSource:
    """What `--model` names: `builtin/tiny`, a run (its best checkpoint), an adapter, a directory, GGUF file or hub id.

    `revision` is that of the hub model at the bottom; without it, the one that a run or an adapter was trained on.
    Raises UsageError if a run's best checkpoint is missing, or an adapter names no base.
    """
    if path.startswith("builtin/"):
        return ModelSource(str(BUILTIN / path.removeprefix("builtin/")))
    folder = Path(path).expanduser()
    if is_run(folder):
        run = Run.open(folder)
        best = run.best_checkpoint()
        base = str(run.info["model"])
        revision = revision or revision_of(run)
        return find_model(base, revision) if best is None else tuned_source(best, base, revision)
    if (folder / "adapter_config.json").is_file():
        base, trained_on = _base_of(folder)
        return _with_adapter(find_model(base, revision or trained_on), folder)
    return ModelSource(str(folder)) if folder.exists() else ModelSource(path, revision=revision)


def first_base(path: str, revision: str | None = None) -> ModelSource:
    """The model that nothing of rft's has trained: what `path` began with, through every run and adapter."""
    folder = Path(path).expanduser()
    if not path.startswith("builtin/"):
        if is_run(folder):
            run = Run.open(folder)
            return first_base(str(run.info["model"]), revision or revision_of(run))
        if (folder / "adapter_config.json").is_file():
            base, trained_on = _base_of(folder)
            return first_base(base, revision or trained_on)
    return find_model(path, revision)


def tuned_source(checkpoint: Path, base: str, revision: str | None = None) -> ModelSource:
    """The weights of a run's checkpoint; `base` at `revision` is the model the run began with."""
    if (checkpoint / "adapter_config.json").is_file():
        return _with_adapter(find_model(base, revision), checkpoint)
    return ModelSource(str(checkpoint))


def revision_of(run: Run) -> str | None:
    """The commit of the hub model that a run was trained from."""
    settings = run.info.get("settings")
    found = settings.get("model.revision") if isinstance(settings, dict) else None
    return found if isinstance(found, str) else None


def _with_adapter(source: ModelSource, adapter: Path) -> ModelSource:
    return replace(source, adapters=(*source.adapters, adapter))


def _base_of(adapter: Path) -> tuple[str, str | None]:
    """The model that an adapter was trained on, and its revision, as its configuration names them."""
    file = adapter / "adapter_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base, revision = config["base_model_name_or_path"], config.get("revision")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        base = revision = None
    if not isinstance(base, str) or not base:
        raise UsageError(f"{file}: names no base model", "give an adapter that PEFT has saved")
    return base, revision if isinstance(revision, str) else None
