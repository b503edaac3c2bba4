"""Which engine `rft serve` takes, and what it says where none fits. Nothing starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rft_cli.errors import UsageError
from rft_cli.serving import engines, llama_cpp
from rft_cli.serving.engines import ModelFiles, choose_engine

FOLDER, GGUF = ModelFiles(folder=True, gguf=False), ModelFiles(folder=False, gguf=True)
RUN = ModelFiles(folder=True, gguf=False, make_gguf="rft export R --format gguf")
BOTH = ModelFiles(folder=True, gguf=True)


@pytest.fixture
def only_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the wheel of llama.cpp and no other engine."""
    there = (*engines.FRONT, llama_cpp.PACKAGE)
    monkeypatch.setattr(engines, "_installed", lambda name: name in there)
    monkeypatch.setenv("PATH", "/nowhere")
    if not llama_cpp.server_command():
        pytest.skip("xllamacpp is not installed")


@pytest.mark.usefixtures("only_llama_cpp")
def test_auto_takes_llama_cpp_for_a_gguf_file_where_nothing_else_is_here() -> None:
    assert choose_engine("auto", BOTH).name == choose_engine("auto", GGUF).name == "llama.cpp"
    with pytest.raises(UsageError, match="no engine that serves this model is installed") as refused:
        choose_engine("auto", RUN)
    assert refused.value.fix is not None
    assert "llama.cpp, which is installed, needs a GGUF file: rft export R --format gguf" in refused.value.fix


@pytest.mark.parametrize(
    ("wanted", "files", "message", "fix"),
    [
        ("llama.cpp", FOLDER, "llama.cpp serves GGUF files alone", "take --engine vllm or transformers"),
        ("llama.cpp", RUN, "llama.cpp serves GGUF files alone", "make one: rft export R --format gguf; or"),
        ("vllm", GGUF, "vllm does not serve a GGUF file", "take --engine transformers or llama.cpp"),
    ],
)
def test_an_engine_that_can_not_read_the_files_is_one_message(
    wanted: str, files: ModelFiles, message: str, fix: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        choose_engine(wanted, files)
    assert refused.value.fix is not None
    assert refused.value.fix.startswith(fix)


def test_a_real_llama_server_in_path_wins_over_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / llama_cpp.PROGRAM
    program.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert llama_cpp.server_command() == [str(program)]
