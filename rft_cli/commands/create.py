"""`rft create`: training rows, validation rows and a scorer become a better model."""

from __future__ import annotations

from typing import Any

from rft_cli.commands import shared
from rft_cli.config.paths import one_or_all
from rft_cli.errors import UsageError


def create(
    training_file: shared.TrainingFile = None,
    validation_file: shared.ValidationFile = None,
    test: shared.TestFile = None,
    model: shared.Model = None,
    reward_model: shared.RewardModel = None,
    grader_env: shared.GraderEnv = None,
    limits: shared.Limits = None,
    learning_rate: shared.LearningRate = None,
    n_epochs: shared.Epochs = None,
    algorithm: shared.Algorithm = None,
    from_openai: shared.FromOpenAI = None,
    config: shared.ConfigFile = None,
    sets: shared.Sets = None,
    seed: shared.Seed = None,
    name: shared.Name = None,
    output_dir: shared.OutputDir = None,
    num_processes: shared.NumProcesses = None,
    resume: shared.Resume = None,
    force: shared.Force = False,
    min_gain: shared.MinGain = None,
    gate_on: shared.GateOnOption = "mean",
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Train a model with your data and your scorer, and show what it gained.

    Examples:

    \b
    rft create -t train.jsonl -v val.jsonl --reward-model scorer.py
    rft create --from-openai job.json -t train.jsonl -v val.jsonl
    """
    from rft_cli.commands.gates import Gates
    from rft_cli.commands.request import JOB_NEEDS, Output, Settings

    overrides: dict[str, Any] = {
        "data.train": one_or_all(training_file or []),
        "data.validation": one_or_all(validation_file or []),
        "data.test": one_or_all(test or []),
        "model.path": model,
        "grader.path": reward_model or None,
        "grader.env": shared.variables(grader_env),
        "grader.limits": limits,
        "optim.learning_rate": learning_rate,
        "optim.n_epochs": n_epochs,
        "algorithm": algorithm,
        "seed": seed,
        "name": name,
        "output_dir": output_dir,
        "num_processes": num_processes,
    }
    if force and resume is None:
        raise UsageError(
            "--force needs --resume", "it makes a run go on though its settings or files have changed"
        )
    gates = Gates(min_gain=min_gain, on=gate_on).check()
    settings = Settings(config, overrides, sets or [], from_openai)
    # Loaded before anything else is imported: a mistake in a setting is told at once.
    loaded = settings.load_for_job(JOB_NEEDS) if resume is None else None
    from rft_cli.commands.flow import run_job

    run_job(settings, loaded, resume=resume, force=force, gates=gates, output=Output(json, quiet))
