"""`rft train`: the same engine as `rft create`, from a YAML file."""

from __future__ import annotations

from typing import Annotated

import typer

from rft_cli.commands import shared
from rft_cli.commands.create import create
from rft_cli.errors import UsageError

ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="CONFIG.yaml", help="A YAML file with settings; flags win over it.")
]


def train(
    config_file: ConfigArgument = None,
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
    """Run the job that a YAML file describes, or continue one with --resume RUN.

    Examples:

    \b
    rft train configs/quickstart.yaml --n-epochs 4
    rft train --resume latest
    """
    config_file = shared.one_config(config_file, config)
    if config_file is None and resume is None and from_openai is None:
        raise UsageError(
            "there is no CONFIG.yaml",
            "give one, or a job with --from-openai, or continue a run with --resume RUN",
        )
    create(
        training_file=training_file,
        validation_file=validation_file,
        test=test,
        model=model,
        reward_model=reward_model,
        grader_env=grader_env,
        limits=limits,
        learning_rate=learning_rate,
        n_epochs=n_epochs,
        algorithm=algorithm,
        from_openai=from_openai,
        config=config_file,
        sets=sets,
        seed=seed,
        name=name,
        output_dir=output_dir,
        num_processes=num_processes,
        resume=resume,
        force=force,
        min_gain=min_gain,
        gate_on=gate_on,
        json=json,
        quiet=quiet,
        debug=debug,
    )
