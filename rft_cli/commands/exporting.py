"""What `rft export` does around the export: the reward again through the export, and the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rft_cli.commands.job.preflight import preflight
from rft_cli.commands.needs import MEASURE_NEEDS
from rft_cli.commands.signals import imports_whole
from rft_cli.config.load import LoadedConfig
from rft_cli.config.paths import is_path
from rft_cli.console.text import clean
from rft_cli.errors import GateNotMet, UsageError
from rft_cli.events import Note, OnEvent
from rft_cli.job import Job
from rft_cli.runs.exports import ExportPlan
from rft_cli.runs.push import Push, check_push, push_folder
from rft_cli.serving import llama_cpp
from rft_cli.types import Estimate

if TYPE_CHECKING:
    from rft_cli.training.export.exporter import Exported
    from rft_cli.training.export.regrade import ExportReward


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What follows the export: the rows to grade again, and where it is pushed to."""

    job: Job | None
    push: Push | None

    @classmethod
    def checked(
        cls, plan: ExportPlan, loaded: LoadedConfig, *, verify: bool, push: str | None, private: bool
    ) -> Afterwards:
        """UsageError where it can't be done: nothing is exported then."""
        if private and push is None:
            raise UsageError("--private is for --push", "add --push ORG/NAME")
        wanted = None if push is None else Push(push, private)
        if wanted is not None:
            _check_public(plan, loaded.config.model.path)
            check_push(wanted)
        return cls(_job(plan, loaded) if verify else None, wanted)


def _check_public(plan: ExportPlan, base: str) -> None:
    """Others can load an adapter only where its base is on the hub."""
    if plan.format == "adapter" and (base.startswith("builtin/") or is_path("model.path", base)):
        raise UsageError(
            f"--push: {base}, the base of this adapter, is not on the hub: nobody else could load it",
            "push whole weights with --format merged",
        )


def _job(plan: ExportPlan, loaded: LoadedConfig) -> Job:
    """The run's own rows and grader, as they are now."""
    if plan.format == "gguf" and llama_cpp.server_command() is None:
        raise UsageError(
            f"--verify grades a GGUF file in llama.cpp's server: it needs {llama_cpp.MISSING}, which is not here",
            f"{llama_cpp.INSTALL}; or leave --verify out: the file is reloaded and compared all the same",
        )
    if not plan.run.has_samples(f"step-{plan.step:06d}"):
        raise UsageError(
            f"--verify: the reward of step {plan.step} was not measured in {plan.run.path}",
            "take a checkpoint that was: --checkpoint best",
        )
    found = preflight(loaded.config, MEASURE_NEEDS, loaded.origins)
    found.raise_problems()
    data = found.files.data
    return Job(found.config, data.get("train", data["validation"]), data["validation"], data.get("test"))


@dataclass(frozen=True, slots=True)
class Done:
    """An export with what followed it."""

    exported: Exported
    regraded: ExportReward | None
    address: str | None

    def to_json(self) -> dict[str, Any]:
        """The document of `rft export --json`."""
        return {
            **self.exported.to_json(),
            "regraded": None if self.regraded is None else self.regraded.to_json(),
            "pushed": self.address,
        }

    def error(self) -> GateNotMet | None:
        """The error of an export whose reward is not the run's."""
        if self.regraded is None or self.regraded.agrees:
            return None
        return GateNotMet(
            f"the export's reward is not the run's: {_difference(self.regraded.reward.difference)} on the same rows "
            f"in {self.regraded.engine}"
        )

    def print_more(self) -> None:
        """What --verify found, and where --push put it."""
        found = self.regraded
        if found is not None:
            reward = found.reward
            print(
                f"reward    {reward.after.mean:.3f} through {found.engine}, {reward.before.mean:.3f} in the run "
                f"({reward.after.n} validation rows)"
            )
            print(f"          {_difference(reward.difference)}, paired")
            if found.greedy_prompts is not None:
                print(
                    f"          {found.greedy_equal} of {found.greedy_prompts} greedy completions are those of "
                    "transformers"
                )
        if self.address is not None:
            print(f"pushed    {clean(self.address)}")


def run_export(plan: ExportPlan, loaded: LoadedConfig, after: Afterwards, printer: OnEvent) -> Done:
    """Export, grade again, push; what disagrees is not pushed."""
    with imports_whole():
        from rft_cli.training.export.exporter import export

    exported = export(plan, loaded.config, printer)
    regraded = None
    if after.job is not None:
        from rft_cli.training.export.regrade import regrade

        regraded = regrade(after.job, plan, plan.target, exported.greedy, printer)
    done = Done(exported, regraded, None)
    if after.push is None or done.error() is not None:
        return done
    printer(Note(f"pushing to {after.push.repo}"))
    address = push_folder(after.push, plan.target, f"{plan.run.name}, step {plan.step}, by rft")
    return Done(exported, regraded, address)


def _difference(found: Estimate) -> str:
    low, high = found.ci95
    return f"difference {found.mean:+.3f} [{low:+.3f}, {high:+.3f}]"
