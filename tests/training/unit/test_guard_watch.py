"""What a validation's guard leads to: warn, choose, stop."""

import pytest

from rft_cli.events import Note
from rft_cli.training.hooks.guard_watch import GuardWatch
from tests.report.test_guard import BASE, FOOLED, guarded
from tests.view.made_runs import make_run


@pytest.fixture
def watched(tmp_path):
    """A watch of a run with this action, which has seen the base, and what it emits."""

    def make(action, watches=True):
        notes: list[Note] = []
        run = make_run(tmp_path, action + str(watches), finish=False)
        watch = GuardWatch(run, action, watches, notes.append)
        assert not watch.warn(0, BASE)
        return watch, notes

    return make


def test_warn_says_so_and_changes_nothing(watched):
    watch, notes = watched("warn")
    assert not watch.excludes(8, FOOLED)
    assert not watch.warn(8, FOOLED)
    [note] = notes
    assert (note.level, note.step, note.tripwire) == ("warning", 8, "guard")
    assert "the guard fell by 0.550" in note.text
    assert watch.figures(FOOLED)[0] == pytest.approx(0.25)


def test_choose_keeps_the_step_from_being_the_best_one(watched):
    watch, notes = watched("choose")
    assert watch.excludes(8, FOOLED)
    assert not watch.warn(8, FOOLED)
    assert not watch.excludes(16, guarded([1.0] * 6, [0.8] * 6))
    assert len(notes) == 1


def test_stop_ends_the_job_and_names_what_can_be_kept(watched):
    watch, _ = watched("stop")
    assert watch.excludes(8, FOOLED)
    assert watch.warn(8, FOOLED)
    assert "rft export" in watch.end(8, 4).fix
    assert "no checkpoint before that is better than the base" in watch.end(8, 0).fix
    assert "--set grader.on_guard_drop=warn --force" in watch.end(8, 4).fix


def test_a_resumed_run_reads_its_base(watched):
    watch, _ = watched("choose")
    watch._run.write_samples("step-000000", BASE)
    again = GuardWatch(watch._run, "choose", True, lambda note: None)
    again.begin()
    assert again.excludes(8, FOOLED)


def test_without_a_guard_nothing_is_looked_at(watched):
    watch, notes = watched("stop", watches=False)
    assert watch.figures(FOOLED) is None
    assert not watch.excludes(8, FOOLED)
    assert not watch.warn(8, FOOLED)
    assert notes == []
