"""`accelerate launch` with 2 processes on this machine, and how each kind shares the model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.command import Ended, environment

_PLAIN = ("--mixed_precision", "no", "--dynamo_backend", "no")
TWO = ("--num_processes", "2", "--num_machines", "1", *_PLAIN)
_FSDP2 = (
    "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
    "--fsdp_reshard_after_forward", "true", "--fsdp_state_dict_type",
)  # fmt: skip
KINDS = {
    "fsdp2": (*_FSDP2, "FULL_STATE_DICT"),
    "fsdp2 in shards": (*_FSDP2, "SHARDED_STATE_DICT"),
    "zero2": ("--use_deepspeed", "--zero_stage", "2"),
    "zero3": ("--use_deepspeed", "--zero_stage", "3"),
}
LAUNCH = (sys.executable, "-m", "accelerate.commands.launch")
ON_CPU = {"DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo"}


def skip_without_deepspeed(kind: str) -> None:
    """Skip the test where this kind needs DeepSpeed and it is not installed."""
    if kind.startswith("zero") and find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed: pip install -e '.[deepspeed]'")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Launched:
    """A launcher that is under way, with the processes that it started."""

    process: subprocess.Popen[bytes]
    out: Path
    _family: list[psutil.Process] = field(default_factory=list)

    def wait(self, seconds: float = 280) -> Ended:
        """Wait for its end; standard output holds standard error too."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return Ended(code, self.out.read_bytes(), b"")

    def kill(self) -> None:
        """SIGKILL it and all that it started, as a machine that loses power."""
        root = psutil.Process(self.process.pid)
        family = [root, *root.children(recursive=True)]
        for one in family:
            one.suspend()
        for one in family:
            os.kill(one.pid, signal.SIGKILL)
        self.process.wait(30)
        psutil.wait_procs(family, 30)


def launch(
    folder: Path, flags: tuple[str, ...], *arguments: str, name: str = "launch", **env: str
) -> Launched:
    """Start `accelerate launch FLAGS ARGUMENTS` in `folder`."""
    out = folder / f"{name}.txt"
    with out.open("wb") as output:
        process = subprocess.Popen(
            [*LAUNCH, *flags, *arguments],
            cwd=folder, env=environment(**ON_CPU, **env), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    return Launched(process, out)


def on_this_machine(kind: str) -> tuple[str, ...]:
    """The flags of 2 processes of this kind, at a port of their own."""
    return (*KINDS[kind], *TWO, "--main_process_port", str(free_port()))
