"""Tripwires: bounds on figures of the rollout batches that show that training goes wrong.

Each wire compares one figure with one setting of `tripwires` and warns once, until the figure is good again. The
defaults are measured (`docs/reliability.md`): no good run trips a wire, runs made bad on purpose do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.config.training_sections import TripwireConfig
from rft_cli.errors import RunFailed
from rft_cli.events import Note, OnEvent
from rft_cli.runs import Run
from rft_cli.training.distributed.group import from_main
from rft_cli.training.hooks.divergence import how_to_go_on

Figures = Mapping[str, float | None]
"""One rollout batch's line of metrics."""


def mean_of(batches: Sequence[Figures], name: str, window: int) -> float | None:
    """The mean of a figure over the last `window` batches that have it; None before there are so many."""
    values = [v for b in batches if (v := b.get(name)) is not None][-window:]
    return sum(values) / window if len(values) == window else None


def growth(first: Sequence[float], now: float | None, window: int) -> float | None:
    """`now` as a multiple of the mean over the first `window` batches; None before there are so many."""
    if now is None or len(first) < window or sum(first) <= 0:
        return None
    return now / (sum(first) / window)


def without_contrast(batches: Sequence[Figures]) -> int:
    """How many batches in a row, up to the last, had equal rewards in every group, or no reward at all."""
    count = 0
    for batch in reversed(batches):
        constant = batch.get("constant_groups")
        if batch.get("reward") is not None and (constant is None or constant < 1.0):
            break
        count += 1
    return count


def pooled_explained_variance(batches: Sequence[Figures], window: int) -> float | None:
    """1 - (sum of residual variances) / (sum of the returns' variances) over the last `window` batches that have both.

    A plain mean would be ruled by batches whose returns hardly differ: with a solved task, -100 is nothing to fear.
    None before there are so many batches, or where the returns never differed.
    """
    pairs = [
        (ev, std**2)
        for b in batches
        if (ev := b.get("explained_variance")) is not None and (std := b.get("return_std")) is not None
    ][-window:]
    total = sum(variance for _, variance in pairs)
    if len(pairs) < window or total <= 0:
        return None
    return 1.0 - sum((1.0 - ev) * variance for ev, variance in pairs) / total


@dataclass(frozen=True, slots=True)
class Tripped:
    """A wire that has just tripped, by the name of its setting, and the text of the warning."""

    name: str
    text: str


