"""Any settings, any step: a job that is killed and resumed comes to the same bits; and nothing is saved in vain."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings, strategies

from rft_cli.runs import Run
from rft_cli.runs.checkpoints import MANIFEST, CheckpointStore
from tests.command import FULL
from tests.faults import jobs
from tests.faults.outcome import differences, loaded, state_of, untimed

DRAWS = 100 if FULL else 2


def killed_at(step):
    """Python for a child: SIGKILL at the end of this optimizer step, before its checkpoint."""
    return f"""
import os, signal
from rft_cli.training.hooks.validate_and_save import ValidateAndSave
went_on = ValidateAndSave.on_step_end
def on_step_end(self, args, state, control, **other):
    if state.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    went_on(self, args, state, control, **other)
ValidateAndSave.on_step_end = on_step_end
"""


@strategies.composite
def chosen_jobs(draw):
    """Settings that go together, and the step to die at."""
    group, prompts = draw(strategies.sampled_from([2, 4])), draw(strategies.sampled_from([1, 2, 4]))
    passes, minibatches = draw(strategies.integers(1, 3)), draw(strategies.sampled_from([1, 2]))
    per_step = group * prompts // minibatches
    micro = draw(strategies.sampled_from([size for size in (1, 2, 4) if per_step % size == 0]))
    epochs = 2
    batches = draw(strategies.integers(1, epochs * (4 // prompts)))
    steps = batches * passes * minibatches
    settings = {
        "rollout.group_size": group,
        "rollout.prompts_per_batch": prompts,
        "rollout.max_completion_tokens": 6,
        "rollout.ahead": draw(strategies.integers(0, 1)),
        "ppo.passes": passes,
        "ppo.minibatches": minibatches,
        "optim.micro_batch_size": micro,
        "optim.n_epochs": epochs,
        "optim.max_steps": steps,
        "validation.every_epochs": "auto",
        "validation.every_completions": draw(strategies.sampled_from([1, 2])) * group * prompts,
        "optim.schedule": draw(strategies.sampled_from(["constant", "linear", "cosine"])),
        "checkpoint.every_steps": draw(strategies.integers(1, 5)),
        "checkpoint.keep_last": draw(strategies.integers(1, 2)),
        "seed": draw(strategies.integers(0, 99)),
    } | draw(
        strategies.sampled_from(
            [
                {},
                {"ppo.critic": "mlp"},
                {"ppo.critic": "mlp", "ppo.critic_warmup": 1},
                jobs.LORA,
                {"lora.enabled": True},
                {"pilot.prompts": 2, "pilot.gate": "none"},
                {"algorithm": "grpo"},
                {"algorithm": "rloo"},
            ]
        )
    )
    return settings, draw(strategies.integers(1, steps))


@pytest.mark.fault("random settings, killed at a random step")
@pytest.mark.timeout(7200)
def test_any_job_killed_at_any_step_comes_to_the_same_bits(warm, record_property):
    survived = tried = 0

    @settings(
        max_examples=DRAWS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(chosen_jobs())
    def one(chosen):
        nonlocal survived, tried
        tried += 1
        comes_to_the_same_bits(warm, *chosen)
        survived += 1

    try:
        one()
    finally:
        record_property("fault_count", (survived, tried))
    assert tried == DRAWS


def comes_to_the_same_bits(warm, job, step):
    with tempfile.TemporaryDirectory() as base:
        undisturbed, killed = Path(base) / "undisturbed", Path(base) / "killed"
        arguments = jobs.create_arguments(job)
        for folder in (undisturbed, killed):
            jobs.make_files(folder, rows=4)
        ended = warm.start(undisturbed, arguments).wait()
        assert ended.code == 0, ended.err[-3000:]
        assert warm.start(killed, arguments, before=killed_at(step)).wait().code == -9
        ended = warm.start(killed, jobs.RESUME).wait()
        assert ended.code == 0, ended.err[-3000:]
        expected = state_of(Run(undisturbed / "runs" / "job"))
        assert not differences(expected, state_of(Run(killed / "runs" / "job")))


KILLED_IN_A_VALIDATION = """
import os, signal
from rft_cli.training.hooks.validate_and_save import ValidateAndSave
went_on = ValidateAndSave.sample
def sample(self, rows, what):
    if what == "validation after step 12, 24 completions":
        os.kill(os.getpid(), signal.SIGKILL)
    return went_on(self, rows, what)
