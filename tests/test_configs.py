"""Every YAML file under configs/ is one that rft or accelerate takes, and says how it is started."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from rft_cli.config.load import load_config

ROOT = Path(__file__).resolve().parent.parent
JOBS = sorted((ROOT / "configs").glob("*.yaml"))
LAUNCHES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
COMMAND = re.compile(r"^#   ((?:rft|accelerate) .*)$", re.MULTILINE)


def names(files: list[Path]) -> list[str]:
    return [file.stem for file in files]


def test_the_configs_people_start_from_are_there():
    assert names(JOBS) == ["fsdp", "full-finetune", "grpo", "lora-1gpu", "quickstart"]
    assert names(LAUNCHES) == ["fsdp2", "zero2", "zero3"]
    clusters = (ROOT / "configs" / "cluster").glob("*.yaml")
    assert sorted([*JOBS, *LAUNCHES, *clusters]) == sorted((ROOT / "configs").rglob("*.y*ml"))


@pytest.mark.parametrize("file", JOBS, ids=names(JOBS))
def test_config_loads_without_a_note_and_its_paths_lead_to_files(file: Path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # paths must not depend on where rft is started
    loaded = load_config(str(file), env={})
    config = loaded.config
    assert loaded.notes == []
    for path in (config.data.train, config.data.validation, config.grader.path):
        assert path is not None
        assert Path(path).is_file(), path


@pytest.mark.parametrize("file", JOBS, ids=names(JOBS))
def test_config_can_be_split_over_two_and_four_processes(file: Path):
    for processes in (2, 4):
        loaded = load_config(str(file), overrides={"num_processes": processes}, env={})
        assert loaded.config.num_processes == processes


def test_quickstart_config_says_what_the_readme_command_says():
    by_file = load_config(str(ROOT / "configs" / "quickstart.yaml"), env={}).config
    by_flags = load_config(
        None,
        overrides={
            "data.train": str(ROOT / "sample_data/train.jsonl"),
            "data.validation": str(ROOT / "sample_data/val.jsonl"),
            "grader.path": str(ROOT / "sample_data/scorer.py"),
        },
        env={},
    ).config
    assert by_file == by_flags


@pytest.mark.parametrize("file", JOBS, ids=names(JOBS))
def test_commands_in_the_head_name_files_that_exist(file: Path):
    commands = COMMAND.findall(file.read_text(encoding="utf-8"))
    assert commands, "the head shows no command"
    for command in commands:
        words = shlex.split(command)
        named = [word for word in words if word.endswith(".yaml")]
        for name in named:
            assert (ROOT / name).is_file(), name
    assert any(f"configs/{file.name}" in command for command in commands)


@pytest.mark.parametrize(
    ("name", "kind"), [("fsdp2", "FSDP"), ("zero2", "DEEPSPEED"), ("zero3", "DEEPSPEED")]
)
def test_accelerate_reads_the_launcher_files(name: str, kind: str):
    from accelerate.commands.config.config_args import load_config_from_file

    file = ROOT / "configs" / "accelerate" / f"{name}.yaml"
    launch = load_config_from_file(str(file))
    assert launch.distributed_type == kind
    assert (launch.num_processes, launch.mixed_precision, launch.use_cpu) == (8, "bf16", False)


def test_fsdp_file_asks_for_version_2():
    text = (ROOT / "configs" / "accelerate" / "fsdp2.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["fsdp_config"]["fsdp_version"] == 2
