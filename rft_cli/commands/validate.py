"""`rft validate`: check a job without a model, or measure a model (or a run against its base) on validation rows."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from rft_cli.commands import flags
from rft_cli.commands.needs import MEASURE_NEEDS
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.signals import signals_interrupt
from rft_cli.commands.terminal import need_stdout
from rft_cli.commands.validation import options
from rft_cli.commands.validation.gates import Gates


def validate(
    config_file: flags.ConfigArgument = None,
    training_file: flags.TrainingFile = None,
    validation_file: flags.ValidationFile = None,
    reward_model: flags.RewardModel = None,
    guard: flags.Guard = None,
    grader_env: flags.GraderEnv = None,
    limits: flags.Limits = None,
    model: options.ModelOption = None,
    run: options.RunOption = None,
    endpoint: options.EndpointOption = None,
    api_key_env: options.KeyEnv = None,
    concurrency: options.Concurrency = None,
    timeout: options.Timeout = None,
    from_openai: flags.FromOpenAI = None,
    min_reward: flags.MinReward = None,
    min_gain: flags.MinGain = None,
    gate_on: flags.GateOnOption = "mean",
    plan: options.PlanOption = False,
    gpu: options.GpuOption = None,
    gpus: options.GpusOption = 1,
    config: flags.ConfigFile = None,
    sets: flags.Sets = None,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    progress: flags.Progress = "auto",
    debug: flags.Debug = False,
) -> None:
    """Check everything a job needs; with --model or --run also measure the reward on the validation rows.

    Examples:

    \b
    rft validate config.yaml                  checks all, loads no model
    rft validate --from-openai job.json       the same for OpenAI's job
    rft validate config.yaml --model MODEL --min-reward 0.8
    rft validate --run latest --min-gain 0.1 --gate-on low
    rft validate --run runs/a --run runs/b
    rft validate --run latest --endpoint http://127.0.0.1:8000/v1 --model NAME
    rft validate --model Qwen/Qwen2.5-7B-Instruct --plan --gpu 80GB
    """
    config_file = flags.one_config(config_file, config)
    flags.check_progress(progress, quiet)
    asking = {"--api-key-env": api_key_env, "--concurrency": concurrency, "--timeout": timeout}
    options.ValidateFlags(model, run or (), from_openai, endpoint, asking, plan, gpu, gpus).check(
        min_reward, min_gain
    )
    overrides: dict[str, Any] = {
        "data.train": flags.files(training_file),
        "data.validation": flags.files(validation_file),
        "model.path": model if endpoint is None else None,
        "grader.path": reward_model or None,
        "grader.guard": guard,
        "grader.env": flags.variables(grader_env),
        "grader.limits": limits,
        "output_dir": output_dir,
    }
    settings = Settings(config_file, overrides, sets or [], from_openai)
    gates = Gates(min_reward, min_gain, gate_on).check()
    output = Output(json, quiet, progress)
    need_stdout()
    with signals_interrupt(signal.SIGINT):
        if endpoint is not None and model is not None:
            from rft_cli.commands.validation.asked_endpoint import AskedEndpoint
            from rft_cli.commands.validation.endpoint import measure_endpoint

            asked = AskedEndpoint(endpoint, model, api_key_env, concurrency or 8, timeout or 120.0)
            measure_endpoint(asked, run or (), settings, gates, output)
        elif plan:
            from rft_cli.commands.validation.plan import plan_memory

            plan_memory(settings, gpu, gpus, output)
        else:
            _check_or_measure(settings, model, run or (), gates, output)


def _check_or_measure(
    settings: Settings, model: str | None, runs: Sequence[str], gates: Gates, output: Output
) -> None:
    if runs:
        from rft_cli.commands.validation.runs import measure_runs

        measure_runs(runs, settings, gates, output)
    elif model is not None:
        from rft_cli.commands.validation.measure import measure

        measure(settings.load(MEASURE_NEEDS), None, gates, output)
    else:
        from rft_cli.commands.validation.checklist import check_job

        check_job(settings, settings.load(settings.needs()), output)
