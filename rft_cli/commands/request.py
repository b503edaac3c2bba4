"""What a command was asked for, and its settings. Imports little: a mistake in a setting is told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rft_cli.config.load import LoadedConfig


@dataclass(frozen=True, slots=True)
class Output:
    """How a command answers: one JSON document or tables; with progress or quietly."""

    json: bool
    quiet: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """Where settings come from. `overrides`: dotted key -> the flag's value, None where it was not given.

    `openai_job`: a fine-tuning job of OpenAI's.
    """

    file: str | None
    overrides: Mapping[str, Any]
    sets: Sequence[str]
    openai_job: str | None = None

    def load(self) -> LoadedConfig:
        """All layers as one configuration; UsageErrors with every problem."""
        from rft_cli.config.load import load_config

        return load_config(self.file, overrides=self.overrides, sets=self.sets, openai_job=self.openai_job)

    def given(self, *but: str) -> list[str]:
        """What was given at all, apart from the keys in `but`: keys of flags, --set options, the file."""
        found = [key for key, value in self.overrides.items() if value is not None and key not in but]
        found += [f"--set {item.partition('=')[0]}" for item in self.sets]
        if self.openai_job is not None:
            found.append(f"--from-openai {self.openai_job}")
        return [*found, self.file] if self.file else found