ValidateAndSave.sample = sample
"""


MID_EPOCH = {
    "validation.every_epochs": "auto", "validation.every_completions": 8, "optim.max_steps": 18,
    "checkpoint.every_steps": "auto", "optim.schedule": "linear",
}  # fmt: skip
"""8 rows are 2 rollout batches of 8 completions and 4 steps: 20 steps end in the middle of the third epoch."""


@pytest.fixture(scope="module")
def mid_epoch(warm, tmp_path_factory):
    """That job where nothing stops it."""
    folder = jobs.make_files(tmp_path_factory.mktemp("mid-epoch"))
    ended = warm.start(folder, jobs.create_arguments(MID_EPOCH)).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert "validation every 8 completions" not in ended.err  # as it was asked for
    assert "20 steps: optim.max_steps 18, in whole rollout batches of 4" in ended.err
    whole = Run(folder / "runs" / "job")
    assert [row["step"] for row in whole.metrics()] == [*range(1, 21)]
    assert whole.validated_steps() == [0, 4, 8, 12, 16, 20]
    assert {16, 20} <= {*whole.checkpoints()} <= {4, 8, 12, 16, 20}
    return whole


@pytest.mark.fault("a validation in the middle of an epoch, killed")
@pytest.mark.parametrize("before", [KILLED_IN_A_VALIDATION, killed_at(14)])
def test_validations_in_mid_epoch_and_a_job_that_ends_there_come_to_the_same_bits(
    mid_epoch, warm, tmp_path, before
):
    killed = jobs.make_files(tmp_path)
    assert warm.start(killed, jobs.create_arguments(MID_EPOCH), before=before).wait().code == -9
    run = Run(killed / "runs" / "job")
    assert run.checkpoints()[-1] == 12
    assert run.validated_steps() == [0, 4, 8] + [12] * (before is not KILLED_IN_A_VALIDATION)
    ended = warm.start(killed, jobs.RESUME).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(state_of(mid_epoch), state_of(run))


def test_a_job_trained_longer_is_the_job_that_was_as_long_from_the_beginning(warm, tmp_path):
    job = {"validation.every_epochs": "auto", "validation.every_completions": 8, "optim.max_steps": 20}
    at_once, later = tmp_path / "at-once", tmp_path / "later"
    for folder, steps in ((at_once, 20), (later, 12)):
        jobs.make_files(folder)
        ended = warm.start(folder, jobs.create_arguments({**job, "optim.max_steps": steps})).wait()
        assert ended.code == 0, ended.err[-3000:]
    over = warm.start(later, jobs.RESUME).wait()
    assert over.code == 2
    assert "train it longer: rft train --resume runs/job --n-epochs 6 --set optim.max_steps=24" in over.err
    shorter = warm.start(later, [*jobs.RESUME, "--set", "optim.max_steps=8"]).wait()
    assert shorter.code == 2
    assert "error: runs/job trains for 12 steps: it can't be made shorter (optim.max_steps 8)" in shorter.err
    ended = warm.start(later, [*jobs.RESUME, "--set", "optim.max_steps=20"]).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(state_of(Run(at_once / "runs" / "job")), state_of(Run(later / "runs" / "job")))


# -- what a checkpoint holds -----------------------------------------------------------------------------------------

DIES_AT = 6
SAVED = 5
"""In the second rollout batch, of which the critic's warm-up has the first two."""
JOB = {
    "optim.schedule": "linear",
    "checkpoint.every_steps": 5,
    "ppo.critic": "mlp",
    "ppo.critic_warmup": 2,
    "optim.n_epochs": 10,
    "rollout.max_completion_tokens": 6,
    "rollout.ahead": 1,
    "validation.every_epochs": 10,
}


