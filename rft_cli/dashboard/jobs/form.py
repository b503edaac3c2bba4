"""The form that starts a job: its fields, each with the setting or flag that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from rft_cli.config.keys import Key, all_keys, flag_of

Kind = Literal["file", "model", "choice", "text", "lines"]


@dataclass(frozen=True, slots=True)
class FormField:
    """One field. `key`: the setting that it sets, empty where it is a flag alone.

    `flag`: how the command line gives it; empty: as `--set KEY=VALUE`. `endings`: of the files that its picker shows.
    """

    name: str
    label: str
    help: str
    kind: Kind = "text"
    key: str = ""
    flag: str = ""
    placeholder: str = ""
    choices: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    needed: bool = False


MODELS = (
    "builtin/tiny",
    "Qwen/Qwen3-0.6B",
    "HuggingFaceTB/SmolLM2-360M-Instruct",
    "meta-llama/Llama-3.2-1B-Instruct",
)
"""Models that the form offers; any other can be typed."""
ROWS = (".jsonl", ".csv", ".parquet", ".json")
GRADERS = (".py", ".json", ".yaml", ".yml")
CONFIGS = (".yaml", ".yml")

_LABELS = {
    "optim.n_epochs": "Epochs",
    "optim.learning_rate": "Learning rate",
    "rollout.group_size": "Completions per prompt",
    "rollout.prompts_per_batch": "Prompts per batch",
    "rollout.max_completion_tokens": "Longest completion, in tokens",
    "rollout.temperature": "Temperature",
    "ppo.kl_coef": "KL weight",
    "lora.r": "LoRA rank",
    "grader.timeout_s": "Seconds per grade",
    "seed": "Seed",
}
"""The ten settings that people change most, in the form's order."""

_FLAGGED = ("optim.n_epochs", "optim.learning_rate", "seed")


def _file(key: str, label: str, endings: tuple[str, ...], needed: bool = False) -> FormField:
    return FormField(
        key, label, all_keys()[key].description, "file", key, flag_of(key), endings=endings, needed=needed
    )


def _setting(key: str) -> FormField:
    found = all_keys()[key]
    flag = flag_of(key) if key in _FLAGGED else ""
    return FormField(key, _LABELS[key], found.description, "text", key, flag, placeholder=_default(found))


def _default(key: Key) -> str:
    return (
        ""
        if key.default is None
        else f"{key.default:g}"
        if isinstance(key.default, float)
        else str(key.default)
    )


@cache
def sections() -> Mapping[str, tuple[FormField, ...]]:
    """The form, section by section."""
    keys = all_keys()
    algorithm, model = keys["algorithm"], keys["model.path"]
    return {
        "What to train": (
            FormField(
                "model.path",
                "Model",
                model.description,
                "model",
                model.name,
                flag_of(model.name),
                str(model.default),
            ),
            FormField(
                "algorithm",
                "Algorithm",
                algorithm.description,
                "choice",
                algorithm.name,
                "--algorithm",
                str(algorithm.default),
                choices=tuple(algorithm.words()),
            ),
        ),
        "Rows and grader": (
            _file("data.train", "Training rows", ROWS, needed=True),
            _file("data.validation", "Validation rows", ROWS, needed=True),
            _file("data.test", "Test rows", ROWS),
            _file("grader.path", "Grader", GRADERS, needed=True),
        ),
        "Settings": tuple(map(_setting, _LABELS)),
        "More": (
            FormField("name", "Name of the run", keys["name"].description, "text", "name", "--name"),
            FormField(
                "config",
                "Configuration file",
                "A YAML file with settings; the fields of this form win over it.",
                "file",
                flag="--config",
                endings=CONFIGS,
            ),
            FormField(
                "more",
                "More settings",
                "Any other settings, `KEY=VALUE`, one a line, for example `optim.max_steps=20`.",
                "lines",
            ),
        ),
    }


@cache
def fields() -> Mapping[str, FormField]:
    """Every field by its name."""
    return {field.name: field for section in sections().values() for field in section}


def read_values(sent: Mapping[str, object]) -> dict[str, str]:
    """What was sent for the form's fields, without the spaces around it; other keys and empty values are left out."""
    values = {name: str(sent.get(name) or "").strip() for name in fields()}
    return {name: value for name, value in values.items() if value}
