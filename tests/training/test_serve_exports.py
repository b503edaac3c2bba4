"""`rft serve` of exported folders: the run's own settings, without the run. What is said of the run that is served."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from rft_cli.commands.serving.models import describe_served
from rft_cli.commands.serving.target import settings_of
from rft_cli.runs import Run
from rft_cli.training import served_model
from tests.command import RFT, environment, rft
from tests.faults.jobs import rft_here
from tests.training.test_export_gguf import needs_llama_cpp


@contextmanager
def serving(what: Path, *flags: str) -> Iterator[tuple[str, openai.OpenAI]]:
    """The engine's name, and a client of `rft serve WHAT`."""
    command = [*RFT, "serve", str(what), "--port", "0", "--json", *flags]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = ""
        while not text.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, text
            text += line
        document = json.loads(text)
        try:
            yield document["engine"], openai.OpenAI(base_url=document["url"], api_key="none", max_retries=0)
        finally:
            process.terminate()
    assert process.returncode == 143


def answers_as_measured(run: Run, client: openai.OpenAI) -> None:
    """Requests without settings get those of the run's validation, which was greedy: the same texts."""
    [model] = client.models.list()
    for sample in run.read_samples(f"step-{run.info['best_step']:06d}"):
        found = client.chat.completions.create(
            model=model.id, messages=[{"role": "user", "content": sample.prompt}]
        )
        assert found.choices[0].message.content == sample.completion


def test_an_adapter_is_verified_and_answers_as_in_the_run(lora_run: Run, tmp_path: Path) -> None:
    flags = ("--format", "adapter", "--to", "out", "--verify", "--quiet")
    done = rft_here(tmp_path, "export", lora_run.path, *flags)
    assert done.code == 0, done.err
    assert "through transformers" in done.out
    assert "difference +0.000 [+0.000, +0.000], paired" in done.out
    with serving(tmp_path / "out", "--engine", "transformers") as (_, client):
        answers_as_measured(lora_run, client)


@needs_llama_cpp
def test_a_folder_with_a_gguf_file_answers_as_in_the_run(full_run: Run, tmp_path: Path) -> None:
    done = rft_here(tmp_path, "export", full_run.path, "--format", "gguf", "--to", "out", "--quiet")
    assert done.code == 0, done.err
    with serving(tmp_path / "out") as (engine, client):
        assert engine == "llama.cpp"
        answers_as_measured(full_run, client)
    done = rft("serve", "out", "--engine", "vllm", folder=tmp_path)
    assert done.problems == ["vllm does not serve a GGUF file"]


def test_what_is_served_of_a_run_that_still_trains(full_run: Run, tmp_path: Path) -> None:
    copied = shutil.copytree(full_run.path, tmp_path / "run", symlinks=True)
    file = copied / "run.json"
    info = json.loads(file.read_text())

    def said(**changed: object) -> str:
        file.write_text(json.dumps({**info, **changed}))
        return describe_served(Run.open(copied)).replace(str(copied), "RUN")

    best = f"serving step-{info['best_step']} of RUN, its best"
    assert said() == best
    assert said(status="running") == f"{best} so far: it is still running"
    assert said(best_step=0) == "nothing beat the base in RUN: serving the base"
    unfinished = "RUN is still running, and no checkpoint has beaten the base yet: serving the base"
    assert said(best_step=0, status="running") == unfinished


def test_a_second_serve_that_merges_the_same_adapter_meanwhile(
    lora_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests may have served it before.
    fresh = shutil.ignore_patterns("export")
    run = Run.open(shutil.copytree(lora_run.path, tmp_path / "run", symlinks=True, ignore=fresh))
    config = settings_of(run, "", []).config
    [wanted] = served_model.models_of_run(run, config, {"tuned": "mine"}, tmp_path)
    notes: list[str] = []
    load = served_model.load_model

    def overtaken(*given: Any) -> Any:
        """The other one begins and ends while this one loads."""
        monkeypatch.setattr(served_model, "load_model", load)
        served_model.prepare(wanted, tmp_path / "other", notes.append)
        return load(*given)

    monkeypatch.setattr(served_model, "load_model", overtaken)
    place = served_model.prepare(wanted, tmp_path / "own", notes.append).place
    assert (place / "model.safetensors").resolve().parent.parent == run.path / "export" / "serving"
    # Each has begun to merge; one result is there, and nothing half-made beside it.
    assert len(notes) == 2
    assert len(list((run.path / "export" / "serving").iterdir())) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("serve", "builtin/tiny", "--name", " "), "--name is empty"),
        (("validate", "-v", "val.jsonl", "--timeout", "3"), "--timeout needs --endpoint"),
    ],
)
def test_flags_that_can_not_be_meant(tmp_path: Path, command: tuple[str, ...], message: str) -> None:
    done = rft(*command, folder=tmp_path)
    assert (done.code, done.problems) == (2, [message])
