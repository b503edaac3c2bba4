"""Every key of metrics.jsonl: its unit, which algorithms write it, what it means. The one source of docs/metrics.md.

`python -m rft_cli.report.metrics_table docs/metrics.md` writes the page's table anew between its markers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BEGIN = "<!-- metrics: made by `python -m rft_cli.report.metrics_table docs/metrics.md`, do not edit -->"
END = "<!-- end of metrics -->"
ROLLOUTS, PPO, SFT, ALL = "ppo, grpo, rloo", "ppo", "sft", "all"


@dataclass(frozen=True, slots=True)
class Metric:
    """One key; a name that ends with `/` is the beginning of several, each with a name of the user's or rft's."""

    name: str
    unit: str
    of: str
    meaning: str

    @property
    def shown(self) -> str:
        return f"{self.name}NAME" if self.name.endswith("/") else self.name

    def covers(self, key: str) -> bool:
        """Whether a line's key is this one, or one of those that begin with it."""
        return key == self.name or (self.name.endswith("/") and key.startswith(self.name))


METRICS = (
    Metric("step", "steps", ALL, "The optimizer step that the line is about, from 1."),
    Metric("epoch", "epochs", ALL, "Passes over the training rows until now."),
    Metric("reward", "reward", ROLLOUTS, "Mean reward of the rollout batch's graded completions."),
    Metric("reward/", "the component's", ROLLOUTS, "Mean of this component of the scorer's, over graded completions."),
    Metric("reward_std", "reward", ROLLOUTS, "Standard deviation of the rewards of a rollout batch."),
    Metric(
        "reward_spread", "reward", "ppo, rloo",
        "Standard deviation of the job's rewards until now: the unit in which `ppo.kl_unit: spread` weighs the KL.",
    ),
    Metric(
        "constant_groups", "share", ROLLOUTS,
        "Prompts whose completions all got one reward, of those with at least two graded ones: they teach nothing.",
    ),
    Metric("completions", "completions", ROLLOUTS, "Completions that were sampled in training until now."),
    Metric("completion_tokens", "tokens", ROLLOUTS, "Mean length of the completions."),
    Metric("truncated", "share", ROLLOUTS, "Completions that were cut at the length limit."),
    Metric(
        "kl_per_token", "nats/token", ROLLOUTS,
        "KL of the policy to the reference, mean over tokens: k1 under ppo and rloo, k3 under grpo. The tripwire "
        "`tripwires.kl` watches it.",
    ),
    Metric(
        "kl", "nats", ROLLOUTS,
        "The same KL as the trainer has it: under ppo k1 summed over a completion, mean over completions; under grpo "
        "and rloo a token's.",
    ),
    Metric("kl_k3", "nats", PPO, "The KL's estimator k3, summed over a completion, mean over completions."),
    Metric("entropy", "nats/token", ALL, "Mean entropy of the policy's next token."),
    Metric(
        "ratio", "ratio", PPO,
        "Mean ratio of the policy's probability of a token to that at sampling; 1 in a batch's first step, but for "
        "`rollout.ahead: 1`.",
    ),
    Metric("clip_fraction", "share", ROLLOUTS, "Tokens whose ratio was clipped, and so pulled nothing."),
    Metric(
        "policy_loss", "reward spreads", PPO,
        "PPO's clipped policy loss, mean over tokens. Near 0 in a batch's first step: advantages are centred.",
    ),
    Metric("loss", "the algorithm's", ALL, "What the optimizer minimised. sft: nats a token of the references."),
    Metric("value_loss", "normalised", PPO, "The critic's clipped loss; with `ppo.critic: mlp`."),
    Metric(
        "explained_variance", "share", PPO,
        "How much of the returns' variance the critic's values explain; 0: none, 1: all. With `ppo.critic: mlp`.",
    ),
    Metric("return_mean", "reward", PPO, "Mean of the returns of all tokens: reward less the KL that is weighed."),
    Metric("return_std", "reward", PPO, "Standard deviation of those returns."),
    Metric("grad_norm", "norm", ALL, "Norm of the gradients before they are clipped to `optim.max_grad_norm`."),
    Metric("learning_rate", "rate", ALL, "The policy's learning rate in this step."),
    Metric("skipped_steps", "steps", ALL, "Steps until now that moved nothing: loss or gradient was not finite."),
    Metric("skipped_critic_steps", "steps", PPO, "The same of the critic; with `ppo.critic: mlp`."),
    Metric(
        "rollouts_not_finite", "completions", PPO,
        "Completions of the batch left out because a log-probability was not finite.",
    ),
    Metric("token_accuracy", "share", SFT, "Reference tokens that the policy puts first."),
    Metric("rows", "rows", SFT, "Rows that were learned from until now."),
    Metric("tokens", "tokens", SFT, "Tokens that were read until now, prompts included."),
    Metric("grader_skipped", "completions", ROLLOUTS, "Completions of the batch that the scorer returned None for."),
    Metric("grader_skipped_rate", "share", ROLLOUTS, "The same as a share."),
    Metric("grader_failed", "completions", ROLLOUTS, "Completions whose grade failed: they have no reward, never 0."),
    Metric("grader_failed_rate", "share", ROLLOUTS, "The same as a share; `grader.max_failure_rate` bounds it."),
    Metric(
        "grader_failed/", "completions", ROLLOUTS,
        "Failed grades of one kind: `raised`, `timeout`, `died`, `bad_value`, `judge_server` and others.",
    ),
    Metric("grade_seconds", "seconds", ROLLOUTS, "Time that grading the rollout batch took."),
    Metric("grade_wait_seconds", "seconds", ROLLOUTS, "How long training waited for these grades."),
    Metric("grade_seconds_p50", "seconds", ROLLOUTS, "Median time of one grade in the batch; 90 % and 99 % below."),
    Metric("grade_seconds_p90", "seconds", ROLLOUTS, "90 % of the grades took at most this."),
    Metric("grade_seconds_p99", "seconds", ROLLOUTS, "99 % of the grades took at most this."),
    Metric(
        "logprob_difference", "nats/token", ROLLOUTS,
        "Mean difference of the sampler's and the trainer's log-probabilities; with `rollout.engine: vllm`.",
    ),
    Metric(
        "importance_weight", "ratio", ROLLOUTS,
        "Mean importance weight that corrects it, a token's (rloo: a completion's); with `rollout.engine: vllm`.",
    ),
    Metric(
        "rollout_seconds", "seconds", ROLLOUTS,
        "Sampling and scoring, and waiting for grades. With `rollout.ahead: 1` it is the next batch that is sampled.",
    ),
    Metric("sample_seconds", "seconds", ROLLOUTS, "Sampling alone, with `sync_seconds` where an engine samples."),
    Metric("sync_seconds", "seconds", ROLLOUTS, "Bringing the weights to the engine; with `rollout.engine: vllm`."),
    Metric("update_seconds", "seconds", ALL, "The step less `rollout_seconds`."),
    Metric("step_seconds", "seconds", ALL, "Wall time of the step, without checkpoint and validation."),
    Metric(
        "guard", "the guard's", ROLLOUTS,
        "Mean of the second scorer (`grader.guard`) on the rows of the last validation.",
    ),
    Metric("guard_low", "the guard's", ROLLOUTS, "The low end of that mean's 95 % interval."),
    Metric("guard_high", "the guard's", ROLLOUTS, "Its high end."),
    Metric("judge_requests", "requests", ROLLOUTS, "Requests to judges until now, validations included."),
    Metric("judge_cache_hits", "verdicts", ROLLOUTS, "Verdicts that came from the cache."),
    Metric("judge_retries", "requests", ROLLOUTS, "Requests that were sent again."),
    Metric("judge_clamped", "verdicts", ROLLOUTS, "Scores outside a judge's range, moved to its end."),
    Metric("judge_input_tokens", "tokens", ROLLOUTS, "Tokens that judges read."),
    Metric("judge_output_tokens", "tokens", ROLLOUTS, "Tokens that judges wrote."),
    Metric("judge_cost", "US dollars", ROLLOUTS, "Cost of the judges, where `grader.judge.prices` has each model's."),
)  # fmt: skip
"""In the order of the page. Of several judges each has its own `judge_input_tokens/MODEL` and the like."""


def unknown_keys(lines: Iterable[Iterable[str]]) -> set[str]:
    """Keys of metrics.jsonl's lines that the table does not explain."""
    keys = {key for line in lines for key in line}
    return {key for key in keys if not any(metric.covers(_whole(key)) for metric in METRICS)}


def _whole(key: str) -> str:
    """A judge's part of a key as the key itself."""
    return key.partition("/")[0] if key.startswith("judge_") else key


def metrics_markdown() -> str:
    """The table of all keys."""
    rows = [f"| `{m.shown}` | {m.unit} | {m.of} | {m.meaning} |" for m in METRICS]
    return "\n".join(["| key | unit | algorithms | what it is |", "|---|---|---|---|", *rows])


def with_table(text: str) -> str:
    """The page with the present table between its markers. ValueError if it has no markers."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no markers {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{metrics_markdown()}\n\n{END}{tail}"


def main() -> None:
    """Rewrite the table in the file named by the first argument."""
    file = Path(sys.argv[1])
    file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
