"""`rft validate --run A --run B`: their best checkpoints on the same rows, and the gates on the difference."""

import json
import shutil

from tests.faults.jobs import moved, rft_here


def test_two_runs_are_compared_on_the_same_rows(tmp_path, finished):
    run, folder = finished(tmp_path), tmp_path
    twin = type(run)(shutil.copytree(run.path, run.path.with_name("b")))
    moved(twin, run.path, twin.path)

    shown = rft_here(folder, "validate", "--run", "a", "--run", "b")
    assert shown.code == 0, shown.err
    assert "a (first) and b (second), each its best checkpoint" in shown.out
    assert "b and a can't be told apart: the interval of their difference includes 0." in " ".join(
        shown.out.split()
    )

    unmet = rft_here(folder, "validate", "--run", "a", "--run", "b", "--min-gain", "0.1", "--json")
    assert unmet.code == 1
    document = json.loads(unmet.out)
    assert [side["run"] for side in document["runs"]] == ["runs/a", "runs/b"]
    assert document["validation"]["difference"]["mean"] == 0
    assert document["status"] == "gate not met"
    (gate,) = document["gates"]
    assert gate.startswith("--min-gain 0.1 is not met: the validation rows gained 0.0000")
