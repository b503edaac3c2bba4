"""`rft export --push`: everything in one commit, a card that the hub reads, nothing of this machine in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from rft_cli.runs import Run
from tests.command import RFT, environment
from tests.push_hub import TOKEN, PushHub
from tests.training.made_runs import VOCABULARY, run_of, save_base
from tests.training.toys import qwen3


@dataclass
class Result:
    code: int
    out: str
    err: str


def push(run: Run, here: Path, hub: PushHub | None, *flags: str, token: str = TOKEN) -> Result:
    """In a process of its own: the hub's client reads its environment once."""
    home = here / "home"
    found = {"HF_HOME": str(home)} if hub is None else hub.environment(home, token)
    command = [*RFT, "export", str(run.path), "--to", "model", *flags]
    env = environment(traced=False, **found)
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=280)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[PushHub]:
    made = PushHub(**getattr(request, "param", {}))
    yield made
    made.close()


def test_an_export_is_pushed_whole_and_says_nothing_of_this_machine(
    full_run: Run, tmp_path: Path, hub: PushHub
) -> None:
    done = push(full_run, tmp_path, hub, "--push", "org/brief", "--private", "--json")
    assert done.code == 0, done.err
    files = hub.repos["org/brief"]
    written = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert files == written
    assert hub.private == {"org/brief"}
    assert hub.commits == [f"{full_run.name}, step {full_run.info['best_step']}, by rft"]
    assert f'"pushed": "{hub.endpoint}/org/brief"' in done.out
    texts = b"".join(content for name, content in files.items() if not name.endswith(".safetensors"))
    for private in (str(tmp_path), str(full_run.path.parent), os.uname().nodename):
        assert private.encode() not in texts, private
    rows = [sample.prompt for sample in full_run.read_samples("step-000000")]
    assert rows
    for row in rows:
        assert row.splitlines()[-1].encode() not in texts
    check_card(files["README.md"].decode(), full_run)


@pytest.fixture(scope="module")
def adapter_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A LoRA run that nothing trained, of a base that is a directory."""
    folder = tmp_path_factory.mktemp("adapter")
    return run_of(folder, save_base(folder / "base", qwen3(vocabulary=VOCABULARY)), lora=True)


def check_card(text: str, run: Run) -> None:
    """The hub's own client reads the result from the card; the rows' hashes are there."""
    result: dict[str, Any] = run.info["result"]["validation"]
    (found,) = ModelCard(text).data.eval_results
    assert (found.metric_type, found.dataset_split) == ("reward", "validation")
    assert found.metric_value == pytest.approx(result["after"]["mean"], abs=1e-6)
    assert found.metric_args["before"] == pytest.approx(result["before"]["mean"], abs=1e-6)
    assert found.dataset_args == {"sha256": run.info["hashes"]["validation"], "rows": result["after"]["n"]}
    front = yaml.safe_load(text.split("---")[1])
    assert front["model-index"][0]["name"] == run.name
    for kind in ("train", "validation", "grader"):
        assert f"sha256 `{run.info['hashes'][kind]}`" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--push", "no name"), "--push no name: not a name on the hub"),
        (("--push", "gpt"), "give ORG/NAME"),
        (("--push", "org/brief", "--format", "adapter"), "the base of this adapter, is not on the hub"),
        (("--private",), "--private is for --push"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_made(
    adapter_run: Run, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    done = push(adapter_run, tmp_path, None, *flags)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (tmp_path / "model").exists()


def test_who_is_not_logged_in_or_unknown_exports_nothing(full_run: Run, tmp_path: Path, hub: PushHub) -> None:
    done = push(full_run, tmp_path, None, "--push", "org/brief")
    assert done.code == 2
    assert "not logged in to the hub\n  fix: hf auth login" in done.err
    done = push(full_run, tmp_path, hub, "--push", "org/brief", token="hf_other")
    assert done.code == 2
    assert "does not know your token" in done.err
    hub.close()
    done = push(full_run, tmp_path, hub, "--push", "org/brief")
    assert done.code == 2
    assert "the hub can't be reached" in done.err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("hub", [{"read_only": True}], indirect=True)
def test_a_token_that_may_not_write_leaves_the_export(full_run: Run, tmp_path: Path, hub: PushHub) -> None:
    done = push(full_run, tmp_path, hub, "--push", "org/brief")
    assert done.code == 3
    assert "your token may not write there; the export itself is whole" in done.err
    assert (tmp_path / "model" / "README.md").exists()
    assert hub.commits == []
