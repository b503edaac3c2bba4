"""`rft` as a process of its own: start-up, standard output, closed pipes."""

import json
import os
import subprocess
import sys

import pytest

from rft_cli.runs import Run
from tests.cli.conftest import GOOD

LOADED = """
import sys
from rft_cli.cli import main
try:
    main()
except SystemExit as end:
    heavy = [name for name in ("torch", "trl", "transformers", "peft", "accelerate", "datasets") if name in sys.modules]
    print("LOADED", heavy, "CODE", end.code, file=sys.stderr)
"""


def run(*args, code=None, **options):
    command = [sys.executable, "-m", "rft_cli"] if code is None else [sys.executable, "-c", code]
    return subprocess.run(
        [*command, *args], capture_output=True, text=True, timeout=120, check=False, **options
    )


@pytest.fixture(autouse=True)
def package_from_here(monkeypatch, request):
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["create", "--help"], 0),
        (["create", "--set", "optim.lr=1"], 2),
        (["create", *GOOD, "-m", "gpt-4o-mini"], 2),
        (["validate", *GOOD], 0),
        (["train", "--resume", "latest"], 2),
    ],
)
def test_help_and_every_early_error_load_no_torch(files, args, code):
    found = run(*args, code=LOADED)
    assert found.stderr.splitlines()[-1] == f"LOADED [] CODE {code}"


def test_version_and_module_and_completion():
    assert run("--version").stdout == "rft 0.1.0\n"
    script = run(
        "--show-completion", "bash", env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    )
    assert "_RFT_COMPLETE" in script.stdout


def test_names_of_runs_are_completed(tmp_path):
    Run.create("runs", "triage", config_yaml="", info={})
    env = {
        **os.environ,
        "_RFT_COMPLETE": "complete_bash",
        "COMP_CWORD": "3",
        "COMP_WORDS": "rft train --resume t",
    }
    found = run(code="from rft_cli.cli import main; main()", env=env)
    assert found.stdout.split() == ["triage"]


def test_bare_rft_shows_help_and_ends_with_2():
    found = run()
    assert found.returncode == 2
    assert "create" in found.stdout + found.stderr


def test_json_on_stdout_is_one_document(files):
    found = run("validate", *GOOD, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["schema"] == "rft.validate/1"


def test_a_closed_pipe_ends_quietly(files):
    process = subprocess.Popen(
        [sys.executable, "-m", "rft_cli", "validate", *GOOD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.wait(60)
    assert said == ""
    assert process.returncode == 0


def test_an_output_encoding_that_lacks_letters_is_no_error(files):
    found = run("validate", "-t", "train.jsonl", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert found.returncode == 0, found.stderr
    assert "not given" in found.stdout


def test_stdout_is_kept_for_results_even_from_children(files):
    code = """
import os, subprocess, sys
from rft_cli.commands.terminal import stdout_to_stderr
with stdout_to_stderr():
    print("python")
    os.write(1, b"c\\n")
    subprocess.run([sys.executable, "-c", "print('child')"])
print("result")
"""
    found = run(code=code)
    assert found.stdout == "result\n"
    assert sorted(found.stderr.split()) == ["c", "child", "python"]


def test_a_closed_stdout_loses_no_result_silently(files):
    command = f'exec {sys.executable} -m rft_cli validate -t train.jsonl "$@" >&-'
    for extra in ([], ["--json"]):
        found = subprocess.run(
            ["sh", "-c", command, "sh", *extra], capture_output=True, text=True, timeout=60, check=False
        )
        assert found.returncode == 2
        assert found.stderr.startswith("error: standard output is closed")
