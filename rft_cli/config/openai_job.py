"""`--from-openai job.json`: a fine-tuning job of OpenAI's API as a layer of settings.

The file is the body of `POST /v1/fine_tuning/jobs`, or the job as the API gives it back. What it sets and rft has no
such setting for becomes a note, one a setting; a name that no such job has is a problem.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rft_cli.config.json_tree import read_tree
from rft_cli.config.layers import Layer, Setting
from rft_cli.config.paths import JSON_OR_YAML
from rft_cli.config.suggest import did_you_mean, near_file
from rft_cli.config.yaml_tree import Node
from rft_cli.errors import UsageError

_FILES = {"training_file": ("data.train", "-t"), "validation_file": ("data.validation", "-v")}
_HYPERPARAMETERS = {
    "n_epochs": "optim.n_epochs",
    "batch_size": "rollout.prompts_per_batch",
    "eval_samples": "validation.samples_per_prompt",
}
"""Hyperparameters of a reinforcement job → the setting that means the same."""
_METHOD = "method.reinforcement"
_SETTINGS = f"{_METHOD}.hyperparameters"
_NO_MEANING = {
    "model": "its weights are OpenAI's: --model chooses what is trained",
    "suffix": "part of a hosted model's name; --name names the run",
    "metadata": "kept by OpenAI only",
    "safety_identifier": "identifies users to OpenAI; nothing is sent to OpenAI",
    "integrations": "rft writes metrics.jsonl in the run",
    "hyperparameters": f"those of {_METHOD} count",
    f"{_METHOD}.response_format": "completions are not forced into the schema; sample.output_json is there where "
    "they are JSON",
    f"{_SETTINGS}.learning_rate_multiplier": "scales a rate that OpenAI does not publish; --learning-rate sets it",
    f"{_SETTINGS}.compute_multiplier": "rollout.group_size sets how many completions a prompt gets",
    f"{_SETTINGS}.eval_interval": "counts steps; validation.every_completions counts completions",
    f"{_SETTINGS}.reasoning_effort": "open models have no such switch",
}
_SAY_NOTHING: tuple[Any, ...] = ("", "auto", "default", [], {"type": "text"})
"""Values that ask for nothing."""
_STATE = (
    *("object", "id", "created_at", "finished_at", "estimated_finish", "status", "error", "organization_id"),
    *("fine_tuned_model", "result_files", "trained_tokens", "user_provided_suffix"),
    *("usage_metrics", "shared_with_openai", "eval_id"),
)
"""What the API adds to a job that it gives back."""
_KNOWN = {
    "": [*_FILES, "model", "seed", "method", *(key for key in _NO_MEANING if "." not in key)],
    "method": ["type", "reinforcement", "supervised", "dpo"],
    _METHOD: ["grader", "response_format", "hyperparameters"],
    _SETTINGS: [
        *_HYPERPARAMETERS,
        *(key.rpartition(".")[2] for key in _NO_MEANING if key.startswith(_SETTINGS)),
    ],
}


@dataclass(frozen=True, slots=True)
class OpenAIJob:
    """The job's settings as a layer, and what is to be said about the others."""

    layer: Layer
    notes: list[str]


def read_job(
    path: str, given: Collection[str], problems: list[UsageError], spared: Collection[str] = ()
) -> OpenAIJob:
    """Read the job in `path`. `given`: the settings that other layers have, which win over the job's.

    Its data files, which it names by id or name, are looked for beside it; one for a setting in `spared` may be
    missing. Adds what is wrong to `problems`.
    """
    root = _read(path, problems)
    reader = _JobReader(path, given, problems, spared)
    if root is not None:
        reader.job(root)
    return OpenAIJob(reader.layer, [reader.taken(), *reader.notes] if reader.layer else reader.notes)


def _read(path: str, problems: list[UsageError]) -> Node | None:
    if not path.endswith(JSON_OR_YAML) and Path(path).exists():
        problems.append(
            UsageError(
                f"{path}: is not a job: a job is JSON or YAML", f"name a file that ends in {JSON_OR_YAML[0]}"
            )
        )
        return None
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        problems.append(UsageError(f"{path}: no such file", near_file(Path(path))))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(UsageError(f"{path}: can't be read: {reason}"))
    else:
        return read_tree(content, path, problems)
    return None


