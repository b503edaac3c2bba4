"""Jobs of 2 processes that share one model, FSDP2 and DeepSpeed ZeRO: killed, resumed, exported, refused."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file

from rft_cli.runs import Run
from tests.command import FULL
from tests.faults import jobs
from tests.faults.outcome import differences, digest, loaded, state_of
from tests.training.distributed.launching import launch, on_this_machine, skip_without_deepspeed
from tests.training.distributed.pretend_gpus import SEEN

pytestmark = [
    pytest.mark.skipif(not FULL, reason="minutes: make faults runs them"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.fault("killed with SIGKILL under FSDP2 and DeepSpeed ZeRO, 2 processes"),
]
SETTINGS = {
    "ppo.passes": 1, "ppo.minibatches": 1, "ppo.critic": "mlp", "optim.n_epochs": 2, "optim.learning_rate": 0.0003,
    "checkpoint.every_steps": 1, "checkpoint.keep_last": 5, "validation.every_epochs": "auto",
    "validation.every_completions": 8,
}  # fmt: skip
"""Two epochs of two rollout batches, each of one optimizer step with its checkpoint and validation."""
EVERY = [
    ("fsdp2", "lora"), ("fsdp2", "full"), ("fsdp2 in shards", "lora"), ("fsdp2 in shards", "full"),
    ("zero2", "lora"), ("zero2", "full"), ("zero3", "lora"), ("zero3", "full"),
]  # fmt: skip
RFT = ("-m", "tests.training.distributed.pretend_gpus")


def arguments(tuned):
    # ZeRO-3 samples in both ways
    lora = {"lora.enabled": tuned == "lora", "distributed.gather_for_sampling": tuned == "lora"}
    return [*jobs.create_arguments({**SETTINGS, **lora}), "--test", "val.jsonl"]


def shards(run):
    """What each process has for itself in the newest checkpoint, by file, in the formats of FSDP and DeepSpeed."""
    newest, found = run.checkpoint_path(run.checkpoints()[-1]), {}
    for file in newest.rglob("*"):
        if file.suffix == ".bin":
            found[file.name] = digest(loaded(file))
        elif file.suffix == ".distcp":
            found[str(file.relative_to(newest))] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.name.endswith(("optim_states.pt", "model_states.pt")):
            # pickles of this test's own
            state = torch.load(file, weights_only=False)
            kept = state["optimizer_state_dict"] if "optim" in file.name else state["module"]
            found[file.name] = digest({k: v for k, v in kept.items() if k != "loss_scaler"})
    return found


@pytest.fixture(scope="module")
def unsharded(tmp_path_factory):
    """The weights of the same job where each process has the whole model."""
    made = {}

    def weights(tuned):
        if tuned not in made:
            folder = jobs.make_files(tmp_path_factory.mktemp("unsharded"))
            ended = jobs.run_outside(folder, [*arguments(tuned), "--num-processes", "2"]).wait()
            assert ended.code == 0, ended.err[-3000:]
            made[tuned] = exported(folder)
        return made[tuned]

    return weights


def exported(folder):
    """The weights of the newest checkpoint, as `rft export` writes them."""
    newest = str(Run(folder / "runs" / "job").checkpoints()[-1])
    ended = jobs.rft_here(
        folder, "export", "runs/job", "--checkpoint", newest, "--format", "merged", "--to", "out"
    )
    assert ended.code == 0, ended.err
    return load_file(folder / "out" / "model.safetensors")


def check_seen(folder, kind, tuned):
    """Both processes trained what their launcher asked for."""
    one, other = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    assert ("FSDPModule" in one["classes"]) == kind.startswith("fsdp2")
    assert ("DeepSpeedEngine" in one["classes"]) == kind.startswith("zero")
    assert one["stage"] == {"zero2": 2, "zero3": 3}.get(kind, 0)
    if kind == "zero3":
        # what a process sees of base weights that were partitioned while they loaded is empty
        assert one["loaded"] == (155_648 if tuned == "lora" else 0)
        assert one["reference_held"] == 0
    if kind.startswith("fsdp2") and tuned == "full":
        assert "FSDPModule" in one["reference"]


@pytest.mark.parametrize(("kind", "tuned"), EVERY)
def test_a_job_that_shares_its_model(kind, tuned, unsharded, tmp_path):
    skip_without_deepspeed(kind)
    whole, killed, seen = (tmp_path / name for name in ("whole", "killed", "seen"))
    seen.mkdir()
    for folder in (whole, killed):
        jobs.make_files(folder)
    begin = (*RFT, *arguments(tuned))
    ended = launch(whole, on_this_machine(kind), *begin, **{SEEN: str(seen)}).wait()
    assert ended.code == 0, ended.out[-3000:]
    check_seen(seen, kind, tuned)

    job = launch(killed, on_this_machine(kind), *begin)
    run = Run(killed / "runs" / "job")
    jobs.wait_for(
        lambda: (run.path / "checkpoints" / "step-1").is_dir() or job.process.poll() is not None, 240
    )
    job.kill()
    assert run.info["status"] == "running"
    refused = jobs.rft_here(killed, "train", "--resume", "runs/job", "--set", "num_processes=2")
    assert refused.code == 2
    name = {"zero2": "DeepSpeed ZeRO-2", "zero3": "DeepSpeed ZeRO-3"}.get(kind, "FSDP")
    assert f"can't resume without sharding: its checkpoints were written under {name}" in refused.err
    again = launch(killed, on_this_machine(kind), *RFT, *jobs.RESUME, name="again").wait()
    assert again.code == 0, again.out[-3000:]
    assert not differences(state_of(Run(whole / "runs" / "job")), state_of(run))
    assert len(shards(run)) >= 2
    assert shards(run) == shards(Run(whole / "runs" / "job"))

    weights, plain = exported(killed), unsharded(tuned)
    assert weights.keys() == plain.keys()
    far = torch.cat([(weights[key] - plain[key]).abs().flatten() for key in plain])
    # Adam's step is as long for a gradient of 1e-9 as for one of 1: where rounding decides its sign, two steps differ
    assert float((far > 1e-5).float().mean()) < 1e-3
    assert float(far.max()) <= 4 * 2 * 0.0003


def test_a_launcher_that_would_not_shard_is_refused(tmp_path):
    # without the stand-in for GPUs: accelerate trains FSDP on CPUs with DDP, and does not say so
    jobs.make_files(tmp_path)
    ended = launch(tmp_path, on_this_machine("fsdp2"), "-m", "rft_cli", *arguments("lora")).wait()
    assert ended.code != 0
    said = [line for line in ended.out.splitlines() if line.startswith("error:")]
    assert len(said) == 1, ended.out[-3000:]
    assert "the launcher asks for FSDP, but accelerate would give every process the whole model" in said[0]
    assert not (tmp_path / "runs" / "job").exists()
