"""Judges behind a real server, `transformers serve`, with a model whose verdicts are known."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import UsageError
from rft_cli.grading.judge.grader import JudgeGrader
from rft_cli.grading.judge.session import JudgeSession
from tests.grading.judge.servers import asks, score_spec

PROGRAM = Path(__file__).with_name("small_judge.py")


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    model: str

    def judge(self, model: str | None = None) -> JudgeGrader:
        settings = JudgeConfig(base_url=self.url, api_key_env="none", cache="none", retries=0)
        spec = score_spec(model=model or self.model, sampling_params={"max_completions_tokens": 8, "seed": 1})
        return JudgeGrader(spec, JudgeSession(settings))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server in a process of its own, at a free port that it names."""
    folder = tmp_path_factory.mktemp("served")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder / "model")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Served(f"{_address(process, log)}/v1", str(folder / "model"))
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"no server: {log.read_text()[-3000:]}")


def test_a_served_model_judges(served: Served) -> None:
    """Each of the three kinds of answer that the model gives, for its own completion though asked side by side."""
    with closing(served.judge()) as judge:
        grades = judge.grade(asks("an excellent answer", "an odd answer", "an answer", "so excellent"))
        assert [grade.reward for grade in grades] == [0.75, None, 1.0, 0.75]
        assert grades[1].error is not None
        assert grades[1].error.kind == "judge_parse"
        assert grades[1].error.trace == "the judge wrote: I would rather not say."
        # Four grades and the request that showed that the model is there, each of a verdict and the end of turn.
        metrics = judge._session.usage.to_metrics()
        assert (metrics["judge_requests"], metrics["judge_output_tokens"]) == (5, 10)
        assert metrics["judge_input_tokens"] > 4 * 50
        assert metrics["judge_clamped"] == 1


def test_another_model_than_the_served_one_is_refused(served: Served) -> None:
    with pytest.raises(UsageError) as caught:
        served.judge("gpt-4o")
    assert caught.value.message == (
        f"the judge at {served.url} does not answer for the model 'gpt-4o': "
        f"HTTP 400: Server is pinned to '{served.model}'; requested 'gpt-4o'."
    )
