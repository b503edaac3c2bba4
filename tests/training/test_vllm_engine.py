"""`rollout.engine: vllm`: whole jobs over HTTP, against a server that answers like vLLM with a real model behind it.

The last test takes vLLM itself, where RFT_VLLM_PYTHON names the Python of an environment that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rft_cli.report.metrics_table import unknown_keys
from rft_cli.runs import Run
from rft_cli.runs.model_source import BUILTIN
from rft_cli.serving.engine_process import free_port
from rft_cli.serving.vllm.client import EngineLost, VllmClient
from rft_cli.training.rollouts.engines.servers import EngineGone, Servers
from tests.command import Ended, environment, sets
from tests.faults.jobs import FILES, SMALL, create_arguments, make_files, rft_here, run_outside, wait_for

SERVER = [sys.executable, str(Path(__file__).with_name("vllm_like.py"))]
LORA = {"rollout.engine": "vllm", "lora.enabled": True, "ppo.passes": 1, "ppo.minibatches": 1}
VLLM = os.environ.get("RFT_VLLM_PYTHON", "")


class Server:
    """One that runs for all tests of this file; `faults` sets what is wrong with it."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        words = ["--model", str(BUILTIN / "tiny"), "--port", port, "--max-model-len", "512", "--seed", "0"]
        self.process = subprocess.Popen(
            [*SERVER, *words], env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("listening")

    def faults(self, **faults: Any) -> None:
        self.ask("/faults", faults)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=60) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def server(running: Server) -> Server:
    running.faults()
    return running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "job", rows=4)


def create(folder: Path, server: Server, settings: Mapping[str, Any] = {}) -> Ended:
    """Two rollout batches of 8 completions, one step each, validated at the end."""
    chosen = {**LORA, "rollout.endpoint": server.url, "optim.learning_rate": 0.05, **settings}
    return rft_here(folder, "create", *FILES, *SMALL, *sets(chosen), "--n-epochs", "2", "--name", "job")


def versions(file: Path) -> set[str]:
    return {json.loads(line)["version"] for line in file.read_text().splitlines()}


def steps_and_versions(run: Run) -> list[tuple[int, int]]:
    """The step that each rollout batch was sampled at, and that of the weights which sampled it."""
    found = []
    for file in sorted((run.path / "rollouts").glob("step-*.jsonl")):
        (version,) = versions(file)
        found.append((int(file.stem.removeprefix("step-")), int(version.split("-")[1].removeprefix("v"))))
    return found


def figures(run: Run, name: str) -> list[float]:
    return [row[name] for row in run.metrics()]


@pytest.mark.slow
def test_rft_starts_the_engine_and_again_where_it_dies(folder: Path) -> None:
    settings = {
        **LORA,
        "rollout.vllm.command": SERVER,
        # Two requests try the engine and answer the validation rows, the third is of the first rollout batch.
        "rollout.vllm.arguments": ["--die", "3", str(folder / "died")],
        "optim.n_epochs": 2,
        "checkpoint.every_steps": "auto",
    }
    job = run_outside(folder, create_arguments(settings))
    done = job.wait()
    assert done.code == 0, done.err
    assert (folder / "died").exists()
    run = Run.open(folder / "runs" / "job")
    assert "the engine vllm ended" in done.err
    assert "it is started again" in run.info["warnings"][-1]["text"] + done.err
    # Each batch by the weights of its own step, after the engine was lost too.
    assert steps_and_versions(run) == [(0, 0), (1, 1)]
    for step in (0, 2):
        (version,) = versions(run.path / "validation" / f"step-{step:06d}.jsonl")
        assert version.startswith(f"policy-v{step}-")
    assert max(figures(run, "logprob_difference")) < 1e-4
    assert all(abs(weight - 1) < 1e-3 for weight in figures(run, "importance_weight"))
    assert not (run.path / "engine").exists()
    assert unknown_keys(run.metrics()) == set()
    own = {"logprob_difference", "importance_weight", "sync_seconds"}
    assert own <= run.metrics()[0].keys()


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_other_algorithms_are_corrected_too(folder: Path, server: Server, algorithm: str) -> None:
    server.faults(noise=0.03)
    done = create(folder, server, {"algorithm": algorithm})
    assert done.code == 0, done.err
    run = Run.open(folder / "runs" / "job")
    assert steps_and_versions(run) == [(0, 0), (1, 1)]
    assert figures(run, "logprob_difference") == pytest.approx([0.03, 0.03], abs=1e-3)


