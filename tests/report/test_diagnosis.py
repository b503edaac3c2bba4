"""The diagnosis: each line with its figure and the setting to change, none for a good job."""

import pytest

from rft_cli.report.diagnosis import diagnose
from rft_cli.report.facts import Facts, batches_of
from rft_cli.types import Estimate
from tests.view.made_runs import line

LINES = range(1, 9)


def found(figures=None, **facts):
    """The diagnosis of eight rollout batches; `figures`: step → what differs from a good one."""
    lines = [line(step, **(figures(step) if figures else {})) for step in LINES]
    return diagnose(Facts(batches=batches_of(lines), **{"limit": 64, "best_step": 4, **facts}))


def test_a_good_job_has_none():
    assert found() == []
    assert diagnose(Facts(batches=[])) == []


@pytest.mark.parametrize(
    ("figures", "facts", "name", "setting", "value", "words"),
    [
        (lambda s: {"completions": 128 * s, "constant_groups": 0.5 if s % 2 else 0.7}, {}, "constant_groups",
         "rollout.group_size",
         0.6, "60 %"),
        (lambda s: {"constant_groups": 0.5 if s % 2 else 0.7}, {"top": 1.0, "after": 0.96}, "constant_groups",
         "optim.n_epochs", 0.6, "nearly solved"),
        (lambda s: {"completions": 32 * s, "constant_groups": 0.25}, {}, "effective_batch",
         "rollout.prompts_per_batch", 24.0, "24 of the 32"),
        (lambda s: {"kl_per_token": 0.2 * s}, {}, "kl", "ppo.kl_coef", 1.5, "KL (k1) to the reference ended at 1.5"),
        (lambda s: {"kl_per_token": 0.2 * s}, {"algorithm": "grpo"}, "kl", "ppo.kl_coef", 1.5, "KL (k3)"),
        (lambda s: {"kl_per_token": 1e-6}, {"best_step": 0}, "unmoved", "optim.learning_rate", 1e-6, "hardly moved"),
        (lambda s: {"entropy": 2.0 if s < 5 else 0.1}, {}, "entropy", "ppo.entropy_coef", 0.1, "from 2 to 0.1"),
        (lambda s: {"truncated": 0.05 * s}, {}, "length_limit", "rollout.max_completion_tokens", 0.375,
         "38 % of the last completions were cut at the limit of 64 tokens"),
        (lambda s: {"completion_tokens": 60.0}, {}, "length_limit", "rollout.max_completion_tokens", 60.0, "60 tokens"),
        (lambda s: {"completion_tokens": 10.0 if s < 5 else 30.0}, {}, "length_growth",
         "rollout.max_completion_tokens", 3.0, "3.0 times, from 10 to 30"),
        (lambda s: {"explained_variance": 0.02, "return_std": 0.5}, {"settings": {"ppo.critic": "mlp"}}, "critic",
         "ppo.critic", 0.02, "2 % of the returns' variance"),
        (lambda s: {"grade_seconds": 3.0, "step_seconds": 4.0}, {}, "grader_cost", "grader.workers", 0.75,
         "75 % of the training time, 3.0 s a rollout batch"),
        (lambda s: {"grader_failed_rate": 0.04}, {}, "grader_failures", "grader.timeout_s", 0.04, "4 %"),
        (None, {"slip": Estimate(-0.2, (-0.3, -0.1), 20), "last_step": 8}, "overfit", "optim.n_epochs", -0.2,
         "fell by 0.200 from the best checkpoint (step 4) to the end (step 8)"),
        (lambda s: {"reward": s / 10}, {"gain": Estimate(0.05, (0.0, 0.1), 20), "top": 1.0}, "memorising",
         "data.train", 0.05, "rose by 0.600, the validation reward by 0.050"),
    ],
)  # fmt: skip
def test_each_line_has_its_figure_and_the_setting(figures, facts, name, setting, value, words):
    (only,) = found(figures, **facts)
    assert (only.name, only.setting) == (name, setting)
    assert only.value == pytest.approx(value)
    assert words in only.text
    assert setting in only.text
    assert "\n" not in only.text


def test_the_settings_of_the_job_are_the_bounds():
    assert found(lambda s: {"kl_per_token": 0.4}) == []
    assert found(lambda s: {"kl_per_token": 0.4}, settings={"tripwires.kl": 0.3})[0].name == "kl"


def test_a_critic_that_was_not_asked_for_is_not_judged():
    assert (
        found(lambda s: {"explained_variance": 0.0, "return_std": 0.5}, settings={"ppo.critic": "none"}) == []
    )


def test_noise_is_no_finding():
    assert found(None, slip=Estimate(-0.05, (-0.2, 0.1), 20), last_step=8) == []
    assert (
        found(lambda s: {"grade_seconds": 0.5, "step_seconds": 0.6}) == []
    )  # nobody waits for half a second
    # Most of the grading was behind the training.
    assert found(lambda s: {"grade_seconds": 3.0, "grade_wait_seconds": 0.1, "step_seconds": 4.0}) == []
    assert found(lambda s: {"entropy": 0.5 if s < 5 else 0.01}, top=1.0, after=0.99) == []  # solved


def test_sft_is_judged_by_its_validations_alone():
    slip = Estimate(-0.2, (-0.3, -0.1), 20)
    lines = [{"step": step, "loss": 1.0, "entropy": 0.0, "rows": 8} for step in LINES]
    facts = Facts(batches=batches_of(lines), algorithm="sft", best_step=4, last_step=8, slip=slip)
    assert [only.name for only in diagnose(facts)] == ["overfit"]


def test_figures_that_are_null_or_missing_are_passed_over():
    lines = [{"step": 1, "completions": 8, "kl_per_token": None, "constant_groups": None, "reward": "x"}]
    assert diagnose(Facts(batches=batches_of(lines))) == []