def change(name, *keys, to):
    """Give one value of a saved file the value that a fresh process has, or that is plainly another one."""

    def edit(checkpoint):
        file = checkpoint / name
        is_json = file.suffix == ".json"
        whole = json.loads(file.read_text()) if is_json else loaded(file)
        value = whole
        for key in keys[:-1]:
            value = value[key]
        before = value[keys[-1]]
        after = to(before) if callable(to) else to
        assert repr(before) != repr(after), f"{name}: {keys} is what a fresh process has"
        value[keys[-1]] = after
        file.write_text(json.dumps(whole)) if is_json else torch.save(whole, file)

    return edit


def nothing(checkpoint):
    """The edit that changes nothing: written anew all the same."""


FIELDS = {
    "rollout-0.pt: buffer": change("rollout-0.pt", "buffer", to=None),
    "rollout-0.pt: ahead": change("rollout-0.pt", "ahead", to=[]),
    "rollout-0.pt: rollouts_seen": change("rollout-0.pt", "rollouts_seen", to=0),
    "rollout-0.pt: guard (policy)": change("rollout-0.pt", "guard", "policy", "total", to=7),
    "rollout-0.pt: guard (critic)": change("rollout-0.pt", "guard", "critic", "total", to=7),
    "critic.pt: parameters": change("critic.pt", "parameters", to=lambda old: [p * 0 for p in old]),
    "critic.pt: scale": change(
        "critic.pt", "scale", to=lambda old: {name: torch.ones_like(value) for name, value in old.items()}
    ),
    "rollout-0.pt: spread": change(
        "rollout-0.pt",
        "spread",
        to=lambda old: {name: torch.zeros_like(value) for name, value in old.items()},
    ),
    "rollout-0.pt: shortcuts": change("rollout-0.pt", "shortcuts", "splits", to=False),
    "critic.pt: optimizer": change("critic.pt", "optimizer", "state", to={}),
    "optimizer.pt": change("optimizer.pt", "state", to={}),
    "scheduler.pt": change("scheduler.pt", "last_epoch", to=0),
    "rng_state.pth: cpu": change(
        "rng_state.pth", "cpu", to=lambda old: torch.Generator().manual_seed(1).get_state()
    ),
    "trainer_state.json: global_step": change("trainer_state.json", "global_step", to=0),
    "journal.json: per_rollout": change("journal.json", "per_rollout", to={}),
    "journal.json: counts": change("journal.json", "counts", to={}),
    "journal.json: tripwires": change("journal.json", "tripwires", "batches", to=[]),
}
UNUSED = {
    "rng_state.pth: python",  # nothing in a job draws from these two: transformers saves them
    "rng_state.pth: numpy",
    "journal.json: failures",  # matters where the grader fails: see test_a_grader_that_fails_too_often_...
}


@pytest.fixture(scope="module")
def killed(warm, tmp_path_factory):
    """The job as it was killed in the middle of a rollout batch, and what it comes to where nothing stops it."""
    base = tmp_path_factory.mktemp("fields")
    undisturbed, killed = base / "undisturbed", base / "killed"
    arguments = jobs.create_arguments(JOB)
    for folder in (undisturbed, killed):
        jobs.make_files(folder)
    ended = warm.start(undisturbed, arguments).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert warm.start(killed, arguments, before=killed_at(DIES_AT)).wait().code == -9
    assert Run(killed / "runs" / "job").checkpoints() == [SAVED]
    return killed, state_of(Run(undisturbed / "runs" / "job"))


