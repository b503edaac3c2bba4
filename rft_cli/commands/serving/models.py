"""The models that `rft serve` starts engines for, with the settings that requests get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rft_cli.commands.serving.target import Target, folder_of, settings_of
from rft_cli.commands.signals import imports_whole
from rft_cli.events import Note, OnEvent
from rft_cli.runs import Run
from rft_cli.runs.measured_settings import read_export, read_measured_settings
from rft_cli.serving.engines import Engine
from rft_cli.serving.model import RequestDefaults, ServedModel, chosen_defaults, defaults_of_run

if TYPE_CHECKING:
    from rft_cli.config.load import LoadedConfig


def served_models(
    target: Target,
    names: dict[str, str],
    engine: Engine,
    sets: Sequence[str],
    folder: Path,
    on_event: OnEvent,
) -> list[ServedModel]:
    """The models of `names` (base, tuned), ready for the engine; `folder` may be written into."""

    def note(text: str) -> None:
        on_event(Note(text))

    loaded = settings_of(target.run, target.model, sets)
    if not engine.reads_folder:
        return [_gguf_model(target, names["tuned"], loaded, note)]
    from rft_cli.runs.model_source import find_model

    with imports_whole():
        from rft_cli.training.served_model import ToServe, models_of_run, prepare

    if target.run is not None:
        note(describe_served(target.run))
        wanted = models_of_run(target.run, loaded.config, names, folder)
    else:
        measured, chosen = _of_export(target, loaded), chosen_defaults(loaded.config, loaded.origins)
        source = find_model(target.model)
        wanted = [ToServe(names["tuned"], source, loaded.config, measured, folder / "merged", chosen)]
    return [prepare(one, folder / f"model-{number}", note) for number, one in enumerate(wanted)]


def describe_served(run: Run) -> str:
    """Which model of the run is served, in words."""
    best, running = run.best_checkpoint(), run.info.get("status") == "running"
    if best is not None:
        return (
            f"serving {best.name} of {run.path}, its best{' so far: it is still running' if running else ''}"
        )
    if running:
        return f"{run.path} is still running, and no checkpoint has beaten the base yet: serving the base"
    return f"nothing beat the base in {run.path}: serving the base"


def _gguf_model(target: Target, name: str, loaded: LoadedConfig, note: Callable[[str], None]) -> ServedModel:
    file, run = target.gguf, target.run
    assert file is not None
    note(f"serving {file}{'' if run is None else _older(run, file)}")
    if run is not None:
        defaults = defaults_of_run(loaded.config, run.read_pilot())
    else:
        # A GGUF file has its own settings, which llama.cpp reads.
        own = RequestDefaults(temperature=None, top_p=None)
        defaults = _of_export(target, loaded) or replace(
            own, **chosen_defaults(loaded.config, loaded.origins)
        )
    return ServedModel(name, file.resolve(), "auto", 0, defaults)


def _older(run: Run, file: Path) -> str:
    """What to know of a file that was made of another checkpoint than the best."""
    step, best = (read_export(file.parent) or {}).get("checkpoint"), run.info.get("best_step")
    if step is None or step == best:
        return ""
    return (
        f", made of step {step}; the run's best is step {best}: rft export {run.path} --format gguf --force"
    )


def _of_export(target: Target, loaded: LoadedConfig) -> RequestDefaults | None:
    """The settings with which a run measured the model, where the folder is an export that has them."""
    there = read_measured_settings(folder_of(target.model))
    return defaults_of_run(loaded.config, None) if there else None
