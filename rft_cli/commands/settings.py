"""What a command was asked for, and its settings. Imports little: a mistake in a setting is told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rft_cli.errors import UsageErrors

if TYPE_CHECKING:
    from rft_cli.config.load import LoadedConfig


JOB_NEEDS = ("train", "validation", "grader", "model")
"""What a whole job can't do without."""

MEASURE_NEEDS = ("validation", "grader", "model")
"""What it takes to measure a model."""


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

    def load(self, needs: Sequence[str] = JOB_NEEDS) -> LoadedConfig:
        """All layers as one configuration; ConfigProblems with every problem. `needs`: what the command needs of it."""
        from rft_cli.config.load import load_config

        spared = () if "train" in needs else ("data.train",)
        return load_config(
            self.file,
            overrides=self.overrides,
            sets=self.sets,
            openai_job=self.openai_job,
            spared=spared,
        )

    def load_for_job(self, needs: Sequence[str]) -> LoadedConfig:
        """The same for a job that needs what `needs` names.

        Where a setting is wrong, the UsageErrors also tell what is wrong with the job's data, grader and model, as far
        as that does not rest on the setting; what there is to note is printed before.
        """
        from rft_cli.config.load import ConfigProblems

        try:
            return self.load(needs)
        except ConfigProblems as problems:
            from rft_cli.commands.preflight import also_wrong

            raise UsageErrors([*problems.problems, *also_wrong(problems, needs)]) from None

    def load_for_rows(self, files: Sequence[str]) -> LoadedConfig:
        """The same for a grading of these files: a wrong setting is told with what else is wrong."""
        from rft_cli.config.load import ConfigProblems

        try:
            return self.load()
        except ConfigProblems as problems:
            from rft_cli.commands.grade_checks import also_wrong

            raise UsageErrors([*problems.problems, *also_wrong(problems, files)]) from None

    def needs(self) -> Sequence[str]:
        """What a check of these settings asks for: of a file or a job all that one needs, of flags what they give."""
        return JOB_NEEDS if self.file or self.openai_job else ()

    def given(self, *but: str) -> list[str]:
        """What was given at all, apart from the keys in `but`: keys of flags, --set options, the file."""
        found = [key for key, value in self.overrides.items() if value is not None and key not in but]
        found += [f"--set {item.partition('=')[0]}" for item in self.sets]
        if self.openai_job is not None:
            found.append(f"--from-openai {self.openai_job}")
        return [*found, self.file] if self.file else found