def resumed(warm, source, target, edit, saved=SAVED):
    """Edit the checkpoint of a copy, commit it anew, resume: how it ended and what it came to."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    run = Run(target / "runs" / "job")
    store = CheckpointStore(run.path / "checkpoints")
    partial = store.begin(saved)
    shutil.copytree(store.path(saved), partial, dirs_exist_ok=True)
    (partial / MANIFEST).unlink()
    edit(partial)
    store.commit(saved, partial)
    ended = warm.start(target, jobs.RESUME).wait()
    return ended, state_of(run)


def test_untouched_it_comes_to_the_same(warm, killed, tmp_path):
    source, expected = killed
    ended, found = resumed(warm, source, tmp_path, nothing)
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(expected, found)


@pytest.mark.fault("a checkpoint without one of its fields: noticed")
@pytest.mark.parametrize("name", FIELDS if FULL else list(FIELDS)[1::8])
def test_without_any_one_field_it_comes_to_something_else(warm, killed, tmp_path, name):
    source, expected = killed
    ended, found = resumed(warm, source, tmp_path, FIELDS[name])
    assert ended.code == 0, ended.err[-3000:]
    assert differences(expected, found)


def test_every_saved_field_is_among_them(killed):
    checkpoint = Run(killed[0] / "runs" / "job").checkpoint_path(SAVED)
    names = set()
    for name in ("rollout-0.pt", "critic.pt", "rng_state.pth"):
        names |= {f"{name}: {key}" for key in loaded(checkpoint / name)}
    names |= {f"journal.json: {key}" for key in json.loads((checkpoint / "journal.json").read_text())}
    tried = {name.split(" (")[0] for name in FIELDS if name.split(":")[0] in {n.split(":")[0] for n in names}}
    assert names == tried | UNUSED
    others = {"optimizer.pt", "scheduler.pt", "trainer_state.json", "model.safetensors", MANIFEST}
    shown = {name.split(":")[0] for name in names}
    static = {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert set(os.listdir(checkpoint)) == others | shown | static


# -- the grader's failures -------------------------------------------------------------------------------------------

FAILING = """
import zlib


def score(completion, example):
    if completion not in ("", example["output"]) and zlib.crc32(completion.encode()) % 10 < 4:
        raise ValueError("no")
    return zlib.crc32(completion.encode()) % 97 / 97  # nothing that can be learned: failures stay as many
"""
WINDOW_IS_FULL_AT = 16
"""Steps made by then. The rate counts from 64 grades on: baseline and two epochs with their validations give 3 times 8
and 4 batches of 8, and the first batch of the third epoch the last 8."""


def test_a_grader_that_fails_too_often_ends_a_resumed_job_where_it_ends_any(warm, tmp_path):
    """Four texts of ten can't be graded. The checkpoint lies behind half of the window."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    arguments = jobs.create_arguments({"grader.max_failure_rate": 0.2})
    for folder in (undisturbed, killed):
        jobs.make_files(folder)
        (folder / "scorer.py").write_text(FAILING)
    assert warm.start(undisturbed, arguments).wait().code == 3
    expected = Run(undisturbed / "runs" / "job")
    assert len(expected.metrics()) == WINDOW_IS_FULL_AT
    assert re.search(
        r"of the last 64 grades failed \(grader.max_failure_rate is 20%\)", expected.info["error"]
    )
    assert warm.start(killed, arguments, before=killed_at(10)).wait().code == -9
    assert Run(killed / "runs" / "job").checkpoints()[-1] == 9

    ended, _ = resumed(warm, killed, tmp_path / "resumed", nothing, saved=9)
    found = Run(tmp_path / "resumed" / "runs" / "job")
    assert ended.code == 3
    # The lines below say where the scorer lies: relative at first, absolute in a resumed job.
    assert found.info["error"].splitlines()[0] == expected.info["error"].splitlines()[0]
    assert untimed(found.metrics()) == untimed(expected.metrics())

    without = change("journal.json", "failures", to=[])
    ended, _ = resumed(warm, killed, tmp_path / "without", without, saved=9)
    assert ended.code == 0, ended.err[-3000:]