def test_a_batch_ahead_comes_from_the_weights_of_its_time(folder: Path, server: Server) -> None:
    """A job that goes on after its end has none ahead: its next batch comes from the weights of its step."""
    ahead = {"rollout.ahead": 1, "optim.max_steps": 2}
    done = create(folder, server, ahead)
    assert done.code == 0, done.err
    run = Run.open(folder / "runs" / "job")
    assert steps_and_versions(run) == [(0, 0), (1, 0)]
    done = rft_here(folder, "train", "--resume", "runs/job", "--n-epochs", "3", "--set", "optim.max_steps=3")
    assert done.code == 0, done.err
    assert steps_and_versions(run) == [(0, 0), (1, 0), (2, 2)]
    assert max(figures(run, "logprob_difference")) < 1e-4


def test_full_fine_tuning_reloads_whole_weights(folder: Path, server: Server) -> None:
    done = create(folder, server, {"lora.enabled": False, "optim.learning_rate": 0.001})
    assert done.code == 0, done.err
    run = Run.open(folder / "runs" / "job")
    # Nothing has trained the first batch's weights: they are those that the server began with.
    assert versions(run.path / "rollouts" / "step-000000.jsonl") == {str(BUILTIN / "tiny")}
    (second,) = versions(run.path / "rollouts" / "step-000001.jsonl")
    assert second.startswith("policy-v1-")
    assert max(figures(run, "logprob_difference")) < 1e-4
    assert server.ask("/weight_info")["weight_version"].startswith("policy-v2-")


def test_stale_weights_end_the_job_at_a_checkpoint_which_resumes(folder: Path, server: Server) -> None:
    server.faults(old=True)
    done = create(folder, server, {"checkpoint.every_steps": "auto"})
    assert done.code == 3, done.err
    (problem,) = done.problems
    assert "stale weights" in problem
    assert problem.index("policy-v0-") < problem.index("policy-v1-")
    run = Run.open(folder / "runs" / "job")
    assert (run.checkpoints(), len(run.metrics())) == ([1], 1)
    server.faults()
    done = rft_here(folder, "train", "--resume", "runs/job")
    assert done.code == 0, done.err
    assert steps_and_versions(run) == [(0, 0), (1, 1)]


def test_weights_of_another_step_under_the_right_name_are_noticed(folder: Path, server: Server) -> None:
    server.faults(silent_old=True)
    done = create(folder, server, {"tripwires.action": "stop"})
    assert done.code == 3, done.err
    (problem,) = done.problems
    # The older weights are the base's: nothing had been learned.
    assert "the engine samples from the base model" in problem
    assert len(Run.open(folder / "runs" / "job").metrics()) == 1


