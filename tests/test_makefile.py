"""`make` on machines that lack something: one message that says what to install, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = (
    "rft create -t sample_data/train.jsonl -v sample_data/val.jsonl --reward-model sample_data/scorer.py"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make needs of a checkout, with no .venv."""
    tree = tmp_path / "checkout"
    (tree / "scripts").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "scripts/venv.sh"):
        shutil.copy(ROOT / name, tree / name)
    return tree


def make(tree: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    outer = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "PYTHON"
    }
    return subprocess.run(
        ["make", *arguments],
        cwd=tree,
        env={**outer, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fake_python(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def without_ensurepip(folder: Path, name: str = "python3") -> Path:
    """A Python as Debian ships it without its venv package: `import ensurepip` fails."""
    return fake_python(folder, name, f'case "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"')


def test_make_alone_lists_the_targets(checkout: Path):
    result = make(checkout)
    assert result.returncode == 0
    targets = [line.split()[1] for line in result.stdout.splitlines()]
    assert targets == ["help", "quickstart", "test", "lint", "faults", "zoo", "learn", "bench", "clean"]


def test_quickstart_runs_exactly_the_readme_command(checkout: Path):
    result = make(checkout, "--dry-run", "quickstart")
    assert result.stdout.splitlines()[-1] == f".venv/bin/{QUICKSTART}"
    assert QUICKSTART in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["quickstart", "test"])
def test_python_without_venv_names_the_package(checkout: Path, target: str):
    python = without_ensurepip(checkout / "bin")
    result = make(checkout, target, f"PYTHON={python}")
    assert result.returncode == 2
    assert f"apt install python3.{sys.version_info.minor}-venv" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (checkout / ".venv").exists()


def test_python_that_is_too_old_is_named_with_its_version(checkout: Path):
    python = fake_python(checkout / "bin", "python3", 'case "$*" in *print*) echo 3.9;; *) exit 1;; esac')
    result = make(checkout, "quickstart", f"PYTHON={python}")
    assert result.returncode == 2
    assert f"rft needs Python 3.11 or newer; found only {python} (3.9)" in result.stderr


def test_python_that_is_not_there(checkout: Path):
    result = make(checkout, "quickstart", "PYTHON=/nonexistent/python")
    assert result.returncode == 2
    assert "No Python found at /nonexistent/python" in result.stderr


def test_a_python_with_venv_is_chosen_before_one_without(checkout: Path):
    tools = checkout / "bin"
    without_ensurepip(tools)
    # This one makes environments; it stops before it makes one, and says so.
    fake_python(
        tools,
        "python3.12",
        f'if [ "$2" = venv ]; then echo chosen >&2; exit 1; fi\nexec {sys.executable} "$@"',
    )
    result = make(checkout, "quickstart", PATH=f"{tools}:{os.environ['PATH']}")
    assert result.returncode == 2
    assert "Making .venv with python3.12" in result.stderr
    assert "chosen" in result.stderr


def test_an_install_that_fails_says_what_to_do_and_is_made_anew(checkout: Path):
    # An environment whose pip fails, and then one that is marked as half-made.
    fake_pip = 'case "$*" in *install*) echo "ERROR: no route to the registry" >&2; exit 1;; esac\nexit 0'
    maker = f'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp {checkout}/pip.sh "$3/bin/python"; exit; fi'
    fake_python(checkout, "pip.sh", fake_pip)
    python = fake_python(checkout / "bin", "python3", f'{maker}\nexec {sys.executable} "$@"')
    for _ in range(2):
        result = make(checkout, "quickstart", f"PYTHON={python}")
        assert result.returncode == 2
        assert "no route to the registry" in result.stderr
        assert "Run make again" in result.stderr
        assert "Making .venv" in result.stderr  # the second time, too
        assert (checkout / ".venv" / ".unfinished").exists()
        assert not (checkout / ".venv" / ".ready").exists()


def test_a_finished_install_is_not_made_again(checkout: Path):
    fake_python(checkout, "pip.sh", "exit 0")
    maker = f'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp {checkout}/pip.sh "$3/bin/python"; exit; fi'
    python = fake_python(checkout / "bin", "python3", f'{maker}\nexec {sys.executable} "$@"')
    assert make(checkout, ".venv/.ready-dev", f"PYTHON={python}").returncode == 0
    for stamp in (".venv/.ready", ".venv/.ready-dev"):
        assert make(checkout, "--question", stamp).returncode == 0
    future = (checkout / ".venv/.ready").stat().st_mtime + 10
    os.utime(checkout / "constraints.txt", (future, future))
    assert make(checkout, "--question", ".venv/.ready").returncode == 1


def test_ci_runs_make_test():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert "make test" in script.splitlines()[-1]
