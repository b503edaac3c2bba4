"""The settings a command was given, and how it prints. Imports little, so that a wrong setting is reported fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rft_cli.commands.needs import JOB_NEEDS

if TYPE_CHECKING:
    from rft_cli.config.load import LoadedConfig


@dataclass(frozen=True, slots=True)
class Output:
    """How a command prints: one JSON document or tables; with or without progress, for people or as JSON lines."""

    json: bool
    quiet: bool
    progress: str = "auto"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where settings come from. `overrides`: dotted key -> the flag's value, None if it was not given.

    `openai_job`: the file of an OpenAI fine-tuning job.
    """

    file: str | None
    overrides: Mapping[str, Any]
    sets: Sequence[str]
    openai_job: str | None = None

    def load(self, needs: Sequence[str] = JOB_NEEDS) -> LoadedConfig:
        """One configuration from all sources; UsageErrors with every problem. `needs`: what the command needs set."""
        from rft_cli.config.load import load_config

        spared = () if "train" in needs else ("data.train",)
        return load_config(
            self.file,
            overrides=self.overrides,
            sets=self.sets,
            openai_job=self.openai_job,
            spared=spared,
        )

    def needs(self) -> Sequence[str]:
        """What `rft validate` requires: of a file or an OpenAI job everything, of flags alone only what they set."""
        return JOB_NEEDS if self.file or self.openai_job else ()

    def is_empty(self) -> bool:
        """Whether nothing was given that could be checked; --output-dir alone can't."""
        flags = [key for key, value in self.overrides.items() if value is not None and key != "output_dir"]
        return not (flags or self.sets or self.file or self.openai_job)