class Tripwires:
    """The wires of one job. `limit`: the length limit of completions in tokens."""

    def __init__(self, settings: TripwireConfig, algorithm: str, limit: int) -> None:
        self._settings, self._algorithm, self._limit = settings, algorithm, limit
        self._batches: list[dict[str, float | None]] = []
        self._first: list[float] = []
        self._tripped: set[str] = set()
        self._keep = max(settings.window, settings.constant_reward or 0, settings.explained_variance_window)

    def observe(self, metrics: Figures) -> list[Tripped]:
        """Add a rollout batch's metrics; the wires that trip now and had not before."""
        batch = {name: metrics.get(name) for name in _NEEDED}
        self._batches = [*self._batches, batch][-self._keep :]
        length = batch["completion_tokens"]
        if length is not None and len(self._first) < self._settings.window:
            self._first.append(length)
        found = []
        for name, judge in _WIRES.items():
            if self._algorithm == "sft" and name not in _OF_SFT:
                continue
            bound = getattr(self._settings, name)
            text = None if bound is None else judge(self, bound)
            if text is not None and name not in self._tripped:
                found.append(Tripped(name, f"{text} (tripwires.{name} is {bound:g})"))
            (self._tripped.discard if text is None else self._tripped.add)(name)
        return found

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as plain JSON."""
        return {"batches": self._batches, "first": self._first, "tripped": sorted(self._tripped)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._batches, self._first = [dict(b) for b in state["batches"]], list(state["first"])
        self._tripped = set(state["tripped"])

    # The wires: None while the figure is good, else the text of the warning.

    def _mean(self, name: str) -> float | None:
        return mean_of(self._batches, name, self._settings.window)

    def _kl(self, bound: float) -> str | None:
        kl = self._mean("kl_per_token")
        if kl is None or kl <= bound:
            return None
        estimator = "k3" if self._algorithm == "grpo" else "k1"
        return (
            f"KL ({estimator}) to the reference is {kl:.3g} nats a token: the policy is far from where it began, most "
            "often because its steps are too large; lower optim.learning_rate or raise ppo.kl_coef"
        )

    def _entropy(self, bound: float) -> str | None:
        entropy = self._mean("entropy")
        if entropy is None or entropy >= bound:
            return None
        if self._algorithm == "sft":
            return (
                f"entropy is {entropy:.2g} nats a token on the references: the model has memorised them, and more "
                "steps teach nothing new; lower optim.n_epochs or optim.learning_rate"
            )
        bonus = "raise ppo.entropy_coef" if self._algorithm == "ppo" else "raise ppo.kl_coef"
        return (
            f"entropy is {entropy:.2g} nats a token: sampling always gives the same, and nothing new is tried; unless "
            f"the reward is as high as it can be, lower optim.learning_rate or {bonus}"
        )

    def _completion_growth(self, bound: float) -> str | None:
        length = self._mean("completion_tokens")
        times = growth(self._first, length, self._settings.window)
        if length is None or times is None or times <= bound:
            return None
        return (
            f"completions have {length:.0f} tokens on average, {times:.1f} times as many as at the start: the grader "
            "may pay for length; read the longest ones in rollouts/, and have the grader take length into account"
        )

    def _completion_limit(self, bound: float) -> str | None:
        length = self._mean("completion_tokens")
        if length is None or length < bound * self._limit:
            return None
        return (
            f"completions have {length:.0f} tokens on average, of {self._limit} that they may have: the policy does "
            "not end them; raise rollout.max_completion_tokens if good ones need more, else lower optim.learning_rate"
        )

    def _truncated(self, bound: float) -> str | None:
        share = self._mean("truncated")
        if share is None or share <= bound:
            return None
        return (
            f"{share:.0%} of the completions were cut at {self._limit} tokens and are graded unfinished; raise "
            "rollout.max_completion_tokens, or have the grader pay for an end in time"
        )

    def _constant_reward(self, bound: int) -> str | None:
        count = without_contrast(self._batches)
        if count < bound:
            return None
        return (
            f"no prompt's completions differed in their reward in the last {count} rollout batches: there is nothing "
            "to learn from; the task is solved, too hard, or the grader can't tell completions apart: see rollouts/"
        )

    def _explained_variance(self, bound: float) -> str | None:
        window = self._settings.explained_variance_window
        found = pooled_explained_variance(self._batches, window)
        if found is None or found >= bound:
            return None
        return (
            f"the critic's explained variance is {found:.3g} over {window} rollout batches: it predicts worse than a "
            "constant would, which makes advantages noisy; lower ppo.critic_learning_rate, or take another ppo.critic"
        )


_NEEDED = (
    "reward", "kl_per_token", "entropy", "completion_tokens", "truncated", "constant_groups", "explained_variance",
    "return_std",
)  # fmt: skip

_WIRES: dict[str, Callable[[Tripwires, Any], str | None]] = {
    "kl": Tripwires._kl,
    "entropy": Tripwires._entropy,
    "completion_growth": Tripwires._completion_growth,
    "completion_limit": Tripwires._completion_limit,
    "truncated": Tripwires._truncated,
    "constant_reward": Tripwires._constant_reward,
    "explained_variance": Tripwires._explained_variance,
}
"""By the name of the setting that each one is compared with."""
_OF_SFT = ("entropy",)
"""Wires whose figure a step of sft has."""


class TripwireMonitor:
    """Warns where a wire trips and, with `action: stop`, ends the job; every process calls it, process 0 decides."""

    def __init__(self, wires: Tripwires, action: str, run: Run, on_event: OnEvent, rank: int) -> None:
        self.wires, self._action, self._run, self._on_event = wires, action, run, on_event
        self._main = rank == 0
        self._ending = ""

    def begin(self, step: int) -> None:
        """A job starts or resumes after `step`: later warnings will be made again."""
        if self._main:
            kept = [w for w in self._run.info.get("warnings") or [] if w["step"] <= step]
            self._run.update(warnings=kept)

    def observe(self, step: int, metrics: Figures) -> bool:
        """Check a rollout batch's line of metrics; whether the job is to end after a checkpoint of this step."""
        if self._action == "stop":
            # Figures may differ by a rounding between processes, the decision may not.
            self._ending = from_main(lambda: self._warn(step, metrics))
        elif self._action == "warn" and self._main:
            self._warn(step, metrics)
        return bool(self._ending)

    def _warn(self, step: int, metrics: Figures) -> str:
        tripped = self.wires.observe(metrics)
        for t in tripped:
            self._on_event(Note(t.text, "warning", step, t.name))
        return "; ".join(t.text for t in tripped)

    def check(self) -> None:
        """With `action: stop`, raise RunFailed where a wire tripped; its checkpoint is committed."""
        if self._ending:
            raise RunFailed(f"a tripwire ended the job: {self._ending}", how_to_go_on(self._run))
