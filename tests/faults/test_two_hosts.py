"""configs/cluster/slurm.sbatch as Slurm runs it: two launchers with ranks of their own, here over loopback.

`srun` and `scontrol` stand in for Slurm's: the first starts the step once for each node. Where there is a folder
`own-1`, the second node has it in the place of `shared`, in a mount namespace of its own.
"""

import os
import subprocess
import sys

import pytest
import yaml

from rft_cli.runs import Run
from tests.command import FULL, ROOT, environment
from tests.faults import jobs
from tests.training.distributed.launching import ON_CPU, free_port

pytestmark = [
    pytest.mark.skipif(not FULL, reason="minutes: make faults runs them"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.fault("two hosts, with a shared run directory and without"),
]
SRUN = """#!/bin/bash
shift
for node in 0 1; do
  own=()
  [ -d own-$node ] && own=(unshare -rm bash -c 'mount --bind "$0" shared && exec "$@"' own-$node)
  (SLURM_NODEID=$node "${own[@]}" "$@" > step-$node.txt 2>&1; echo $? > code-$node) &
done
wait
test "$(cat code-0 code-1 | sort -n | tail -n 1)" = 0
"""
LAUNCHER = {
    "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_machines": 1, "num_processes": 1,
    "mixed_precision": "no", "use_cpu": False,
}  # fmt: skip


def make_site(folder):
    """A checkout as the script sees it, with Slurm's two commands, and a job file."""
    jobs.make_files(folder)
    (folder / "configs").symlink_to(ROOT / "configs")
    for name in ("bin", "shared"):
        (folder / name).mkdir()
    python = f'#!/bin/bash\nexec {sys.executable} -m accelerate.commands.accelerate_cli "$@"\n'
    scripts = {
        "srun": SRUN,
        "scontrol": "#!/bin/bash\necho 127.0.0.1\n",
        "accelerate": python,
        "activate": "",
    }
    for name, text in scripts.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    settings = {
        **jobs.SETTINGS, "data.train": "train.jsonl", "data.validation": "val.jsonl", "grader.path": "scorer.py",
        "optim.n_epochs": 1, "ppo.passes": 1, "ppo.minibatches": 1,
    }  # fmt: skip
    tree = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    (folder / "job.yaml").write_text(yaml.safe_dump(tree))
    (folder / "launcher.yaml").write_text(yaml.safe_dump(LAUNCHER))


def sbatch(folder, run):
    """Run the script as Slurm would on the first of two nodes; its exit code, and what each node's step printed."""
    slurm = {
        "SLURM_JOB_ID": str(free_port()), "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_NODELIST": "node-[0-1]", "VENV": str(folder), "RUN": str(folder / run),
        "JOB_FILE": "job.yaml", "LAUNCHER_FILE": "launcher.yaml",
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", ROOT / "configs/cluster/slurm.sbatch"], cwd=folder, env=environment(**ON_CPU, **slurm),
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    steps = [folder / f"step-{node}.txt" for node in (0, 1)]
    return done.returncode, [step.read_text() if step.exists() else done.stderr for step in steps]


def test_a_shared_run_directory(tmp_path):
    make_site(tmp_path)
    code, (first, second) = sbatch(tmp_path, "shared/job")
    assert code == 0, first + second
    run = Run(tmp_path / "shared" / "job")
    assert (run.info["status"], run.info["num_processes"]) == ("finished", 2)
    assert "2 processes" in first
    assert "validation" not in second
    # started again, as Slurm does after a requeue: the script resumes, and this run has nothing left to do
    code, (first, _) = sbatch(tmp_path, "shared/job")
    assert code != 0
    assert "shared/job is finished" in first


def can_mount(folder):
    """Whether this machine lets a process have mounts of its own."""
    try:
        tried = ["unshare", "-rm", "mount", "--bind", folder, folder]
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_run_directory_of_each_host_is_found_before_training(tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("no mount namespaces here")
    make_site(tmp_path)
    (tmp_path / "own-1").mkdir()
    code, (first, second) = sbatch(tmp_path, "shared/job")
    assert code != 0
    said = [line for line in first.splitlines() if line.startswith(("error:", "  fix:"))]
    assert len(said) == 2, first
    assert "does not see the run directory" in said[0]
    assert "it is not shared between the machines" in said[0]
    assert "--output-dir" in said[1]
    assert "error:" not in second
    assert "baseline" not in first
    assert not (tmp_path / "shared" / "job").exists()
