"""`rft validate`: check a job without a model, or measure a model (or a run against its base) on validation rows."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from rft_cli.commands import flags
from rft_cli.commands.needs import MEASURE_NEEDS
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.signals import signals_interrupt
from rft_cli.commands.terminal import need_stdout
from rft_cli.commands.validation.asked_endpoint import AskedEndpoint
from rft_cli.commands.validation.gates import Gates
from rft_cli.errors import UsageError

RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Measure a run's best checkpoint against its base model.",
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
    int,
    typer.Option("--concurrency", metavar="N", min=1, max=1024, help="Requests to the endpoint at a time."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Time of one try at the endpoint.")
]


def validate(
    config_file: flags.ConfigArgument = None,
    training_file: flags.TrainingFile = None,
    validation_file: flags.ValidationFile = None,
    reward_model: flags.RewardModel = None,
    grader_env: flags.GraderEnv = None,
    limits: flags.Limits = None,
    model: ModelOption = None,
    run: RunOption = None,
    endpoint: EndpointOption = None,
    api_key_env: KeyEnv = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    from_openai: flags.FromOpenAI = None,
    min_reward: flags.MinReward = None,
    min_gain: flags.MinGain = None,
    gate_on: flags.GateOnOption = "mean",
    config: flags.ConfigFile = None,
    sets: flags.Sets = None,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    debug: flags.Debug = False,
) -> None:
    """Check everything a job needs; with --model or --run also measure the reward on the validation rows.

    Examples:

    \b
    rft validate config.yaml                  checks all, loads no model
    rft validate --from-openai job.json       the same for OpenAI's job
    rft validate config.yaml --model MODEL --min-reward 0.8
    rft validate --run latest --min-gain 0.1 --gate-on low
    rft validate --run latest --endpoint http://127.0.0.1:8000/v1 --model NAME
    """
    config_file = flags.one_config(config_file, config)
    asked = AskedEndpoint(endpoint, model or "", api_key_env, concurrency, timeout).check(
        model, run, min_gain
    )
    if asked is None:
        _check_flags(model, run, from_openai, min_reward, min_gain)
    overrides: dict[str, Any] = {
        "data.train": flags.files(training_file),
        "data.validation": flags.files(validation_file),
        "model.path": model if asked is None else None,
        "grader.path": reward_model or None,
        "grader.env": flags.variables(grader_env),
        "grader.limits": limits,
        "output_dir": output_dir,
    }
    gates = Gates(min_reward, min_gain, gate_on).check()
    output = Output(json, quiet)
    need_stdout()
    with signals_interrupt(signal.SIGINT):
        if asked is not None:
            from rft_cli.commands.validation.endpoint import measure_endpoint

            settings = Settings(config_file, overrides, sets or [], from_openai)
            measure_endpoint(asked, run, settings, gates, output)
            return
        if run is not None:
            _measure_run(run, Settings(config_file, overrides, sets or []), gates, output)
            return
        settings = Settings(config_file, overrides, sets or [], from_openai)
        loaded = settings.load(settings.needs() if model is None else MEASURE_NEEDS)
        if model is None:
            from rft_cli.commands.validation.checklist import check_job

            check_job(settings, loaded, output)
        else:
            from rft_cli.commands.validation.measure import measure

            measure(loaded, None, gates, output)


def _check_flags(
    model: str | None,
    run: str | None,
    from_openai: str | None,
    min_reward: float | None,
    min_gain: float | None,
) -> None:
    """Raise UsageError for flags that exclude or need each other."""
    if model is not None and run is not None:
        raise UsageError(
            "--model and --run exclude each other", "--run measures the run's base and best model"
        )
    if from_openai is not None and run is not None:
        raise UsageError(
            "--from-openai and --run exclude each other", "a run is measured with its own grader"
        )
    if min_gain is not None and run is None:
        raise UsageError(
            "--min-gain needs --run", "a gain is measured from a run's base to its best checkpoint"
        )
    if min_reward is not None and model is None and run is None:
        raise UsageError("--min-reward needs --model or --run", "say which model is to be measured")


def _measure_run(ref: str, settings: Settings, gates: Gates, output: Output) -> None:
    """Measure a run with its own settings, where no other config is given; flags win over both."""
    from rft_cli.commands.validation.measure import measure
    from rft_cli.runs import Run
    from rft_cli.runs.model_source import revision_of

    run = Run.open(ref, settings.overrides["output_dir"] or "runs")
    file = settings.file or str(run.path / "config.yaml")
    overrides = {**settings.overrides, "model.path": run.info["model"], "model.revision": revision_of(run)}
    loaded = Settings(file, overrides, settings.sets).load(MEASURE_NEEDS)
    measure(loaded, run, gates, output)