@dataclass
class _JobReader:
    """Reads one job; `layer` and `notes` are what came of it."""

    path: str
    given: Collection[str]
    problems: list[UsageError]
    spared: Collection[str] = ()
    layer: Layer = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def taken(self) -> str:
        """What the job sets, for people."""
        settings = [
            "the grader" if key == "grader.path" else f"{key} = {setting.value}"
            for key, setting in self.layer.items()
        ]
        return f"{self.path} sets {', '.join(settings)}"

    def job(self, root: Node) -> None:
        if not isinstance(root.value, dict):
            self.problems.append(UsageError(f"{self._place(root)}: a job is an object", _LIKE))
            return
        if "method" not in root.value:
            fix = "it is a grader: give it with --reward-model" if "type" in root.value else _LIKE
            self.problems.append(UsageError(f"{self._place(root)}: has no 'method'", fix))
            return
        for key, node in self._members(root, ""):
            if key in _FILES:
                self._data_file(key, node)
            elif key == "seed":
                self._take("seed", node.plain(), node)
            elif key == "method":
                self._method(node)
            elif key in _NO_MEANING:
                self._say(key, node)

    def _method(self, node: Node) -> None:
        kind = node.value["type"].plain() if isinstance(node.value, dict) and "type" in node.value else None
        if kind != "reinforcement":
            message = f"{self._place(node)}: method.type: must be 'reinforcement' (got {json.dumps(kind)})"
            self.problems.append(UsageError(message, "rft does reinforcement fine-tuning"))
            return
        reinforcement = None
        for key, inner in self._members(node, "method"):
            if key == "reinforcement":
                reinforcement = inner
        if (
            reinforcement is None
            or not isinstance(reinforcement.value, dict)
            or "grader" not in reinforcement.value
        ):
            at = self._place(reinforcement or node)
            self.problems.append(
                UsageError(f"{at}: {_METHOD} has no grader", "a reinforcement job needs one")
            )
            return
        for key, inner in self._members(reinforcement, _METHOD):
            if key == "grader":
                # The file itself: a grader in a job is found there, and problems in it have their lines.
                if "grader.spec" not in self.given:
                    self._take("grader.path", self.path, inner)
            elif key == "hyperparameters":
                self._hyperparameters(inner)
            else:
                self._say(f"{_METHOD}.{key}", inner)

    def _hyperparameters(self, node: Node) -> None:
        for key, inner in self._members(node, _SETTINGS):
            if key not in _HYPERPARAMETERS:
                self._say(f"{_SETTINGS}.{key}", inner)
            elif inner.value != "auto":
                self._take(_HYPERPARAMETERS[key], inner.plain(), inner)

    def _members(self, node: Node, section: str) -> Iterator[tuple[str, Node]]:
        """The members that say something; those that no job has are problems."""
        if not isinstance(node.value, dict):
            if node.value is not None:
                self.problems.append(UsageError(f"{self._place(node)}: {section} is an object"))
            return
        for key, inner in node.value.items():
            if key in _KNOWN[section]:
                if inner.value is not None:
                    yield key, inner
            elif section or key not in _STATE:
                place = f"{self.path}:{inner.key_mark.line}:{inner.key_mark.column}"
                name = f"{section}.{key}" if section else key
                fix = did_you_mean(key, _KNOWN[section]) or f"known here: {', '.join(_KNOWN[section])}"
                self.problems.append(UsageError(f"{place}: {name}: unknown in a fine-tuning job", fix))

    def _data_file(self, key: str, node: Node) -> None:
        setting, flag = _FILES[key]
        if setting in self.given:
            return
        name = node.value
        if not isinstance(name, str) or not name:
            message = f"{self._place(node)}: {key}: must be a file's id or name"
            self.problems.append(UsageError(message))
            return
        folder = os.path.dirname(self.path)
        beside = [os.path.join(folder, name), os.path.join(folder, f"{name}.jsonl")]
        found = next((file for file in beside if os.path.isfile(file)), None)
        if found is None and setting in self.spared:
            self.notes.append(f"{self.path}: {key}: no file '{name}' beside the job; it is not needed here")
        elif found is None:
            fix = f"give it with {flag} FILE, or save it as {beside[-1] if not name.endswith('.jsonl') else beside[0]}"
            message = f"{self._place(node)}: {key}: no file '{name}' beside the job"
            self.problems.append(UsageError(message, fix))
        else:
            self._take(setting, found, node)

    def _take(self, setting: str, value: object, node: Node) -> None:
        if setting not in self.given:
            self.layer[setting] = Setting(value, self._place(node), word=node.word)

    def _say(self, key: str, node: Node) -> None:
        value = node.plain()
        if value in _SAY_NOTHING or (isinstance(value, dict) and not any(value.values())):
            return
        shown = json.dumps(value, ensure_ascii=False)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        name = key.removeprefix(f"{_METHOD}.")
        self.notes.append(f"{self.path}: {name} {shown} is not supported: {_NO_MEANING[key]}")

    def _place(self, node: Node) -> str:
        return f"{self.path}:{node.mark.line}:{node.mark.column}"


_LIKE = "a job is what POST /v1/fine_tuning/jobs takes: model, training_file, method {type, reinforcement}"
