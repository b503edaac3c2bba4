"""`--resume --force`: every setting either counts from then on, or is refused before anything is written."""

import shutil
from pathlib import Path

import pytest

from rft_cli.commands.resume.compare import UNCHANGEABLE
from rft_cli.config.keys import all_keys
from rft_cli.job import CONTENT, PLACE
from rft_cli.runs import Run
from tests.command import Ended, sets
from tests.faults.jobs import FILES, SMALL, make_files, moved, rft_here, tree
from tests.faults.outcome import loaded

pytestmark = pytest.mark.fault("resume: forced changes")

REFUSED = {
    "algorithm": "grpo", "lora.enabled": True, "lora.r": 8, "lora.alpha": 8.0, "lora.target_modules": "q_proj",
    "lora.quantize": "nf4",
    "rollout.group_size": 4, "rollout.prompts_per_batch": 2, "ppo.passes": 1, "ppo.minibatches": 1,
    "ppo.critic": "none", "num_processes": 8,  # of eight, four rows make no rollout batch
}  # fmt: skip
LOCAL = "http://127.0.0.1:9/v1"
ACCEPTED = {
    "model.dtype": "bfloat16", "model.trust_remote_code": True, "model.gradient_checkpointing": True,
    "model.attention": "eager", "lora.dropout": 0.1,
    "data.format": "rft", "data.columns.task": "task", "data.columns.input": "input", "data.columns.output": "output",
    "data.overlap": "drop", "data.system": "Be kind.", "data.prompt": "chat", "model.system_role": "user",
    "grader.embeddings.base_url": LOCAL, "grader.embeddings.model": "m", "grader.embeddings.api_key_env": "none",
    "grader.timeout_s": 20, "grader.workers": 2, "grader.max_failure_rate": 0.5, "grader.audit": "warn",
    "grader.env": "[A_KEY]", "grader.memory_mb": 4000, "grader.fresh": True, "grader.on_guard_drop": "choose",
    "grader.judge.base_url": LOCAL, "grader.judge.api_key_env": "none", "grader.judge.model": "m",
    "grader.judge.concurrency": 2, "grader.judge.retries": 1, "grader.judge.timeout_s": 5,
    "grader.judge.cache": "none", "grader.judge.max_cost": 5, "grader.judge.max_tokens": 500,
    "grader.judge.prices": "[m=1/2]", "grader.reward_model.label": "x", "grader.reward_model.dtype": "float32",
    "grader.reward_model.trust_remote_code": True,
    "rollout.max_completion_tokens": 12, "rollout.temperature": 0.9, "rollout.top_p": 0.9,
    "validation.samples_per_prompt": 2, "validation.temperature": 0.9, "validation.top_p": 0.9,
    "validation.batch_size": 2, "validation.every_epochs": 2, "validation.seed": 5,
    "ppo.kl_coef": 0.1, "ppo.kl_unit": "reward", "pilot.prompts": 8, "pilot.gate": "warn",
    "ppo.clip_low": 0.1, "ppo.clip_high": 0.1, "ppo.gamma": 0.9, "ppo.lambda_policy": 0.9,
    "ppo.lambda_value": 0.9, "ppo.critic_learning_rate": 0.004, "ppo.critic_passes": 3, "ppo.critic_warmup": 1,
    "ppo.value_clip": 0.3, "ppo.entropy_coef": 0.1,
    "optim.learning_rate": 0.002, "optim.schedule": "linear", "optim.warmup_steps": 3, "optim.weight_decay": 0.25,
    "optim.max_grad_norm": 0.5, "optim.micro_batch_size": 2, "optim.max_skipped_steps": 5,
    "checkpoint.every_steps": 2, "checkpoint.keep_last": 4,
    "distributed.collective_timeout_s": 50, "distributed.gather_for_sampling": False, "rollout.ahead": 1,
    "tripwires.action": "none", "tripwires.window": 2, "tripwires.kl": 5, "tripwires.entropy": 0.5,
    "tripwires.logprob_difference": 0.5, "rollout.importance_cap": 3,
    "tripwires.completion_growth": 5, "tripwires.completion_limit": 0.5, "tripwires.truncated": 0.5,
    "tripwires.constant_reward": 3, "tripwires.explained_variance": -5, "tripwires.explained_variance_window": 3,
    "seed": 7,
}  # fmt: skip
OTHERS = {
    *PLACE, "optim.n_epochs", "optim.max_steps",  # no change of the job
    *CONTENT, "grader.spec", "model.path", "model.revision",  # known by what is in them
    "data.columns.prompt", "data.columns.messages", "data.columns.question", "data.columns.answer",  # not these rows'
    *(f"data.columns.{name}" for name in ("instruction", "context", "problem", "query", "conversations")),
    "data.columns.system", "data.columns.tools", "model.chat_template_kwargs",  # nor these
    "grader.folder",  # where the scorer runs
    "rollout.engine",  # needs a server: tests/training/test_vllm_engine.py
    *(key for key in all_keys() if key.startswith(("rollout.endpoint", "rollout.vllm."))),  # where it is
    "report_to",  # shows the run, and changes nothing in it
    "sft.batch_size",  # of another algorithm
    "grader.limits",  # refuses this scorer
    "validation.every_completions",  # stands in place of validation.every_epochs
}  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A job of eight steps, four to a rollout batch, that was stopped after its sixth."""
    folder = make_files(tmp_path_factory.mktemp("stopped"), rows=4)
    more = {"ppo.passes": 2, "ppo.minibatches": 2, "checkpoint.keep_last": 9, "optim.n_epochs": 2}
    steps = sets(more | {"ppo.critic": "mlp"})
    done = rft_here(folder, "create", *FILES, *SMALL, *steps, "--name", "a")
    assert done.code == 0, done.err
    run = Run(folder / "runs" / "a")
    for step in (7, 8):
        shutil.rmtree(run.checkpoint_path(step))
    run.update(status="interrupted", result=None)
    return folder


@pytest.fixture
def run(stopped, tmp_path) -> Run:
    shutil.copytree(stopped, tmp_path, symlinks=True, dirs_exist_ok=True)
    return moved(Run(tmp_path / "runs" / "a"), stopped, tmp_path)


def forced(folder: Path, settings: dict[str, object]) -> Ended:
    return rft_here(folder, "train", "--resume", "a", "--force", *sets(settings))


def went_on(run: Run, folder: Path, settings: dict[str, object]) -> None:
    done = forced(folder, settings)
    assert done.code == 0, done.err
    assert set(run.info["forced"][0]["changed"]) == set(settings)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_every_setting_is_one_or_the_other():
    assert {*REFUSED, *ACCEPTED, *OTHERS} == all_keys().keys()
    assert UNCHANGEABLE.keys() - REFUSED.keys() == {"model.path", "sft.batch_size"}  # tests of their own
    assert REFUSED.keys() <= UNCHANGEABLE.keys()


@pytest.mark.parametrize("key", REFUSED)
def test_what_no_checkpoint_goes_on_with_is_refused_forced_or_not(run, tmp_path, key):
    before = tree(tmp_path)
    done = forced(tmp_path, {key: REFUSED[key]})
    assert done.code == 2, done.err
    assert done.errors == [
        "error: runs/a can't resume, not with --force either: no checkpoint can be resumed with another "
        + key
        + ":"
    ]
    assert f"({UNCHANGEABLE[key]})" in done.err
    assert "`rft create`" in done.err
    unforced = rft_here(tmp_path, "train", "--resume", "a", *sets({key: REFUSED[key]}))
    assert unforced.code == 2
    assert f"--force can't change {key}\n" in unforced.err
    assert tree(tmp_path) == before


def test_all_that_is_refused_stands_in_one_message_without_the_rest(run, tmp_path):
    done = forced(tmp_path, {**REFUSED, "optim.learning_rate": 0.5})
    assert done.code == 2
    assert [line.split(":")[0].strip() for line in done.err.splitlines()[1:-1]] == [
        key for key in (*all_keys(),) if key in REFUSED
    ]


def test_another_base_model_is_refused_and_another_revision_of_it_goes_on(run, tmp_path):
    """Other weights at another path, and at the path that the run began with."""
    other = shutil.copytree(Path(__file__).parents[2] / "rft_cli" / "builtin" / "tiny", tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    before = tree(tmp_path)
    done = forced(tmp_path, {"model.path": str(other)})
    assert done.code == 2
    assert f"({UNCHANGEABLE['model.path']})" in done.err
    assert tree(tmp_path) == before
    run.update(settings={**run.info["settings"], "model.path": str(other)})
    done = forced(tmp_path, {"model.path": str(other)})
    assert done.code == 0, done.err
    assert run.info["forced"][0]["changed"].keys() == {"model.path"}


def test_every_other_setting_counts_from_then_on(run, tmp_path):
    """All at once: the job goes on in the middle of a rollout batch, and finishes."""
    went_on(run, tmp_path, ACCEPTED)
    settings = run.info["settings"]
    assert {key: settings[key] for key in ("seed", "optim.weight_decay", "ppo.kl_coef")} == {
        "seed": 7, "optim.weight_decay": 0.25, "ppo.kl_coef": 0.1,
    }  # fmt: skip


def test_rates_and_weight_decay_are_the_new_ones_at_once(run, tmp_path):
    settings = {"optim.learning_rate": 0.002, "optim.weight_decay": 0.25, "ppo.critic_learning_rate": 0.004}
    went_on(run, tmp_path, settings)
    assert [row["learning_rate"] for row in run.metrics()] == [0.001] * 6 + [0.002] * 2
    checkpoint = run.checkpoint_path(8)
    groups = loaded(checkpoint / "optimizer.pt")["param_groups"]
    assert [(g["lr"], g["initial_lr"], g["weight_decay"]) for g in groups] == [
        (0.002, 0.002, 0.25), (0.002, 0.002, 0.0),  # norms and biases never decay
    ]  # fmt: skip
    assert [g["lr"] for g in loaded(checkpoint / "critic.pt")["optimizer"]["param_groups"]] == [0.004]


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"optim.schedule": "linear"}, [0.001 * 2 / 8, 0.001 * 1 / 8]),
        ({"optim.warmup_steps": 20}, [0.001 * 6 / 20, 0.001 * 7 / 20]),
    ],
    ids=["linear", "warm-up"],
)
def test_another_schedule_applies_at_the_same_position(run, tmp_path, settings, rates):
    """Steps 7 and 8 of 8, counted from 0 as transformers does."""
    went_on(run, tmp_path, settings)
    assert [row["learning_rate"] for row in run.metrics()[6:]] == pytest.approx(rates)


def test_smaller_passes_train_the_same(run, tmp_path):
    """optim.micro_batch_size only splits a step: what memory holds, and nothing that is learnt."""
    before = run.metrics()[6:]
    went_on(run, tmp_path, {"optim.micro_batch_size": 1})
    for then, now in zip(before, run.metrics()[6:], strict=True):
        for name in ("loss", "grad_norm", "policy_loss", "entropy", "ratio"):
            assert now[name] == pytest.approx(then[name], rel=2e-3, abs=1e-5), name


def test_a_batch_that_can_not_be_split_so_is_sampled_anew(run, tmp_path):
    """The batch that it stopped in has eight completions; with 16 prompts and passes of one, a batch has 32 parts."""
    rows = (tmp_path / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(rows * 4))
    done = forced(tmp_path, {"optim.micro_batch_size": 1})
    assert done.code == 0, done.err
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_another_number_of_processes_goes_on_and_says_what_begins_anew(run, tmp_path):
    """One, two from the middle of a rollout batch on, and one again."""
    done = forced(tmp_path, {"num_processes": 2})
    assert done.code == 0, done.err
    assert "the rest of the rollout batch at step 6 is trained on new completions" in done.err
    assert len([*run.checkpoint_path(8).glob("rollout-*.pt")]) == 2
    counts = [loaded(file)["rollouts_seen"] for file in run.checkpoint_path(8).glob("rollout-*.pt")]
    assert counts == [2, 2]  # the second batch counts once
    done = forced(tmp_path, {"num_processes": 1, "optim.n_epochs": 3})
    assert done.code == 0, done.err
    assert [entry["changed"] for entry in run.info["forced"]] == [
        {"num_processes": [1, 2]}, {"num_processes": [2, 1]},
    ]  # fmt: skip
    assert [row["step"] for row in run.metrics()] == [*range(1, 13)]


def test_parts_of_weights_are_not_dealt_to_other_processes(run, tmp_path):
    """What FSDP and DeepSpeed save: no optimizer.pt."""
    newest = run.checkpoint_path(6)
    (newest / "optimizer.pt").rename(newest / "optimizer.bin")
    before = tree(tmp_path)
    done = forced(tmp_path, {"num_processes": 2})
    assert done.code == 2
    assert f"num_processes: 1 -> 2 ({UNCHANGEABLE['num_processes']})" in done.err
    assert tree(tmp_path) == before


def test_seconds_that_auto_stands_for_are_no_change(run, tmp_path):
    done = rft_here(tmp_path, "train", "--resume", "a", "--set", "grader.timeout_s=30")
    assert done.code == 0, done.err
    assert "forced" not in run.info
