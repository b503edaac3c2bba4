"""What this version's runs look like on disk, kept as files: later versions must go on reading them."""

import json
import shutil
from pathlib import Path

import pytest

from rft_cli.commands.resume.compare import changes
from rft_cli.commands.resume.plan import began_with, plan_resume
from rft_cli.commands.settings import Settings
from rft_cli.errors import UsageErrors
from rft_cli.report.result import build_result
from rft_cli.report.summary import build_summary
from rft_cli.runs import Run
from rft_cli.runs.find import list_runs

KEPT = Path(__file__).parent / "schema-1"


@pytest.fixture
def run(tmp_path) -> Run:
    """A run of schema version 1, without its weights, of which only steps 0 and 2 are kept."""
    return Run(shutil.copytree(KEPT, tmp_path / "a"))


def test_a_run_of_schema_1_is_read(run):
    opened = Run.open(run.path)
    assert (opened.info["schema_version"], opened.info["status"], opened.info["best_step"]) == (
        1,
        "finished",
        2,
    )
    assert [row["step"] for row in opened.metrics()] == [1, 2, 3]
    assert (opened.checkpoints(), opened.verify_checkpoint(2)) == ([2], None)
    assert opened.best_checkpoint() == run.path / "checkpoints" / "step-2"  # a copy lost the link
    assert opened.validated_steps() == [0, 2]
    assert len(list(opened.rollouts())) == 8
    assert [path.path for path in list_runs(run.path.parent)] == [run.path]
    result = build_result(opened)
    kept = opened.info["result"]["validation"]
    assert {name: result["validation"][name] for name in kept} == kept
    assert "0.694 to 0.919" in build_summary(opened, result).headline


def test_fields_that_are_not_known_are_kept_and_ignored(run):
    """As a later minor version may add them to what both read."""
    more = {"added_later": {"deep": [1, None]}}
    (run.path / "run.json").write_text(json.dumps({**run.info, **more}))
    metrics = run.metrics_path
    metrics.write_text(metrics.read_text().replace('{"step"', '{"added_later": 1, "step"'))
    manifest = run.checkpoint_path(2) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **more}))
    opened = Run.open(run.path)
    opened.update(status="interrupted")
    assert opened.info["added_later"] == more["added_later"]
    assert [row["step"] for row in opened.metrics()] == [1, 2, 3]
    assert opened.verify_checkpoint(2) is None


def test_its_settings_are_compared_when_it_goes_on(run):
    plan = plan_resume(str(run.path), Settings(None, {"optim.n_epochs": "9"}, ["ppo.kl_coef=0.005"]))
    assert (plan.longer, plan.over) == (True, False)
    with pytest.raises(UsageErrors) as caught:
        changes(plan)
    assert [problem.message.split(":")[0] for problem in caught.value.problems] == [
        "data.train", "data.validation", "grader.path",
    ]  # fmt: skip


def test_a_default_that_it_keeps_as_a_number_is_no_change(run):
    """`grader.timeout_s` was 30 before it was auto."""
    plan = plan_resume(str(run.path), Settings(None, {}, []))
    assert began_with(plan.info, plan.own)["grader.timeout_s"] == 30
    assert plan.loaded.config.grader.timeout_s == 30


def test_a_run_that_kept_no_settings_is_compared_with_its_own_file(run):
    """As the first runs were written: without `settings`, `base`, `path` and `grader_modules`."""
    info = {
        key: value
        for key, value in run.info.items()
        if key not in ("settings", "base", "path", "grader_modules")
    }
    (run.path / "run.json").write_text(json.dumps(info))
    plan = plan_resume(str(run.path), Settings(None, {}, []))
    assert plan.over
    assert changes(plan) == {}
    changed = plan_resume(str(run.path), Settings(None, {}, ["seed=5"]))
    assert changes(changed) == {"seed": [0, 5]}
