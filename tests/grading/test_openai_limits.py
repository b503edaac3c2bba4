"""`--limits openai`: a grader that passes here would have passed there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rft_cli.cli import app
from rft_cli.config.dump import dump_config
from rft_cli.config.flat import with_settings
from rft_cli.config.load import load_config
from rft_cli.config.old_settings import with_present_names
from rft_cli.config.schema import GraderConfig, RunConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.open import open_grader
from rft_cli.grading.pool.openai_limits import memory_limit
from rft_cli.types import Grade, GradeRequest


def grades(path: str, *completions: str, **settings: Any) -> list[Grade]:
    config = GraderConfig(path=path, workers=1, limits="openai", **settings)
    with open_grader(config, log_path=None) as grader:
        return grader.grade([GradeRequest(text, {}) for text in completions])


def refusal(path: str) -> str:
    with pytest.raises(UsageError) as caught:
        open_grader(GraderConfig(path=path, limits="openai"), log_path=None)
    return caught.value.message


def limits_of(config: GraderConfig) -> tuple[float, int | None]:
    return config.grade_limit_s, memory_limit(config)


def test_limits() -> None:
    assert limits_of(GraderConfig(limits="openai")) == (120.0, 2048)
    assert limits_of(GraderConfig(limits="openai", timeout_s=5, memory_mb=512)) == (5.0, 512)
    assert limits_of(GraderConfig(limits="openai", timeout_s=500, memory_mb=9999)) == (120.0, 2048)
    assert limits_of(GraderConfig()) == (30.0, None)
    assert limits_of(GraderConfig(timeout_s=500)) == (500.0, None)


def test_limits_are_the_same_in_every_process(tmp_path: Path) -> None:
    """The parent has the settings as they were given; other processes, and a run that goes on, read them back."""
    for given, limits in (({"limits": "openai"}, (120.0, 2048)), ({}, (30.0, None))):
        fresh = RunConfig.model_validate({"grader": given})
        (tmp_path / "config.yaml").write_text(dump_config(fresh))
        reloaded = load_config(str(tmp_path / "config.yaml"), env={}).config
        moved = with_settings(fresh, {"model.path": "other"})
        for config in (fresh, reloaded, moved):
            assert limits_of(config.grader) == limits
    changed = with_settings(reloaded, {"grader.limits": "openai"})
    assert limits_of(changed.grader) == (120.0, 2048)


def test_the_old_name_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.yaml").write_text("grader:\n  sandbox: openai\n")
    (tmp_path / "spec.yaml").write_text("grader:\n  type: python\n  source: x\n  sandbox: openai\n")
    for path, sets, env in (
        ("old.yaml", [], {}),
        ("spec.yaml", [], {}),
        (None, ["grader.sandbox=openai"], {}),
        (None, [], {"RFT_GRADER__SANDBOX": "openai"}),
    ):
        loaded = load_config(path, sets=sets, env=env)
        assert (loaded.config.grader.limits, loaded.notes) == ("openai", [])
    assert with_present_names({"grader.sandbox": "openai", "seed": 1}) == {
        "grader.limits": "openai",
        "seed": 1,
    }
    (tmp_path / "scorer.py").write_text("def score(completion): return 1\n")
    result = CliRunner().invoke(
        app, ["grade", "--sandbox", "openai", "--reward-model", "scorer.py"], input=""
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert "grader.limits: openai takes a function named grade" in result.stderr
    assert "--sandbox" not in CliRunner().invoke(app, ["grade", "--help"]).stdout


def test_memory(write_scorer: Any) -> None:
    path = write_scorer(
        "def grade(sample, item): return len(bytes(int(sample['output_text']) << 30)) / 2**30\n"
    )
    found = grades(path, "1", "3")
    assert found[0].reward == 1.0
    assert found[1].error is not None
    assert found[1].error.message.endswith("MemoryError")


def test_size(write_scorer: Any) -> None:
    head = "def grade(sample, item): return 1\n#"
    assert grades(write_scorer(head + "x" * (255_999 - len(head))), "a")[0].reward == 1.0
    path = write_scorer(head + "x" * (256_000 - len(head)))
    assert refusal(path) == f"{path}: 256 kB of source, and grader.limits: openai takes under 256 kB"


def test_signature_and_neighbours(write_scorer: Any, tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("")
    path = write_scorer("def score(completion): return 1\n")
    assert refusal(path) == f"{path}: grader.limits: openai takes a function named grade"
    path = write_scorer("def grade(item, sample): return 1\n")
    assert refusal(path) == f"{path}:1: grade(item, sample): grader.limits: openai takes grade(sample, item)"
    path = write_scorer("def score(completion): return 1\ndef grade(sample, item): return 2\n")
    assert grades(path, "a")[0].reward == 2.0
    async_ = "grade is async, and grader.limits: openai takes a plain function"
    path = write_scorer("\nasync def grade(sample, item): return 1\n")
    assert refusal(path) == f"{path}:2: {async_}"
    path = write_scorer("if True:\n    async def grade(sample, item): return 1\n")
    assert refusal(path) == f"{path}:2: {async_}"
    path = write_scorer(
        "async def later(): return 1\ndef grade(sample, item): return later()\n", "awaitable.py"
    )
    late = grades(path, "a")[0]
    assert late.error is not None
    assert late.error.kind == "bad_value"


def test_modules(write_scorer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "beside_it.py").write_text("")
    path = write_scorer(
        "import beside_it, json\nfrom . import x\ndef grade(sample, item):\n    from openai import OpenAI\n"
    )
    with pytest.raises(UsageErrors) as caught:
        open_grader(GraderConfig(path=path, limits="openai"), log_path=None)
    outside = "is not in OpenAI's grader image (grader.limits: openai)"
    assert [(problem.message, problem.fix) for problem in caught.value.problems] == [
        (f"{path}:1: 'beside_it' {outside}", "put what you need of beside_it into the file"),
        (f"{path}:2: '' {outside}", "use what OpenAI's image has"),
        (f"{path}:4: 'openai' {outside}", "use what OpenAI's image has"),
    ]
    path = write_scorer(
        "try:\n    import beside_it\nexcept ImportError:\n    def grade(sample, item): return 3\n"
    )
    assert grades(path, "a")[0].reward == 3.0
    path = write_scorer("if 1:\n    import beside_it\ndef grade(sample, item): return 3\n")
    assert refusal(path) == f"{path}:2: ModuleNotFoundError: 'beside_it' {outside}"
    path = write_scorer(
        """
        import importlib
        import nltk, numpy, yaml
        from rouge_score import rouge_scorer
        def grade(sample, item):
            return len(importlib.import_module(sample["output_text"]).__name__)
        """
    )
    found = grades(path, "json", "beside_it", "pluggy.hooks", "rapidfuzz.fuzz")
    assert [grade.reward for grade in found] == [4.0, None, None, 14.0]
    assert found[1].error is not None
    assert found[1].error.message.endswith(f"ModuleNotFoundError: 'beside_it' {outside}")


def test_a_package_of_the_image_that_is_not_here(write_scorer: Any) -> None:
    if find_spec("rdkit") is not None:
        pytest.skip("rdkit is installed here")
    path = write_scorer("import rdkit\ndef grade(sample, item): return 1\n")
    with pytest.raises(UsageError) as caught:
        open_grader(GraderConfig(path=path, limits="openai"), log_path=None)
    assert caught.value.fix == "OpenAI's image has it: pip install rdkit in rft's environment"


def test_files(write_scorer: Any, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("1")
    (tmp_path / "link").symlink_to("/")
    path = write_scorer(
        """
        import os, tempfile
        def grade(sample, item):
            how, _, path = sample["output_text"].partition(" ")
            if how == "own":
                with open("mine.txt", "w") as file:
                    file.write("x" * 5)
                with tempfile.NamedTemporaryFile("w+") as file:
                    file.write("yz")
                return os.path.getsize("mine.txt")
            if how == "made":
                with open(path, "w") as file:
                    file.write("abc")
                with open(path) as file:
                    return len(file.read())
            if how == "os":
                os.close(os.open(path, os.O_RDONLY))
                return 1
            with open(path) as file:
                return len(file.read()) > 0
        """
    )
    made = tmp_path / "made.txt"
    tries = ["own", f"made {made}", "read /etc/passwd", f"read {os.__file__}"]
    refused = [f"read {table}", f"os {table}", f"read {tmp_path}/link{table}", f"read {path}"]
    found = grades(path, *tries, *refused)
    assert [grade.reward for grade in found[:4]] == [5.0, 3.0, 1.0, 1.0]
    for grade, text in zip(found[4:], refused, strict=True):
        assert grade.error is not None
        shown = text.partition(" ")[2]
        said = "a file of this machine, and OpenAI's graders have none: grader.limits is openai"
        assert grade.error.message.endswith(f"PermissionError: {shown}: {said}")
    assert "with open(path) as file:" in (found[4].error.trace if found[4].error else "")


def test_files_in_tmp_are_those_it_made(write_scorer: Any) -> None:
    path = write_scorer(
        """
        def grade(sample, item):
            mode, path = sample["output_text"].split()
            with open(path, mode) as file:
                if mode != "r":
                    file.write("abc")
                if mode in ("a+", "w+"):
                    file.seek(0)
                    return len(file.read())
            return 1
        """
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, tempfile.NamedTemporaryFile("w") as theirs:
        theirs.write("12345")
        theirs.flush()
        mine, beside = f"{folder}/mine", f"/tmp{Path(folder).name}"
        tries = [f"a+ {mine}", f"r {mine}", f"a {theirs.name}", f"w+ {theirs.name}", f"r {theirs.name}"]
        refused = [f"r {theirs.name}", f"a+ {theirs.name}", f"w {beside}"]
        found = [grades(path, text)[0] for text in refused] + grades(path, *tries)
        assert not Path(beside).exists()
    assert [grade.reward for grade in found] == [None, None, None, 3.0, 1.0, 1.0, 3.0, 1.0]
    for grade in found[:3]:
        assert grade.error is not None
        assert "PermissionError" in grade.error.message


def test_every_command_with_a_grader_takes_the_flag(write_scorer: Any, tmp_path: Path) -> None:
    path = write_scorer("import openai\ndef grade(sample, item): return 1\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    data = ["-t", str(rows), "-v", str(rows)]
    for command in (
        ["grade", str(rows)],
        ["validate", *data],
        ["create", *data, "--output-dir", str(tmp_path)],
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "rft_cli", *command, "--reward-model", path, "--limits", "openai"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 2
        assert f"{path}:1: 'openai' is not in OpenAI's grader image (grader.limits: openai)" in ended.stderr


def test_values(write_scorer: Any) -> None:
    path = write_scorer(
        "def grade(sample, item): return {'none': None, 'dict': {'reward': 1}, 'one': 1}[sample['output_text']]\n"
    )
    found = grades(path, "none", "dict", "one")
    assert [grade.reward for grade in found] == [None, None, 1.0]
    assert [grade.error and grade.error.kind for grade in found] == ["bad_value", "bad_value", None]
    assert found[1].error is not None
    assert found[1].error.message.endswith("returned dict, and OpenAI's graders return a number")


NETWORK = """
import socket, subprocess, sys
CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
def grade(sample, item):
    how, port = sample["output_text"].split()
    if how == "child":
        return subprocess.run([sys.executable, "-c", CONNECT, port], capture_output=True).returncode == 0
    if how == "unix":
        a, b = socket.socketpair()
        a.send(b"x")
        return b.recv(1) == b"x"
    if how == "name":
        return len(socket.getaddrinfo("localhost", 80))
    socket.create_connection(("127.0.0.1", int(port)), 5)
    return 1
"""


def test_no_network(write_scorer: Any) -> None:
    path = write_scorer(NETWORK)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = grades(path, f"here {port}", f"name {port}", f"unix {port}", f"child {port}")
        with open_grader(GraderConfig(path=path, workers=1), log_path=None) as grader:
            assert grader.grade([GradeRequest(f"here {port}", {})])[0].reward == 1.0
    for refused in found[:2]:
        assert refused.error is not None
        assert refused.error.message.endswith("PermissionError: no network: grader.limits is openai")
    assert found[2].reward == 1.0
    if _namespaces():
        assert found[3].reward == 0.0


def _namespaces() -> bool:
    """Whether this kernel gives a user an empty network: only then children have none either."""
    program = (
        "from rft_cli.grading.isolation.openai import leave_network as leave; raise SystemExit(not leave())"
    )
    return subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
