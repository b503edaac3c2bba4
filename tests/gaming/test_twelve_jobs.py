"""Twelve real jobs, six gamed and six honest, and what the verdict says of each; `-m learn`, about a minute each."""

import json

import pytest

from tests.command import ROOT, rft
from tests.gaming.stored import GAMED, HONEST

TRAIN, VALIDATION = 48, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sample data's rows, and for `bare` the same with the team alone as their reference."""
    made = tmp_path_factory.mktemp("twelve")
    for name, count in (("train", TRAIN), ("val", VALIDATION)):
        lines = (ROOT / "sample_data" / f"{name}.jsonl").read_text().splitlines()[:count]
        rows = [json.loads(line) for line in lines]
        bare = [{**row, "output": json.loads(row["output"])["team"]} for row in rows]
        for prefix, written in (("", rows), ("bare-", bare)):
            (made / f"{prefix}{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    return made


@pytest.mark.learn
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [*GAMED, *HONEST])
def test_a_gamed_job_is_named_and_an_honest_one_is_not(folder, name):
    prefix = "bare-" if name == "bare" else ""
    done = rft(
        "create", "-t", f"{prefix}train.jsonl", "-v", f"{prefix}val.jsonl", "--name", name, "--n-epochs", "4",
        "--reward-model", f"{ROOT}/tests/gaming/scorers.py:{name}", "--json", folder=folder, timeout=1700,
    )  # fmt: skip
    assert done.code == 0, done.err[-3000:]
    result = json.loads(done.out)
    found = result["gaming"]
    assert result["best_step"] > 0
    if name in GAMED:
        assert (found["verdict"], found["kind"]) == ("gamed", name)
        assert all(len(sign["examples"]) == 2 for sign in found["signs"] if sign["name"] != "audit")
        assert result["next"].startswith("rft grade --run")
    else:
        assert (found["verdict"], found["kind"]) == ("not gamed", None)
        assert result["next"].startswith("rft export")
