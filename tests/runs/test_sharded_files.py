"""A checkpoint is resumed under the sharding that wrote it alone."""

import json

import pytest

from rft_cli.config.launcher import Sharding
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.sharded_files import check_same_sharding, sharding_of

FSDP, ZERO2, ZERO3 = Sharding("fsdp"), Sharding("deepspeed", 2), Sharding("deepspeed", 3)
FILES = {
    "plain": (["model.safetensors", "optimizer.pt"], None),
    "fsdp": (["pytorch_model_fsdp.bin", "optimizer.bin"], FSDP),
    "fsdp in shards": (["pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp"], FSDP),
    "zero2": (["global_step3/mp_rank_00_model_states.pt"], ZERO2),
    "zero3": (["global_step3/zero_pp_rank_0_mp_rank_00_model_states.pt"], ZERO3),
}


def made(folder, files):
    """A run with one checkpoint of these files."""
    checkpoint = folder / "run" / "checkpoints" / "step-3"
    for name in (*files, "manifest.json"):
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_text("")
    record = {"schema_version": 1, "num_processes": 8, "best_step": 0}
    (folder / "run" / "run.json").write_text(json.dumps(record))
    return Run(folder / "run"), checkpoint


@pytest.mark.parametrize("name", FILES)
def test_the_files_say_how_a_checkpoint_was_written(name, tmp_path):
    files, expected = FILES[name]
    run, checkpoint = made(tmp_path, files)
    assert sharding_of(checkpoint) == expected
    check_same_sharding(run, expected)


@pytest.mark.parametrize(
    ("name", "now", "said"),
    [
        ("plain", FSDP, "can't resume under FSDP: its checkpoints were written without sharding"),
        ("fsdp", None, "can't resume without sharding: its checkpoints were written under FSDP"),
        ("zero3", ZERO2, "can't resume under DeepSpeed ZeRO-2: its checkpoints were written under DeepSpeed ZeRO-3"),
        ("zero2", FSDP, "can't resume under FSDP: its checkpoints were written under DeepSpeed ZeRO-2"),
    ],
)  # fmt: skip
def test_another_launcher_is_refused(name, now, said, tmp_path):
    run, _ = made(tmp_path, FILES[name][0])
    with pytest.raises(UsageError, match=said) as raised:
        check_same_sharding(run, now)
    assert "start it as it began: 8 processes" in raised.value.fix


def test_a_run_without_a_checkpoint_starts_over_under_any(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"schema_version": 1}')
    check_same_sharding(Run(tmp_path / "run"), ZERO3)
