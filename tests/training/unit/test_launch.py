"""What a parent makes of its training processes: real ones, that do no more than talk and end as they are told."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from rft_cli.errors import Interrupted, RunFailed, UsageError
from rft_cli.events import Event, Finished, Note
from rft_cli.runs import Run
from rft_cli.stopping import Stop
from rft_cli.training.distributed import launch
from rft_cli.training.distributed.ranks import environment, started

PRELUDE = """
import faulthandler, os, signal, sys, time
faulthandler.register(signal.SIGUSR2)
from rft_cli.errors import Interrupted, RunFailed, UsageError
from rft_cli.events import Finished, Note
from rft_cli.training.distributed.channel import SOCKET, Reporter
rank, asked = int(os.environ["RANK"]), []
parent = Reporter(int(os.environ[SOCKET]), rank, asked.append)
def end(word=None):
    parent.error(word) if word else parent.goodbye()
    sys.exit(1 if word else 0)
def time_out():
    end(RuntimeError("[a.cc:78] Timed out waiting 2000ms for recv operation to complete"))
"""
WAITED = r"the training processes waited 60 s for one another \(distributed.collective_timeout_s\)"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE_S", 1.5)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "launch.log"


def follow(
    log: Path, first: str, second: str, *, limit: float = 60.0, stop: Stop | None = None
) -> tuple[dict[str, Any], list[Event]]:
    """Process 0 runs `first`, process 1 `second`; the result and the events."""
    heard: list[Event] = []
    script = f"{PRELUDE}\nexec({[first, second]!r}[rank])"
    with log.open("ab") as output:
        with started(["-c", script], 2, output) as ranks:
            supervisor = launch.Supervisor(Run(Path("runs/job")), ranks, heard.append, limit, log)
            result = supervisor.wait(stop or Stop())
        assert [ranks.ended(rank) is None for rank in range(2)] == [False, False]
    return result, heard


def test_events_and_the_result_come_through(log: Path) -> None:
    first = "parent.event(Note('hello')); parent.event(Finished({'status': 'done'})); end()"
    assert follow(log, first, "end()") == (
        {"status": "done"},
        [Note("hello"), Finished({"status": "done"})],
    )


def test_the_cause_counts_and_not_what_follows_from_it(log: Path) -> None:
    lost = "end(RuntimeError('Connection closed by peer'))"
    with pytest.raises(RunFailed) as caught:
        follow(log, lost, "time.sleep(0.5); end(ZeroDivisionError('by zero'))")
    assert caught.value.message == "process 1 raised ZeroDivisionError: by zero"
    assert caught.value.fix == f"its last output is in {log}; resume with: rft train --resume runs/job"
    with pytest.raises(RunFailed, match="process 0 raised RuntimeError: Connection closed by peer"):
        follow(log, lost, "end()")


def test_the_first_of_two_causes_counts(log: Path) -> None:
    with pytest.raises(UsageError, match="early"):
        follow(log, "time.sleep(0.7); end(RunFailed('late'))", "end(UsageError('early'))")


def test_a_death_without_a_word_is_the_cause(log: Path) -> None:
    lost = "time.sleep(0.5); end(RuntimeError('Connection closed by peer'))"
    with pytest.raises(RunFailed, match=r"process 1 of 2 \(pid \d+\) was killed by SIGKILL") as caught:
        follow(log, lost, "os.kill(os.getpid(), 9)")
    assert str(caught.value.fix).startswith("memory may have run out (see dmesg); its last output is in")
    with pytest.raises(RunFailed, match=r"process 1 of 2 \(pid \d+\) was killed by SIGSEGV"):
        follow(log, lost, "os.kill(os.getpid(), 11)")
    with pytest.raises(
        RunFailed, match=r"process 0 of 2 \(pid \d+\) ended before its work was done \(exit code 7\)"
    ):
        follow(log, "os._exit(7)", lost)
    with pytest.raises(RunFailed, match="was killed by SIGABRT") as caught:
        follow(log, "os.abort()", "time.sleep(60)")
    assert str(caught.value.fix).startswith("NCCL ends a process so after waiting 60 s for another; its last")


def test_the_others_are_ended_after_a_failure(log: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RunFailed, match="no more judges"):
        follow(log, "end(RunFailed('no more judges', 'pay'))", "time.sleep(60)")
    assert time.monotonic() - began < 15


def test_who_hangs_after_its_goodbye_keeps_nobody_from_the_result(log: Path) -> None:
    first = "parent.event(Finished({'status': 'done'})); parent.goodbye(); time.sleep(60)"
    assert follow(log, first, "end()")[0] == {"status": "done"}


def test_an_end_without_a_result_is_a_failure(log: Path) -> None:
    with pytest.raises(RunFailed, match="the training processes ended without a result"):
        follow(log, "end()", "end()")


@pytest.mark.parametrize(
    ("asleep", "said"),
    [
        ("time.sleep(60)", ""),
        ("os.kill(os.getpid(), signal.SIGSTOP); time.sleep(60)", r", it was stopped \(SIGSTOP\)"),
    ],
)
def test_who_does_not_answer_is_named_and_its_stack_kept(log: Path, asleep: str, said: str) -> None:
    with pytest.raises(RunFailed) as caught:
        follow(log, "time.sleep(0.5); time_out()", f"def nap(): {asleep}\nnap()")
    assert re.fullmatch(rf"{WAITED}; process 1 of 2 \(pid \d+\) did not answer{said}", caught.value.message)
    assert caught.value.fix == f"the stack of each is in {log}; resume with: rft train --resume runs/job"
    assert re.search(r"process 1 \(pid \d+\) is at:\n(.*\n)+.*line 1 in nap\n", log.read_text())


def test_nobody_is_named_where_each_waited_for_another(log: Path) -> None:
    with pytest.raises(RunFailed, match=f"^{WAITED}$"):
        follow(log, "time_out()", "end(RuntimeError('Connection closed by peer'))")


def test_an_error_of_its_own_counts_and_not_that_others_waited(log: Path) -> None:
    with pytest.raises(RunFailed, match="process 1 raised ZeroDivisionError: by zero"):
        follow(log, "time_out()", "time.sleep(0.5); end(ZeroDivisionError('by zero'))")


def test_who_sleeps_while_the_others_are_done_is_waited_for_as_long(log: Path) -> None:
    waited = WAITED.replace("60 s", "2 s")
    with pytest.raises(RunFailed, match=rf"{waited}; process 1 of 2 \(pid \d+\) did not answer$"):
        follow(log, "end()", "time.sleep(60)", limit=2)
    first = "parent.event(Finished({'status': 'done'})); end()"
    assert follow(log, first, "time.sleep(60)", limit=2)[0] == {"status": "done"}


def test_a_stop_reaches_all_and_comes_back_as_their_interruption(log: Path) -> None:
    stop = Stop()
    stop.note(15)
    wait = "while not asked: time.sleep(0.05)\nend(Interrupted(asked[0], 'stopped'))"
    with pytest.raises(Interrupted) as caught:
        follow(log, wait, f"{wait}", stop=stop)
    assert caught.value.exit_code == 143
    # A job that is done by then is done; a failure on the way is a failure.
    first = "while not asked: time.sleep(0.05)\nparent.event(Finished({'status': 'done'})); end()"
    assert follow(log, first, "end()", stop=stop)[0] == {"status": "done"}
    with pytest.raises(RunFailed, match="the disk is full"):
        follow(log, "end(RunFailed('the disk is full'))", wait, stop=stop)


def test_a_further_signal_ends_all_at_once(log: Path) -> None:
    class Impatient(Stop):
        number: Any = property(lambda self: (_ for _ in ()).throw(KeyboardInterrupt))  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        follow(log, "time.sleep(60)", "time.sleep(60)", stop=Impatient())


def test_no_process_is_left_behind(log: Path) -> None:
    with (
        log.open("ab") as output,
        started(["-c", "import time; time.sleep(60)"], 2, output) as ranks,
    ):
        pids = [ranks.pid(rank) for rank in range(len(ranks))]
        assert ranks.ended(0) is None
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_environment_of_a_process() -> None:
    made = environment(1, 4, 4711)
    assert {k: made[k] for k in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")} == {
        "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4711",
    }  # fmt: skip
    assert made["RFT_INTERNAL_PARENT"] == str(os.getpid())
    assert launch.command(Run(Path("runs/job")), resume=False) == [
        "-m",
        "rft_cli.training.rank_main",
        "runs/job",
    ]
    assert launch.command(Run(Path("runs/job")), resume=True)[-1] == "--resume"


def test_nobody_is_stopped_where_there_is_nobody(log: Path) -> None:
    with log.open("ab") as output, started(["-c", ""], 1, output) as ranks:
        ranks._children[0].wait()
        ranks.dump(0)
    assert not ranks.is_stopped(0)


def test_errors_of_a_group_are_agreed_on(tmp_path: Path) -> None:
    """Two processes: nothing fails; one fails; what it raises is raised in both."""
    script = f"""
