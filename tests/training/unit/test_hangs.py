"""When a job of several processes counts as hung, and who is to blame. Every tick stands for one second."""

from __future__ import annotations

from typing import Any

from rft_cli.training.distributed.effort import Work
from rft_cli.training.distributed.hangs import Hang, HangWatch

LIMIT = 45.0


class Clinic:
    """A watch over two processes, and what they send second by second."""

    def __init__(self, limit: float = LIMIT, grading: float = 0.0) -> None:
        self.watch = HangWatch.over(2, limit, grading)
        self.rows: list[dict[str, Any]] = [
            {"beats": 0, "phase": "updating", "where": "a.py:1 in f", "waits": False, "seen": ["sampling", "updating"]}
            for _ in range(2)
        ]  # fmt: skip

    def second(
        self,
        *moved: int,
        moving: tuple[int, ...] = (),
        silent: tuple[int, ...] = (),
        stopped: tuple[int, ...] = (),
        work: tuple[Work, Work] = (Work.COMPUTING, Work.COMPUTING),
    ) -> Hang | None:
        for rank, row in enumerate(self.rows):
            row["beats"] += rank in (*moved, *moving)
            if rank not in silent:
                self.watch.sign(rank, row)
        return self.watch.tick(1.0, lambda rank: rank in stopped, lambda rank: work[rank])

    def until_hung(self, most: int = 2000, **how: Any) -> tuple[Hang, int]:
        for second in range(1, most):
            hang = self.second(**how)
            if hang is not None:
                return hang, second
        raise AssertionError("it never counted as hung")


def test_a_job_that_gets_on_is_never_hung() -> None:
    clinic = Clinic()
    for second in range(300):
        assert clinic.second(second % 2) is None


def test_nobody_gets_on_and_the_one_that_does_not_wait_is_to_blame() -> None:
    clinic = Clinic()
    clinic.second(0, 1)
    clinic.rows[0]["waits"] = True
    assert clinic.until_hung() == (Hang(1, 46.0, False), 45)  # the tick of the first second counts


def test_one_that_waits_long_is_not_hung_while_the_other_works() -> None:
    clinic = Clinic()
    clinic.rows[0]["waits"] = True
    for _ in range(300):
        assert clinic.second(1) is None


def test_where_nobody_shows_that_it_waits_the_one_that_stopped_first_is_to_blame() -> None:
    clinic = Clinic()
    clinic.second(0, 1)
    for _ in range(3):
        clinic.second(0)
    assert clinic.until_hung()[0].rank == 1


def test_all_wait_for_one_another() -> None:
    clinic = Clinic()
    clinic.second(0, 1)
    clinic.rows[0]["waits"] = clinic.rows[1]["waits"] = True
    assert clinic.until_hung()[0].rank is None


def test_a_process_without_a_sign_of_life_is_to_blame_even_where_the_other_gets_on() -> None:
    clinic = Clinic()
    clinic.second(0, 1)
    assert clinic.until_hung(moving=(0,), silent=(1,)) == (Hang(1, 45.0 + 1, True), 45)


def test_a_phase_gets_five_times_what_it_once_took() -> None:
    clinic = Clinic()
    clinic.second(0, 1)
    for _ in range(30):
        assert clinic.second() is None
    clinic.second(0, 1)
    assert clinic.until_hung()[1] == 155  # 5 x 31 s, one second of it passed already


def test_the_first_time_of_a_phase_gets_ten_minutes() -> None:
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    clinic.second(0, 1)
    assert clinic.until_hung()[1] == 600
    # Seen before, though no step was made yet:
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "sampling"}
    clinic.second(0, 1)
    assert clinic.until_hung()[1] == 45


