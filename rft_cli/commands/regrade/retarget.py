"""The command that trains with the grader that a run's completions were graded with again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rft_cli.commands.settings import Settings
from rft_cli.config import RunConfig
from rft_cli.config.paths import named
from rft_cli.config.suggest import counted
from rft_cli.grading.stats import GraderStats
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import quoted
from rft_cli.view.regraded import StepScores

_FLAGS = {"data.train": "-t", "data.validation": "-v", "grader.path": "--reward-model", "grader.env": "--grader-env",
          "grader.limits": "--limits"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """`command` starts the job, None where no job follows from these grades; `why` says what speaks for its first
    model, or why there is none."""

    command: str | None
    why: str


def no_job(stats: GraderStats, most_failed: float, unedited: bool) -> Choice | None:
    """What to say in place of a command: the grades failed, there are none, or the grader is still the old one."""
    if stats.failure_rate > most_failed or not stats.graded:
        reasons = stats.reasons()
        if not reasons:
            return Choice(None, "nothing was graded, so there is nothing to compare")
        text = f"{counted(stats.failed, 'grade')} of {stats.total:,} failed, so there is nothing to go by"
        return Choice(None, f"{text}: {reasons[0].kind}: {reasons[0].message}")
    if unedited:
        return Choice(None, "this is the grader that the run was trained with: change it, then grade again")
    return None


def retarget(run: Run, config: RunConfig, settings: Settings, steps: Sequence[StepScores]) -> Choice:
    """A new job with the run's settings and the new grader: from the run's best checkpoint where that is better than
    the base under the new grader too, else from the base."""
    best = int(run.info.get("best_step") or 0)
    config_file = quoted(run.path / "config.yaml")
    given = " ".join(_given(settings))
    algorithm = " --algorithm ppo" if config.teaches else ""
    scores = [step for step in steps if step.step == best and step.split != "training" and step.new_gain]
    gain = scores[-1].new_gain if scores else None
    saved = best in run.checkpoints()
    if gain is not None and gain.ci95[0] > 0 and saved:
        why = f"step {best} is better than the base under the new grader too: it goes on from there"
        return Choice(f"rft train {config_file} --model {quoted(run.path)}{algorithm} {given}".rstrip(), why)
    if gain is None or not best:
        why = "nothing that the run trained is better than its base: it starts from the base"
    elif not saved:
        why = f"the checkpoint of step {best} is gone: it starts from the base"
    else:
        why = f"step {best} is not clearly better than the base under the new grader: it starts from the base"
    return Choice(f"rft train {config_file}{algorithm} {given}".rstrip(), why)


def _given(settings: Settings) -> list[str]:
    """The settings that were typed, as `rft train` takes them."""
    found = []
    for key, value in settings.overrides.items():
        if value is None or key == "output_dir":
            continue
        for one in named(value) if isinstance(value, str | list) else [str(value)]:
            flag = _FLAGS.get(key)
            found.append(f"{flag} {quoted(one)}" if flag else f"--set {quoted(f'{key}={one}')}")
    return [*found, *(f"--set {quoted(text)}" for text in settings.sets)]
