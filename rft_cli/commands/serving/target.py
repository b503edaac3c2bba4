"""What `rft serve` was asked for: a run or a model, its GGUF file, and the settings it was measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rft_cli.errors import UsageError
from rft_cli.runs.suggested_commands import quoted

if TYPE_CHECKING:
    from rft_cli.config.load import LoadedConfig
    from rft_cli.runs import Run
    from rft_cli.serving.engines import ModelFiles

GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class Target:
    """`what` as typed. `run`: None for a model. `gguf`: the newest GGUF file of it, None where it has none."""

    what: str
    run: Run | None
    gguf: Path | None

    @property
    def is_gguf_alone(self) -> bool:
        """Whether there is a GGUF file and nothing that transformers loads."""
        if self.run is not None or self.gguf is None:
            return False
        folder = Path(self.what)
        return not any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))

    def files(self, compare: bool) -> ModelFiles:
        """What an engine may be asked to read; `compare`: the base too, of which there is no GGUF file."""
        from rft_cli.serving.engines import ModelFiles

        make = None if self.run is None else f"rft export {quoted(self.run.path)} --format gguf"
        if compare:
            return ModelFiles(folder=True, gguf=False, make_gguf=None)
        return ModelFiles(folder=not self.is_gguf_alone, gguf=self.gguf is not None, make_gguf=make)

    @property
    def model(self) -> str:
        """The model as a path or hub id: the file where GGUF is all there is."""
        return str(self.gguf) if self.is_gguf_alone else self.what

    @property
    def name(self) -> str:
        """The model's name in requests: the run's, or the last part of a path; a hub id stays whole."""
        if self.run is not None:
            return self.run.name
        path = Path(self.what)
        if not path.exists():
            return self.what
        return path.resolve().stem if path.is_file() else path.resolve().name


def find_target(what: str, output_dir: str) -> Target:
    """The run or the model that a person means; UsageError for a word that is neither."""
    run = find_run(what, output_dir)
    path = Path(what).expanduser()
    if run is not None:
        return Target(what, run, _newest(run.path / "export" / "gguf"))
    if path.is_dir():
        return Target(what, None, _newest(path))
    return Target(what, None, path if what.lower().endswith(GGUF) and path.is_file() else None)


def find_run(what: str, output_dir: str) -> Run | None:
    """The run that a person means, None where it is a model; UsageError for a word that is neither."""
    from rft_cli.runs import Run
    from rft_cli.runs.find import is_run

    is_model = "/" in what or Path(what).exists()
    if what != "latest" and is_model and not is_run(Path(what)) and not is_run(Path(output_dir, what)):
        return None
    try:
        return Run.open(what, output_dir)
    except UsageError as error:
        if error.fix is not None and error.message.endswith("is not a run"):
            error.message = f"{what} is neither a run nor a model's directory"
            error.fix += "; a hub model is OWNER/NAME"
        raise


def settings_of(run: Run | None, model: str, sets: Sequence[str]) -> LoadedConfig:
    """The configuration of a run, of an export as its run measured it, or of a bare model; --set wins."""
    from rft_cli.config.layers import Setting
    from rft_cli.config.load import load_config
    from rft_cli.runs.exports import MARKER
    from rft_cli.runs.measured_settings import read_measured_settings
    from rft_cli.runs.model_source import revision_of

    if run is not None:
        own = {"model.path": run.info["model"], "model.revision": revision_of(run)}
        return load_config(str(run.path / "config.yaml"), overrides=own, sets=sets)
    folder = folder_of(model)
    measured = read_measured_settings(folder)
    below = {key: Setting(value, str(folder / MARKER)) for key, value in measured.items()}
    return load_config(None, overrides={"model.path": model}, sets=sets, below=below)


def folder_of(model: str) -> Path:
    """The folder of a model's files."""
    path = Path(model)
    return path.parent if path.is_file() else path


def _newest(folder: Path) -> Path | None:
    files = (file for file in folder.glob(f"*{GGUF}") if file.is_file())
    return max(files, key=lambda file: file.stat().st_mtime, default=None)