import json, os, sys
from rft_cli.training.distributed import group
from rft_cli.errors import RunFailed, UsageError
rank = int(os.environ["RANK"])
assert group.agreed(lambda: "alone") == "alone"
state = group.join(30)
assert group.join(30).process_index == state.process_index
said = [group.agreed(lambda: rank)]
def fail():
    if rank == 1: raise UsageError("the scorer is gone", "look")
try: group.agreed(fail)
except UsageError as error: said.append([error.message, error.fix])
def both(): raise ValueError(f"of {{rank}}")
for work in (both, lambda: (_ for _ in ()).throw(RunFailed("x"))):
    try: group.agreed(work)
    except Exception as error: said.append(str(error))
group.leave(); group.leave()
json.dump(said, open(f"{tmp_path}/{{rank}}", "w"))
"""
    with (tmp_path / "log").open("ab") as output, started(["-c", script], 2, output) as ranks:
        codes = [child.wait(120) for child in ranks._children]
    assert codes == [0, 0], (tmp_path / "log").read_text()
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in (0, 1)]
    assert found[0][:2] == [0, ["the scorer is gone", "look"]]
    assert found[1][:2] == [1, ["the scorer is gone", "look"]]
    assert (found[0][2], found[1][2]) == ("of 0", "of 1")
