"""`--sandbox openai`: a grader that passes here would have passed there."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError
from rft_cli.grading.pool import open_grader
from rft_cli.grading.sandbox import limits_of
from rft_cli.types import Grade, GradeRequest


def grades(path: str, *completions: str, **settings: Any) -> list[Grade]:
    config = GraderConfig(path=path, workers=1, sandbox="openai", **settings)
    with open_grader(config, log_path=None) as grader:
        return grader.grade([GradeRequest(text, {}) for text in completions])


def refusal(path: str) -> str:
    with pytest.raises(UsageError) as caught:
        open_grader(GraderConfig(path=path, sandbox="openai"), log_path=None)
    return caught.value.message


def test_limits() -> None:
    assert limits_of(GraderConfig(sandbox="openai")) == (120.0, 2048)
    assert limits_of(GraderConfig(sandbox="openai", timeout_s=5, memory_mb=512)) == (5.0, 512)
    assert limits_of(GraderConfig(sandbox="openai", timeout_s=500, memory_mb=9999)) == (120.0, 2048)
    assert limits_of(GraderConfig()) == (30.0, None)


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
    assert refusal(path) == f"{path}: 256 kB of source, and grader.sandbox: openai takes under 256 kB"


def test_signature_and_neighbours(write_scorer: Any, tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("")
    path = write_scorer("def score(completion): return 1\n")
    assert refusal(path) == f"{path}: grader.sandbox: openai takes a function named grade"
    path = write_scorer("def grade(item, sample): return 1\n")
    assert refusal(path) == f"{path}:1: grade(item, sample): grader.sandbox: openai takes grade(sample, item)"
    path = write_scorer("import beside_it\ndef grade(sample, item): return 1\n")
    assert refusal(path) == f"{path}:1: ModuleNotFoundError: No module named 'beside_it'"


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
        assert refused.error.message.endswith("PermissionError: no network: grader.sandbox is openai")
    assert found[2].reward == 1.0
    if _namespaces():
        assert found[3].reward == 0.0


def _namespaces() -> bool:
    """Whether this kernel gives a user an empty network: only then children have none either."""
    program = "from rft_cli.grading.network import leave_network as leave; raise SystemExit(not leave())"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
