"""Thresholds of `--min-reward` and `--min-gain`: a result below one ends in exit code 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.errors import GateNotMet, UsageError

GateOn = Literal["mean", "low"]


@dataclass(frozen=True, slots=True)
class Gates:
    """The thresholds, or None. `on`: compare the mean, or the low end of its 95 % interval."""

    min_reward: float | None = None
    min_gain: float | None = None
    on: GateOn = "mean"

    def check(self) -> Gates:
        """These gates; UsageError if `on` is set without a threshold."""
        if self.on == "low" and self.min_reward is None and self.min_gain is None:
            raise UsageError(
                "--gate-on low needs a threshold", "give --min-gain X, or --min-reward X with `rft validate`"
            )
        return self

    def unmet(self, document: Mapping[str, Any]) -> list[str]:
        """A message for each gate that this result, of a job or of `rft validate`, does not meet."""
        return [text for text in (self._gain(document), self._reward(document)) if text is not None]

    def error(self, document: Mapping[str, Any]) -> GateNotMet | None:
        """The same as one error, None if all are met."""
        unmet = self.unmet(document)
        return GateNotMet("\n".join(unmet)) if unmet else None

    def _gain(self, document: Mapping[str, Any]) -> str | None:
        if self.min_gain is None:
            return None
        split = "test" if "test" in document else "validation"
        if document.get("best_step") == 0 and self.min_gain >= 0:
            return f"--min-gain {self.min_gain:g} is not met: nothing beat the base model"
        short = self._short_of(self.min_gain, document[split]["difference"])
        return f"--min-gain {self.min_gain:g} is not met: the {split} rows gained {short}" if short else None

    def _reward(self, document: Mapping[str, Any]) -> str | None:
        if self.min_reward is None:
            return None
        measured = document["validation"]
        short = self._short_of(self.min_reward, measured.get("after", measured))
        return f"--min-reward {self.min_reward:g} is not met: the mean reward is {short}" if short else None

    def _short_of(self, least: float, estimate: Mapping[str, Any]) -> str | None:
        """What was measured, in words, if it is less than `least`."""
        mean, low = estimate["mean"], estimate["ci95"][0]
        if self.on == "low":
            return f"{mean:.4f}, the low end of its 95 % interval is {low:.4f}" if low < least else None
        return f"{mean:.4f}" if mean < least else None
