"""The result object and the summary, built from run directories written here by hand."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rft_cli.console import print_summary
from rft_cli.report.pairs import Pair
from rft_cli.report.result import build_result, training_reward
from rft_cli.report.summary import build_summary, pick_completions
from rft_cli.runs import Run
from rft_cli.types import Grade, Sample


def sample(row, reward, completion="c", **components):
    return Sample(row, f"f:{row}", f"prompt {row}", completion, 1, False, Grade("graded", reward, components))


def checkpoint(run, step):
    partial = run.begin_checkpoint(step)
    (partial / "w").write_bytes(b"w")
    run.commit_checkpoint(step, partial)


@pytest.fixture
def run(tmp_path):
    run = Run.create(
        tmp_path,
        "job",
        config_yaml="seed: 1\n",
        info={
            "algorithm": "ppo",
            "model": "builtin/tiny",
            "seed": 1,
            "seconds": 150.5,
        },
    )
    run.write_samples("step-000000", [sample(row, 0.0, "no", json=0.0) for row in range(4)])
    run.write_samples("step-000006", [sample(row, 0.25, json=1.0) for row in range(4)])
    run.write_samples("step-000012", [sample(row, 0.5, f"yes {row}", json=1.0) for row in range(4)])
    for step, reward in enumerate([0.1, 0.2, 0.3, 0.6, 0.7, 0.8], start=1):
        run.append_metrics({"step": 2 * step, "epoch": step / 3, "reward": reward, "completions": 64 * step})
    graded = {"grade": {"status": "graded", "seconds": 0.002}}
    error = {"kind": "raised", "message": "scorer.py:1: ValueError: no", "trace": "Traceback: no"}
    run.write_rollouts(2, [graded, graded, {"grade": {"status": "failed", "error": error, "seconds": 0.004}}])
    run.write_rollouts(4, [graded, {"grade": {"status": "skipped"}}])
    return run


def best(run, step=12):
    checkpoint(run, step)
    run.set_best(step)


def exactly(value, n=4):
    return {"mean": value, "ci95": [value, value], "n": n}


def test_result_has_the_documented_shape_and_numbers(run):
    best(run)
    result = build_result(run)
    assert json.loads(json.dumps(result)) == {
        "schema": "rft.result/1",
        "run": str(run.path),
        "status": "finished",
        "algorithm": "ppo",
        "model": "builtin/tiny",
        "seed": 1,
        "best_step": 12,
        "checkpoints_compared": 2,
        "completions_sampled": 384,
        "seconds": 150.5,
        "validation": {
            "before": exactly(0.0),
            "after": exactly(0.5),
            "difference": exactly(0.5),
            "answers": {
                "before": {"n": 4, "distinct": 1, "most_frequent": "no", "share": 1.0},
                "after": {"n": 4, "distinct": 4, "most_frequent": "yes 0", "share": 0.25},
            },
            "constant": None,
        },
        "components": {"json": {"before": exactly(0.0), "after": exactly(1.0), "difference": exactly(1.0)}},
        "training_reward": {"first": pytest.approx(0.2), "last": pytest.approx(0.7)},
        "grader": {
            "graded": 3,
            "skipped": 1,
            "failed": 1,
            "rates": {"graded": 0.6, "skipped": 0.2, "failed": 0.2},
            "failures": {"raised": 1},
            "latency_s": {"p50": 0.002, "p90": 0.004, "p99": 0.004, "max": 0.004},
            "reasons": [
                {
                    "kind": "raised",
                    "message": "scorer.py:1: ValueError: no",
                    "count": 1,
                    "trace": "Traceback: no",
                }
            ],
        },
        "warnings": [],
        "diagnosis": [],
        "gaming": result["gaming"],
        "advice": None,
        "next": f"rft export {run.path}",
    }
    assert (result["gaming"]["verdict"], result["gaming"]["kind"]) == ("not measured", None)
    assert result["gaming"]["why"] == "the rows have no references, or all the same one"


def test_the_diagnosis_is_in_the_result_and_in_the_summary(run):
    best(run)
    run.append_metrics({"step": 14, "completions": 448, "kl_per_token": 2.5})
    result = build_result(run)
    (only,) = result["diagnosis"]
    assert (only["name"], only["value"], only["setting"]) == ("kl", 2.5, "ppo.kl_coef")
    assert build_summary(run, result).diagnosis == (only["text"],)
    screen = io.StringIO()
    print_summary(build_summary(run, result), screen)
    assert "Diagnosis\n- KL (k1) to the reference ended at 2.5 nats a token" in screen.getvalue()


def test_test_rows_come_beside_and_give_the_components(run):
    best(run)
    run.write_samples("test-before", [sample(0, 0.2, all=0.0), sample(1, 0.2, all=1.0)])
    run.write_samples("test-after", [sample(0, 0.8, all=1.0), sample(1, 0.8, all=1.0)])
    result = build_result(run)
    assert result["test"]["after"] == exactly(0.8, 2)
    assert result["validation"]["after"] == exactly(0.5)
    assert list(result["components"]) == ["all"]
    assert result["components"]["all"]["difference"]["mean"] == 0.5
    summary = build_summary(run, result)
    assert summary.split == "test"
    assert any(
        "2 test rows (not used to choose the checkpoint): the best checkpoint (step 12)" in note
        for note in summary.notes
    )


def test_where_nothing_beat_the_base_before_is_after(run):
    run.write_samples("test-before", [sample(0, 0.2)])
    result = build_result(run)
    assert result["best_step"] == 0
    assert result["validation"]["difference"] == exactly(0.0)
    assert result["test"]["difference"] == exactly(0.0, 1)
    assert result["next"] == f"rft train {run.path}/config.yaml --n-epochs 4"
    summary = build_summary(run, result)
    assert "Nothing beat the base model" in summary.headline
    assert summary.completions == ()
    assert summary.notes[0] == "1 test row. Compared with the base on the validation rows: 2 checkpoints."
    assert any("validation reward of the base 0.000" in note for note in summary.notes)


def test_a_run_before_its_first_step_has_a_result_too(tmp_path):
    run = Run.create(tmp_path, "job", config_yaml="", info={"seconds": 3.0})
    run.write_samples("step-000000", [sample(0, 0.5)])
    result = build_result(run, status="interrupted")
    assert result["training_reward"] == {"first": None, "last": None}
    assert (result["completions_sampled"], result["seconds"], result["status"]) == (0, 3.0, "interrupted")
    assert not any("Training reward" in note for note in build_summary(run, result).notes)


def test_seconds_of_a_running_job_add_to_those_of_its_earlier_sessions(run):
    started = datetime.now(UTC) - timedelta(seconds=100)
    run.update(status="running", started=started.isoformat())
    assert build_result(run)["seconds"] == pytest.approx(250.5, abs=5)
    run.update(status="created", seconds=None)
    assert build_result(run)["seconds"] == 0.0


def test_training_reward_takes_whole_epochs():
    rows = [{"epoch": e, "reward": r} for e, r in [(0.5, 0.0), (1.0, 1.0), (1.5, 4.0), (2.0, 6.0)]]
    assert training_reward([*rows, {"epoch": 2.0, "reward": None}]) == {"first": 0.5, "last": 5.0}
    assert training_reward([{"reward": 2.0}]) == {"first": 2.0, "last": 2.0}


def test_training_reward_of_a_job_within_an_epoch_takes_its_halves():
    rows = [{"epoch": n / 100, "reward": float(n)} for n in (1, 2, 3, 4, 5)]
    assert training_reward(rows) == {"first": 1.5, "last": 4.5}
    whole = [{"epoch": n / 2, "reward": float(n)} for n in (1, 2, 3, 4, 5)]  # ends in its third epoch
    assert training_reward(whole) == {"first": 1.5, "last": 4.5}


@pytest.mark.parametrize(
    ("epochs", "most", "flags"),
    [
        (3, None, "--n-epochs 6"),
        (3, 10, "--n-epochs 6 --set optim.max_steps=24"),
        ("auto", None, "--set optim.max_steps=24"),
        ("auto", 10, "--set optim.max_steps=24"),
    ],
)
def test_what_makes_a_job_twice_as_long(run, epochs, most, flags):
    run.update(settings={"optim.n_epochs": epochs, "optim.max_steps": most})
    assert build_result(run)["next"] == f"rft train {run.path}/config.yaml {flags}"


def test_summary_tells_reward_components_counts_and_what_next(run):
    best(run)
    result = build_result(run)
    summary = build_summary(run, result)
    assert summary.headline == "Mean reward on the validation rows went from 0.000 to 0.500."
    assert [row.label for row in summary.table] == ["reward", "json"]
    assert summary.table[0].difference.mean == 0.5
    text = "\n".join(summary.notes)
    assert (
        "4 validation rows: the best checkpoint (step 12) was chosen among 2 checkpoints on these same rows"
        in text
    )
    assert "--test FILE" in text
    assert "Training reward 0.200 -> 0.700" in text
    assert (
        "validation reward 0.000 -> 0.500: the gain holds on rows that were not trained on; "
        "read the completions to see whether the scorer was fooled." in text
    )
    assert "Grader: of the completions 3 graded (60.0%), 1 skipped (20.0%), 1 failed (20.0%)" in text
    assert "failed 1 × raised: scorer.py:1: ValueError: no" in text
    assert "Half of the grades took at most 2 ms, 99 % at most 4 ms." in text
    assert summary.next == f"rft export {run.path}"
    assert len(summary.completions) == 4


@pytest.mark.parametrize(
    ("before", "after", "headline", "note"),
    [
        ([0.0, 1.0, 0.5], [0.5, 0.5, 0.6], "may be chance", "no clear gain on rows"),
        ([0.5, 0.6, 0.7], [0.4, 0.4, 0.4], "worse than the base", "no clear gain on rows"),
        ([0.0, 0.0, 0.0], [0.1, 0.1, 0.1], "to 0.100.", "a sign of memorising"),
    ],
)
def test_headline_and_verdict_are_honest(run, before, after, headline, note):
    best(run)
    run.write_samples("step-000000", [sample(i, value) for i, value in enumerate(before)])
    run.write_samples("step-000012", [sample(i, value) for i, value in enumerate(after)])
    summary = build_summary(run, build_result(run))
    assert headline in summary.headline
    assert any(note in line for line in summary.notes)


def pair(rewards):
    before = [sample(row, first, f"b{row}") for row, (first, _) in enumerate(rewards)]
    after = [sample(row, second, f"a{row}") for row, (_, second) in enumerate(rewards)]
    return Pair("validation", before, after)


def test_five_completions_show_better_same_and_worse_rows():
    picked = pick_completions(pair([(0.0, 1.0)] * 8 + [(0.5, 0.5)] * 3 + [(1.0, 0.0)]), 5)
    assert [item.verdict for item in picked] == ["better", "better", "better", "same", "worse"]
    assert [item.before for item in picked[:3]] == ["b0", "b2", "b4"]
    assert picked[-1].before_reward == 1.0


def test_five_completions_are_filled_up_from_what_there_is():
    assert [i.verdict for i in pick_completions(pair([(0.5, 0.5)] * 9), 5)] == ["same"] * 5
    assert [i.verdict for i in pick_completions(pair([(1.0, 0.5)] * 2), 5)] == ["worse"] * 2
    only = Sample(0, "f:0", "p", "x", 1, False, Grade("skipped"))
    assert pick_completions(Pair("validation", [only], [only]), 5) == []


def test_the_page_names_every_key_of_the_result(run):
    best(run)
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    result = build_result(run)
    assert f"`{result.pop('schema')}`" in page
    missing = [key for key in [*result, *result["grader"]] if f"`{key}`" not in page]
    assert missing == []
