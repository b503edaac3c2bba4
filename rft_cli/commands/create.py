"""`rft create`: training rows, validation rows and a scorer become a better model."""

from __future__ import annotations

from typing import Any

from rft_cli.commands import flags
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.validation.gates import Gates


def create(
    training_file: flags.TrainingFile = None,
    validation_file: flags.ValidationFile = None,
    test: flags.TestFile = None,
    model: flags.Model = None,
    reward_model: flags.RewardModel = None,
    guard: flags.Guard = None,
    grader_env: flags.GraderEnv = None,
    limits: flags.Limits = None,
    learning_rate: flags.LearningRate = None,
    n_epochs: flags.Epochs = None,
    algorithm: flags.Algorithm = None,
    from_openai: flags.FromOpenAI = None,
    config: flags.ConfigFile = None,
    sets: flags.Sets = None,
    seed: flags.Seed = None,
    name: flags.Name = None,
    output_dir: flags.OutputDir = None,
    num_processes: flags.NumProcesses = None,
    resume: flags.Resume = None,
    force: flags.Force = False,
    report_to: flags.ReportTo = None,
    min_gain: flags.MinGain = None,
    gate_on: flags.GateOnOption = "mean",
    dry_run: flags.DryRun = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    progress: flags.Progress = "auto",
    debug: flags.Debug = False,
) -> None:
    """Train a model with your data and your scorer, and show what it gained.

    Examples:

    \b
    rft create -t train.jsonl -v val.jsonl --reward-model scorer.py
    rft create --from-openai job.json -t train.jsonl -v val.jsonl
    """
    overrides: dict[str, Any] = {
        "data.train": flags.files(training_file),
        "data.validation": flags.files(validation_file),
        "data.test": flags.files(test),
        "model.path": model,
        "grader.path": reward_model or None,
        "grader.guard": guard,
        "grader.env": flags.variables(grader_env),
        "grader.limits": limits,
        "optim.learning_rate": learning_rate,
        "optim.n_epochs": n_epochs,
        "algorithm": algorithm,
        "seed": seed,
        "name": name,
        "output_dir": output_dir,
        "num_processes": num_processes,
        "report_to": flags.files(report_to),
    }
    resumed = flags.one_resumed(resume, force)
    flags.check_progress(progress, quiet)
    gates = Gates(min_gain=min_gain, on=gate_on).check()
    settings = Settings(config, overrides, sets or [], from_openai)
    _run(settings, resumed, force, gates, Output(json, quiet, progress), dry_run)


def _run(
    settings: Settings, resumed: str | None, force: bool, gates: Gates, output: Output, dry_run: bool
) -> None:
    # Loaded before anything else is imported: a wrong setting is reported immediately.
    loaded = settings.load() if resumed is None else None
    if dry_run:
        from rft_cli.commands.job import dry_run as dry

        dry.dry_run(settings, loaded, resumed, force, output)
    else:
        from rft_cli.commands.job.start import run_job

        run_job(settings, loaded, resume=resumed, force=force, gates=gates, output=output)
