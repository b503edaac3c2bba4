"""Completions of a run: a row through the steps, gains and losses, what has no grade, files that are damaged."""

import pytest

from rft_cli.view.completions import changes, gains, losses, row_through_steps, ungraded, worst
from rft_cli.view.reading import ReadProblems
from tests.view.made_runs import make_run, sample


@pytest.fixture
def run(tmp_path):
    validations = {
        0: [sample(0, 0.0, "a0"), sample(1, 1.0, "b0"), sample(2, 0.5, "c0"), sample(3, None, "d0")],
        4: [sample(0, 0.4, "a4"), sample(1, 0.2, "b4"), sample(2, 0.5, "c4"), sample(3, 0.9, "d4")],
        8: [sample(0, 1.0, "a8"), sample(1, 0.0, "b8"), sample(2, 0.5, "c8"), sample(3, 0.9, "d8")],
    }
    rollouts = {
        0: [sample(0, 0.1, "t0"), sample(0, None, "t1")],
        4: [sample(0, 0.3, "t2"), sample(10, 0.0, "u")],
    }
    return make_run(tmp_path, validations=validations, rollouts=rollouts, best_step=8)


def test_a_row_is_followed_through_the_steps_by_its_id_or_its_line(run):
    for wanted in ("line-1", "1"):
        found = row_through_steps(run.path, "validation", wanted, 8, ReadProblems())
        assert [(c.step, c.text, c.reward) for c in found] == [(0, "a0", 0.0), (4, "a4", 0.4), (8, "a8", 1.0)]
    found = row_through_steps(run.path, "training", "1", 8, ReadProblems())
    assert [(c.step, c.text, c.status) for c in found] == [
        (0, "t0", "graded"),
        (0, "t1", "failed"),
        (4, "t2", "graded"),
    ]
    assert row_through_steps(run.path, "validation", "9", 8, ReadProblems()) == []


def test_ids_with_any_characters_are_found(tmp_path):
    from rft_cli.types import Grade, Sample

    strange = 'a "quoted" \\ name – ü'
    run = make_run(
        tmp_path, validations={0: [Sample(0, strange, "p", "text", 1, False, Grade("graded", 1.0))]}
    )
    assert len(row_through_steps(run.path, "validation", strange, 0, ReadProblems())) == 1


def test_gains_losses_and_the_lowest_rewards(run):
    found = changes(run.path, "validation", 8, ReadProblems())
    assert [change.gain for change in found] == [1.0, -1.0, 0.0, None]
    assert [c.after.text for c in gains(found, 5)] == ["a8"]
    assert [c.after.text for c in losses(found, 5)] == ["b8"]
    assert [c.after.text for c in worst(found, 2)] == ["b8", "c8"]
    assert changes(run.path, "test", 8, ReadProblems()) == []


def test_rows_with_several_completions_count_with_their_mean_and_show_a_graded_one(tmp_path):
    run = make_run(
        tmp_path,
        validations={
            0: [sample(0, None, "x"), sample(0, 0.0, "y"), sample(0, 1.0, "z")],
            2: [sample(0, 0.75, "w")],
        },
        best_step=2,
    )
    (change,) = changes(run.path, "validation", 2, ReadProblems())
    assert (change.before_reward, change.gain, change.before.text) == (0.5, 0.25, "y")


def test_what_has_no_grade_is_counted_with_its_reasons(run):
    found = ungraded(run.path, 8, ReadProblems(), most=1)
    assert found.counts == {"failed": 2, "skipped": 0}
    assert found.reasons == [("raised: ValueError: no", 2)]
    assert [c.text for c in found.completions] == ["d0"]


def test_damaged_lines_are_left_out_and_said_and_a_line_being_written_is_not(run):
    file = run.path / "validation" / "step-000004.jsonl"
    file.write_bytes(
        b'{"row": 0, "id": \n[1]\n\xff\xfe\n' + file.read_bytes() + b'{"row": 0, "id": "line-1", "pro'
    )
    problems = ReadProblems()
    found = row_through_steps(run.path, "validation", "line-1", 8, problems)
    assert [c.step for c in found] == [0, 4, 8]
    problems = ReadProblems()
    changes(run.path, "validation", 4, problems)
    assert problems.texts == ["validation/step-000004.jsonl: 3 damaged lines left out"]
