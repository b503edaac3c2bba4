"""The files of configs/cluster/ are what their schedulers read, and all of them start configs/cluster/launch.sh."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "configs" / "cluster"
SCRIPTS = ("launch.sh", "slurm.sbatch")
NEEDED = {"NODES", "NODE_RANK", "HEAD", "GPUS", "RUN"}


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


def parses(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_file_is_tested_here():
    assert {f.name for f in CLUSTER.iterdir()} == {*SCRIPTS, "kubernetes.yaml", "skypilot.yaml"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_reads_the_scripts(name: str):
    parses((CLUSTER / name).read_text(encoding="utf-8"))


def test_slurm_reads_its_lines_before_the_first_command():
    lines = (CLUSTER / "slurm.sbatch").read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert all(lines.index(f"#SBATCH {option}") < first for option in options)
    assert all(re.fullmatch(r"--[a-z-]+(=\S+)?", option) for option in options), options
    found = dict(option.removeprefix("--").partition("=")[::2] for option in options)
    # one launcher a node, which starts a process for each GPU
    assert (found["nodes"], found["ntasks-per-node"], found["gpus-per-node"]) == ("2", "1", "8")
    assert "requeue" in found


@pytest.mark.parametrize("missing", sorted(NEEDED))
def test_launch_names_the_variable_that_is_missing(missing: str):
    given = {name: "1" for name in NEEDED - {missing}}
    done = subprocess.run(
        ["bash", CLUSTER / "launch.sh"], env={"PATH": "/usr/bin:/bin", **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"{missing}: " in done.stderr


def test_kubernetes_gives_each_pod_a_rank_and_a_name():
    service, job = documents("kubernetes.yaml")
    assert (service["kind"], job["kind"], job["apiVersion"]) == ("Service", "Job", "batch/v1")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(env["NODES"])
    assert int(env["GPUS"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    # the address of pod 0: NAME-INDEX.SUBDOMAIN, by the headless service
    assert env["HEAD"] == f"{job['metadata']['name']}-0.{pod['subdomain']}"
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    shell, flag, command = container["command"]
    assert (shell, flag) == ("bash", "-c")
    parses(command)
    assert {*env, *re.findall(r"(\w+)=", command)} >= NEEDED
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert env["RUN"].startswith(mounts["shared"])
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)


def test_skypilot_starts_the_same_script_on_each_node():
    (task,) = documents("skypilot.yaml")
    assert task["num_nodes"] == 2
    parses(task["setup"])
    parses(task["run"])
    assert {*task["envs"], *re.findall(r"(\w+)=", task["run"])} >= NEEDED
    assert task["envs"]["RUN"].startswith(next(iter(task["volumes"])))


@pytest.mark.parametrize("name", ["slurm.sbatch", "kubernetes.yaml", "skypilot.yaml"])
def test_named_files_are_there(name: str):
    text = (CLUSTER / name).read_text(encoding="utf-8")
    named = set(re.findall(r"configs/[\w/.-]+\w", text))
    assert "configs/cluster/launch.sh" in named
    for file in named:
        assert (ROOT / file).is_file(), file
