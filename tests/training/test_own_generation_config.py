"""A model's own generation config bends no sample, and stands again beside what is saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rft_cli.runs import Run
from rft_cli.runs.model_source import BUILTIN
from tests.faults.jobs import rft_here
from tests.training.conftest import make_run

BENT: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.3,
    "top_k": 3,
    "top_p": 0.5,
    "min_p": 0.5,
    "typical_p": 0.4,
    "epsilon_cutoff": 0.1,
    "repetition_penalty": 1.8,
    "no_repeat_ngram_size": 2,
    "num_beams": 2,
    "suppress_tokens": list(range(70, 90)),
    "begin_suppress_tokens": [200, 201],
    "bad_words_ids": [[300]],
    "forced_bos_token_id": 100,
    "forced_eos_token_id": 101,
    "stop_strings": ["a"],
    "min_new_tokens": 30,
    "max_length": 12,
    "use_cache": False,
    "cache_implementation": "static",
}
NOT_SAMPLING = {"temperature": 0.6, "top_p": 0.9}
"""What transformers loads with a warning, and refuses to save where anything else in it was changed."""


def model_with(folder: Path, generation_config: dict[str, Any]) -> Path:
    """builtin/tiny with these fields in its generation_config.json."""
    shutil.copytree(BUILTIN / "tiny", folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **generation_config}))
    return folder


def files_of(run: Run, kind: str) -> dict[str, Any]:
    """The lines of a run's completions, without what a clock says."""

    def timeless(line: str) -> Any:
        row = json.loads(line)
        return {key: row[key] for key in ("completion", "row") if key in row} or row

    return {
        file.name: [timeless(line) for line in file.read_text().splitlines()]
        for file in sorted((run.path / kind).glob("*.jsonl"))
    }


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_a_job_samples_the_same(algorithm: str, tmp_path: Path) -> None:
    runs = []
    for name, fields in (("plain", {}), ("bent", BENT), ("odd", NOT_SAMPLING)):
        model = model_with(tmp_path / name, fields)
        flags = ("--model", str(model), "--n-epochs", "1", "--set", f"algorithm={algorithm}")
        (tmp_path / f"job-{name}").mkdir()
        more = (
            "--learning-rate",
            "1e-3",
            "--set",
            "rollout.max_completion_tokens=16",
            "--set",
            "lora.enabled=false",
        )
        runs.append(make_run(tmp_path / f"job-{name}", name, *flags, *more))
    plain, bent, odd = runs
    for kind in ("rollouts", "validation"):
        expected = files_of(plain, kind)
        assert any(rows for rows in expected.values())
        assert files_of(bent, kind) == expected
        assert files_of(odd, kind) == expected
    for run, fields in ((bent, BENT), (odd, NOT_SAMPLING)):
        (file,) = run.path.glob("checkpoints/step-*/generation_config.json")
        saved = json.loads(file.read_text())
        assert saved | fields == saved
        assert saved["eos_token_id"] == [3]


def test_validate_samples_the_same(tmp_path: Path) -> None:
    said = []
    for name, fields in (("plain", {}), ("bent", BENT), ("odd", NOT_SAMPLING)):
        folder = tmp_path / f"job-{name}"
        folder.mkdir()
        model = model_with(folder / "model", fields)
        (folder / "val.jsonl").write_text(
            "".join(json.dumps({"prompt": f"{n} + 1"}) + "\n" for n in range(4))
        )
        (folder / "scorer.py").write_text(
            "def score(completion):\n    return sum(completion.encode()) / 1e4\n"
        )
        done = rft_here(
            folder, "validate", "-v", "val.jsonl", "--reward-model", "scorer.py", "--model", model, "--json",
            "--set", "validation.temperature=1", "--set", "rollout.max_completion_tokens=16",
        )  # fmt: skip
        assert done.code == 0, done.err
        said.append(json.loads(done.out)["validation"])
    assert said[0]["mean"] != 0
    assert said[1] == said[0]
    assert said[2] == said[0]