@pytest.mark.parametrize(
    ("faults", "settings", "words"),
    [
        ({"raw": True}, {"rollout.temperature": 0.5}, "--logprobs-mode processed_logprobs"),
        ({"noise": 2.0, "root": "/models/other"}, {}, "serves another model"),
        ({"no_lora": True}, {}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ({"no_reload": True}, {"lora.enabled": False}, "train with LoRA"),
        ({"context": 16}, {}, "--max-model-len"),
        ({"slow": 3}, {"rollout.vllm.timeout_s": 1}, "raise rollout.vllm.timeout_s"),
        ({"no_ids": True}, {}, "token ids and log-probabilities are needed"),
    ],
)
def test_a_server_that_does_not_fit_is_found_before_training(
    folder: Path, server: Server, faults: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    server.faults(**faults)
    done = create(folder, server, settings)
    assert (done.code, len(done.problems)) == (2, 1), done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (folder / "runs" / "job").exists()


def test_an_engine_that_is_down_or_not_there_is_one_message(folder: Path, server: Server) -> None:
    done = create(folder, server, {"rollout.endpoint": "http://127.0.0.1:9"})
    assert done.problems == ["rollout.endpoint: http://127.0.0.1:9 does not answer"]
    chosen = {**LORA, "rollout.vllm.python": sys.executable}
    done = rft_here(folder, "create", *FILES, *SMALL, *sets(chosen), "--name", "job")
    assert done.problems == [f"rollout.vllm.python: {sys.executable} has no package vllm"]
    assert done.code == 2


def test_an_engine_that_can_not_start_says_why(folder: Path) -> None:
    chosen = {**LORA, "rollout.vllm.command": ["sh", "-c", "echo no available memory for the cache; exit 7"]}
    done = rft_here(folder, "create", *FILES, *SMALL, *sets(chosen), "--name", "job")
    assert done.code == 3
    assert done.problems == ["the engine vllm ended with exit code 7"]
    assert "no available memory for the cache" in done.err
    assert "it needs more memory than there is" in done.err


def test_of_several_servers_those_that_answer_go_on(server: Server) -> None:
    notes: list[Any] = []

    def connect(url: str) -> VllmClient:
        return VllmClient(url, 60)

    base = str(BUILTIN / "tiny")
    servers = Servers(
        [connect("http://127.0.0.1:9"), connect(server.url)], connect, base, False, notes.append
    )
    sampling = {"max_tokens": 3, "temperature": 1.0, "stop_token_ids": []}
    prompts = [[5, 6, 7], [8, 9]]
    with pytest.raises(EngineLost, match=r"^http://127\.0\.0\.1:9"):
        servers.complete(base, prompts, sampling)
    servers.recover("it is gone")
    assert servers.urls == [server.url]
    assert "http://127.0.0.1:9 does not answer" in notes[0].text
    found = servers.complete(base, prompts, sampling)
    assert [(len(one.ids), one.version) for one in found] == [(3, base)] * 2
    servers.follow(["http://127.0.0.1:9"])
    with pytest.raises(EngineGone, match="no engine answers any more"):
        servers.recover("it is gone")
    servers.close()


def test_whole_weights_that_vllm_would_take_in_part_are_refused(folder: Path) -> None:
    chosen = {**LORA, "lora.enabled": False, "rollout.vllm.command": ["sh", "-c", "exit 7"]}
    done = rft_here(folder, "create", *FILES, *SMALL, *sets(chosen), "--name", "job")
    assert (done.code, len(done.problems)) == (2, 1), done.err
    assert "keeps the old output layer of builtin/tiny" in done.problems[0]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not VLLM, reason="RFT_VLLM_PYTHON names no Python that has vLLM")
def test_a_job_with_vllm_itself_goes_on_where_its_engine_is_killed(folder: Path) -> None:
    settings = {**LORA, "rollout.vllm.python": VLLM, "optim.n_epochs": 3}
    job = run_outside(folder, create_arguments(settings))
    rollouts = folder / "runs" / "job" / "rollouts"
    wait_for(lambda: list(rollouts.glob("step-*.jsonl")), 900)
    engines = [p for p in job.family() if "EngineCore" in p.name() or "EngineCore" in " ".join(p.cmdline())]
    assert engines
    engines[0].kill()
    done = job.wait(900)
    assert done.code == 0, done.err
    run = Run.open(folder / "runs" / "job")
    assert [step for step, _ in steps_and_versions(run)] == [
        version for _, version in steps_and_versions(run)
    ]
    assert max(figures(run, "logprob_difference")) < 0.02