def test_nothing_is_excused_that_does_not_even_work() -> None:
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    clinic.rows[0]["waits"] = True
    clinic.second(1)
    hang, second = clinic.until_hung(work=(Work.IDLE, Work.IDLE))
    assert (hang.rank, hang.silent, second) == (1, False, 46)
    clinic = Clinic()
    hang, second = clinic.until_hung(silent=(0, 1), work=(Work.COMPUTING, Work.IDLE))  # before its first sign
    assert (hang.rank, hang.silent, second) == (1, True, 46)
    # Its scorer may wait for a server, and has a deadline of its own.
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "grading", "seen": []}
    clinic.second(0, 1)
    assert clinic.until_hung(work=(Work.IDLE, Work.IDLE))[1] == 600


def test_work_now_and_then_is_work() -> None:
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    for second in range(300):
        found = Work.IDLE if second % 40 else Work.COMPUTING
        assert clinic.second(work=(Work.IDLE, found)) is None


def test_a_model_that_comes_over_a_slow_line_is_no_hang() -> None:
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    clinic.rows[0]["waits"] = True
    for _ in range(5000):
        assert clinic.second(work=(Work.IDLE, Work.MOVING)) is None
    hang, seconds = clinic.until_hung(work=(Work.IDLE, Work.IDLE))
    assert (hang.rank, seconds) == (1, 46)


def test_a_limit_of_more_than_ten_minutes_holds_in_new_phases_too() -> None:
    clinic = Clinic(limit=7200.0)
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    clinic.second(0, 1)
    assert clinic.until_hung(9000)[1] == 7200
    clinic = Clinic(limit=7200.0)
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    clinic.second(0, 1)
    assert clinic.until_hung(9000, silent=(1,))[1] == 7200


def test_every_checkpoint_gets_ten_minutes_on_a_slow_drive_and_no_more_than_the_limit_when_idle() -> None:
    for seen in (["updating"], ["updating", "saving"]):
        for found, seconds in ((Work.COMPUTING, 600), (Work.IDLE, 45)):
            clinic = Clinic()
            clinic.rows[0] |= {"phase": "saving", "seen": seen}
            clinic.rows[1]["waits"] = True
            clinic.second(0, 1, work=(found, found))
            assert clinic.until_hung(work=(found, found))[1] == seconds


def test_a_resumed_job_validates_for_the_first_time_behind_many_steps() -> None:
    clinic = Clinic()
    for row in clinic.rows:
        row["phase"] = "validating"
    clinic.second(0, 1)
    assert clinic.until_hung()[1] == 600


def test_a_stopped_process_has_no_excuse_while_it_loads() -> None:
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    clinic.second(0, 1)
    assert clinic.until_hung(silent=(1,), stopped=(1,))[1] == 45
    clinic = Clinic()
    for row in clinic.rows:
        row |= {"phase": "loading", "seen": []}
    clinic.second(0, 1)
    hang, second = clinic.until_hung(silent=(1,))
    assert (hang.rank, hang.silent, second) == (1, True, 600)


def test_a_silent_process_is_to_blame_when_the_job_stands_still() -> None:
    clinic = Clinic()
    clinic.watch.limit_s = 10.0
    for row in clinic.rows:
        row |= {"phase": "sampling"}
    clinic.second(0, 1)
    hang, second = clinic.until_hung(silent=(1,))
    assert (hang.rank, hang.silent, second) == (1, True, 10)


def test_grading_has_deadlines_of_its_own() -> None:
    clinic = Clinic(grading=120.0)
    for row in clinic.rows:
        row |= {"phase": "grading", "seen": ["grading"]}
    clinic.second(0, 1)
    assert clinic.until_hung()[1] == 165


def test_a_parent_that_was_stopped_itself_has_seen_nothing() -> None:
    clinic = Clinic()
    clinic.second(0, 1)
    assert clinic.watch.tick(3600.0) is None


def test_who_has_left_is_not_waited_for() -> None:
    clinic = Clinic()
    clinic.watch.leave(1)
    for _ in range(100):
        assert clinic.second(0) is None
    clinic.watch.leave(0)
    clinic.watch.leave(0)
    assert clinic.watch.tick(1.0) is None
    clinic.watch.sign(0, clinic.rows[0])
    assert clinic.watch.patients == {}
