"""The flags of `rft validate` alone, and what excludes or needs what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from rft_cli.commands import flags
from rft_cli.errors import UsageError

RunOption = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Measure a run's best checkpoint against its base model; given twice: the second run against the first.",
        autocompletion=flags.complete_run,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="MODEL",
        help="Measure this model: a directory, a hub id, or a run; with --endpoint, its name there.",
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="Ask an OpenAI-compatible endpoint for the completions; with --run, compare with the run's own.",
    ),
]
KeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="NAME", help="Environment variable with the endpoint's key."),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency", metavar="N", min=1, max=1024, help="Requests to the endpoint at a time. [default: 8]"
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0.1, help="Time of one try at the endpoint. [default: 120]"
    ),
]
PlanOption = Annotated[
    bool,
    typer.Option(
        "--plan", help="Say how much memory the job needs, from the model's configuration; loads no weights."
    ),
]
GpuOption = Annotated[
    str | None,
    typer.Option(
        "--gpu", metavar="SIZE", help="With --plan: memory of a GPU, as 80GB. Default: this machine's."
    ),
]
GpusOption = Annotated[int, typer.Option("--gpus", min=1, help="With --plan: how many GPUs.")]


@dataclass(frozen=True, slots=True)
class ValidateFlags:
    """What is to be validated: with none of these, the settings. `endpoint_flags`: those that only --endpoint has."""

    model: str | None
    runs: Sequence[str]
    from_openai: str | None
    endpoint: str | None
    endpoint_flags: Mapping[str, object]
    plan: bool
    gpu: str | None
    gpus: int

    def check(self, min_reward: float | None, min_gain: float | None) -> None:
        """Raise UsageError for flags that exclude or need each other."""
        if self.endpoint is None:
            self._check_models(min_reward, min_gain)
        elif self.model is None:
            raise UsageError("--endpoint needs --model", "give the model's name at the endpoint")
        elif min_gain is not None and not self.runs:
            raise UsageError("--min-gain needs --run", "a gain is measured against a run's own completions")
        if self.plan:
            self._check_plan(min_reward)
        elif self.gpu is not None or self.gpus != 1:
            raise UsageError("--gpu and --gpus need --plan", "they say which GPUs a job is planned for")

    def _check_models(self, min_reward: float | None, min_gain: float | None) -> None:
        for flag, value in self.endpoint_flags.items():
            if value is not None:
                raise UsageError(f"{flag} needs --endpoint", "it says how an endpoint is asked")
        if self.model is not None and self.runs:
            raise UsageError(
                "--model and --run exclude each other", "--run measures the run's base and best model"
            )
        if self.from_openai is not None and self.runs:
            raise UsageError(
                "--from-openai and --run exclude each other", "a run is measured with its own grader"
            )
        if min_gain is not None and not self.runs:
            raise UsageError(
                "--min-gain needs --run", "a gain is measured from a run's base to its best checkpoint"
            )
        if min_reward is not None and self.model is None and not self.runs:
            raise UsageError("--min-reward needs --model or --run", "say which model is to be measured")

    def _check_plan(self, min_reward: float | None) -> None:
        others = {"--run": self.runs, "--endpoint": self.endpoint, "--min-reward": min_reward is not None}
        for flag, given in others.items():
            if given:
                raise UsageError(f"--plan and {flag} exclude each other", "a plan measures nothing")
