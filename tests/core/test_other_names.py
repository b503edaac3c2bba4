"""The names that TRL, verl and OpenAI have for our settings: the hint is ours, and it is a setting that is there."""

import pytest
import yaml

from rft_cli.config.keys import all_keys, all_sections
from rft_cli.config.load import load_config
from rft_cli.config.other_names import OURS, find, other_names
from rft_cli.errors import UsageErrors


def fix_of(key):
    with pytest.raises(UsageErrors) as raised:
        load_config(None, sets=[f"{key}=1"], env={})
    return raised.value.problems[0].fix


@pytest.mark.parametrize("name", other_names())
def test_every_hint_names_a_setting_that_is_there(name):
    other = other_names()[name]
    assert other.setting is None or other.setting in all_keys()
    assert other.setting or other.words  # where there is none, it says what there is
    assert name not in all_keys() or name == "algorithm"
    if name not in all_sections():
        assert fix_of(name) == other.advice()
    for word in (other.words or "").replace(",", " ").replace(";", " ").replace(":", " ").split():
        section, dot, _ = word.partition(".")
        if dot and section in all_sections() and not word.endswith("."):
            assert word in all_keys(), f"{name}: {word}"


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("ppo.kl", "did you mean 'ppo.kl_coef'?"),
        ("beta", "TRL's beta is ppo.kl_coef here"),
        ("grpo.beta", "TRL's beta is ppo.kl_coef here"),
        ("num_generation", "TRL's num_generations is rollout.group_size here"),
        ("max-completion-length", "TRL's max_completion_length is rollout.max_completion_tokens here"),
        ("report_two", "did you mean 'report_to'?"),
        ("batch_size", "OpenAI's batch_size is rollout.prompts_per_batch here: prompts in one rollout batch"),
        (
            "hyperparameters.compute_multiplier",
            "OpenAI's compute_multiplier is rollout.group_size here: completions a prompt gets",
        ),
        ("actor_rollout_ref.rollout.n", "verl's actor_rollout_ref.rollout.n is rollout.group_size here"),
        ("rollout.n", "verl's actor_rollout_ref.rollout.n is rollout.group_size here"),
        ("+data.train_files", "verl's data.train_files is data.train here"),
        ("trainer.total_epochs", "verl's trainer.total_epochs is optim.n_epochs here"),
        ("algorithm.lam", "verl's algorithm.lam is ppo.lambda_policy here: the critic's targets have ppo.lambda_value"),
        # our own names come first where they are as near
        ("learning_rate", "did you mean 'optim.learning_rate'?"),
        ("optim.learnig_rate", "did you mean 'optim.learning_rate'?"),
        ("ppo.clip_hig", "did you mean 'ppo.clip_high'?"),
        ("rollout.grup_size", "did you mean 'rollout.group_size'?"),
        ("validation.temprature", "did you mean 'validation.temperature'?"),
    ],
)  # fmt: skip
def test_hints(key, fix):
    assert fix_of(key) == fix


def test_each_setting_of_verls_file_has_its_line(tmp_path):
    written = {
        "algorithm": {"adv_estimator": "gae", "kl_ctrl": {"kl_coef": 0.1}},
        "data": {"train_files": "a.parquet"},
        "actor_rollout_ref": {"rollout": {"n": 4, "made_up": 1}},
    }
    file = tmp_path / "verl.yaml"
    file.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(UsageErrors) as raised:
        load_config(str(file), env={})
    found = {problem.message.split(": ")[1]: problem for problem in raised.value.problems}
    assert list(found) == [
        "algorithm.adv_estimator", "algorithm.kl_ctrl.kl_coef", "data.train_files", "actor_rollout_ref.rollout.n",
        "actor_rollout_ref.rollout.made_up",
    ]  # fmt: skip
    assert found["actor_rollout_ref.rollout.n"].where == f"{file}:9:5"


def test_a_variable_of_the_environment():
    with pytest.raises(UsageErrors) as raised:
        load_config(None, env={"RFT_NUM_GENERATIONS": "4", "RFT_PPO__KL": "1"})
    assert [problem.fix for problem in raised.value.problems] == [
        "TRL's num_generations is rollout.group_size here",
        "did you mean 'ppo.kl_coef'?",
    ]


def test_names_of_no_tool_are_ours():
    assert find("made_up") is None
    assert {other.tool for other in other_names().values()} == {OURS, "TRL", "verl", "OpenAI"}
