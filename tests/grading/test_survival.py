"""Ways in which a scorer misbehaves, each hidden among good grades: the good ones are right, the pool goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.pool import ScorerGrader, open_grader
from rft_cli.types import GradeRequest

SCORER = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path

PIDS = Path(__file__).parent / "pids"


def note(pid):
    with PIDS.open("a") as file:
        file.write(f"{pid}\\n")


def hang():
    while True:
        pass


def swallow():
    while True:
        try:
            hang()
        except BaseException:
            pass


def late():
    try:
        hang()
    except BaseException:
        return 1.0


def hang_in_c():
    ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the interpreter's lock


def lingering_child():
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    note(pid)
    return 0.25


def forked_twin():
    note(os.getpid())
    if os.fork() == 0:
        return 0.75  # comes back into the worker's loop
    return 0.25


def daemon():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    note(child.pid)
    return 0.25


def prints():
    print("to stdout")
    os.write(1, b"to descriptor 1\\n")
    os.write(2, b"to descriptor 2\\n")
    return 0.25


def recurse():
    return recurse()


def patch():
    import builtins
    builtins.float = lambda value: 999.0
    builtins.isinstance = lambda *a: True
    return 0.25


def close_streams():
    sys.stdout.close()
    sys.stderr = None
    return 0.25


def close_descriptors():
    os.closerange(3, 256)
    return 0.25


def move():
    os.chdir("/")
    return 0.25


def remove_folder():
    os.rmdir(os.getcwd())
    return 0.25


def deaf():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    hang()


def mute():
    signal.signal(signal.SIGALRM, lambda *a: None)
    signal.alarm(1000)
    return 0.25


EVIL = {
    "raise": lambda: 1 / 0,
    "system_exit": lambda: sys.exit(0),
    "keyboard_interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    "os_exit": lambda: os._exit(0),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang,
    "swallow": swallow,
    "late": late,
    "deaf": deaf,
    "hang_in_c": hang_in_c,
    "mute": mute,
    "lingering_child": lingering_child,
    "forked_twin": forked_twin,
    "daemon": daemon,
    "prints": prints,
    "read_stdin": input,
    "nan": lambda: float("nan"),
    "inf": lambda: float("-inf"),
    "string": lambda: "0.5",
    "none": lambda: None,
    "list": lambda: [1.0],
    "huge_int": lambda: 10**400,
    "complex": lambda: 1j,
    "no_reward": lambda: {"score": 1.0},
    "recursion": recurse,
    "chdir": move,
    "remove_folder": remove_folder,
    "patch_builtins": patch,
    "close_streams": close_streams,
    "close_descriptors": close_descriptors,
}


def score(completion, example):
    if completion in EVIL:
        return EVIL[completion]()
    assert os.listdir(".") == []  # its own empty folder, before each grade
    print("grading", completion)
    return {"reward": example["number"] / 1000, "length": len(completion)}
"""

EXPECTED: dict[str, str | float | None] = {
    "raise": "raised",
    "system_exit": "raised",
    "keyboard_interrupt": "raised",
    "os_exit": "died",
    "segfault": "died",
    "abort": "died",
    "kill": "died",
    "hang": "timeout",
    "swallow": "timeout",
    "late": "timeout",
    "deaf": "timeout",
    "hang_in_c": "timeout",
    "mute": 0.25,
    "lingering_child": 0.25,
    "forked_twin": 0.25,
    "daemon": 0.25,
    "prints": 0.25,
    "read_stdin": "raised",
    "nan": "bad_value",
    "inf": "bad_value",
    "string": "bad_value",
    "none": None,
    "list": "bad_value",
    "huge_int": "bad_value",
    "complex": "bad_value",
    "no_reward": "bad_value",
    "recursion": "raised",
    "chdir": 0.25,
    "remove_folder": 0.25,
    "patch_builtins": 0.25,
    "close_streams": 0.25,
    "close_descriptors": "died",
}
GOOD = 199
EVIL_AT = 77


@pytest.fixture(scope="module")
def grader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScorerGrader]:
    """One pool for all modes: each must leave it usable for the next."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / "scorer.py").write_text(SCORER)
    config = GraderConfig(path=str(folder / "scorer.py"), timeout_s=0.4, workers=2)
    with open_grader(config, log_path=folder / "logs" / "grader.log") as opened:
        yield opened


@pytest.mark.parametrize("mode", EXPECTED)
def test_one_evil_grade_among_good_ones(grader: ScorerGrader, mode: str) -> None:
    requests = [GradeRequest(f"good {i}", {"number": i}) for i in range(GOOD)]
    requests.insert(EVIL_AT, GradeRequest(mode, {"number": -1}))

    grades = grader.grade(requests)

    evil = grades.pop(EVIL_AT)
    assert [(g.status, g.reward, dict(g.components)) for g in grades] == [
        ("graded", i / 1000, {"length": float(len(f"good {i}"))}) for i in range(GOOD)
    ]
    expected = EXPECTED[mode]
    if isinstance(expected, str):
        assert evil.status == "failed"
        assert evil.reward is None
        assert evil.error is not None
        assert evil.error.kind == expected
    else:
        assert (evil.status, evil.reward) == ("skipped" if expected is None else "graded", expected)


def test_messages_name_the_place(grader: ScorerGrader) -> None:
    def message(mode: str) -> str:
        error = grader.grade([GradeRequest(mode, {"number": -1})])[0].error
        assert error is not None
        return error.message

    def line_of(text: str) -> int:
        return next(i for i, line in enumerate(SCORER.splitlines(), start=1) if text in line)

    path = grader.source.shown
    assert message("raise") == f"{path}:{line_of('1 / 0')}: ZeroDivisionError: division by zero"
    loop = line_of("def hang()") + 1  # "while True:" or the "pass" below it
    assert message("hang") in {
        f"{path}:{n}: no result after 0.4 s (grader.timeout_s)" for n in (loop, loop + 1)
    }
    assert (
        message("hang_in_c")
        == f"{path}:{line_of('sleep(1000)  #')}: no result after 0.4 s (grader.timeout_s)"
    )
    assert message("segfault") == f"{path}:{line_of('string_at')}: grading it ended the process (SIGSEGV)"
    assert message("os_exit") == f"{path}: grading it ended the process (exit code 0)"
    assert message("kill") == f"{path}: grading it ended the process (SIGKILL, perhaps out of memory)"
    assert message("string") == f"{path}: returned '0.5' (str), which is no number: convert it with float(…)"
    assert message("no_reward") == f"{path}: returned a dict without the key 'reward' (it has 'score')"


def test_prints_went_to_the_log(grader: ScorerGrader, capfd: pytest.CaptureFixture[str]) -> None:
    grader.grade([GradeRequest("prints", {"number": 1}), GradeRequest("hello", {"number": 1})])

    log = grader.log_path.read_text()
    assert "to stdout" in log
    assert "to descriptor 1" in log
    assert "to descriptor 2" in log
    assert "grading hello" in log
    assert capfd.readouterr() == ("", "")


def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text(SCORER)
    config = GraderConfig(path=str(tmp_path / "scorer.py"), timeout_s=0.4, workers=1)
    with open_grader(config, log_path=None) as grader:
        scratch = grader.log_path.parent
        modes = ("lingering_child", "daemon", "forked_twin")
        assert [g.reward for g in grader.grade([GradeRequest(mode, {}) for mode in modes])] == [0.25] * 3
        workers = [int(entry.name) for entry in scratch.iterdir() if entry.name.isdigit()]

    grader.close()  # a second time is no error
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()] + workers
    assert len(pids) == 4
    deadline = time.monotonic() + 5
    while any(_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if _running(pid)]
    assert not scratch.exists()


def _running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text(SCORER)
    program = f"""
import os, signal
from rft_cli.config.schema import GraderConfig
from rft_cli.grading.pool import open_grader
grader = open_grader(GraderConfig(path={str(tmp_path / "scorer.py")!r}), log_path=None)
print(*[e.name for e in grader.log_path.parent.iterdir() if e.name.isdigit()], grader.log_path.parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    import shutil
    import subprocess
    import sys

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    *pids, scratch = ended.stdout.split()
    assert ended.returncode == -9
    assert len(pids) == 1
    deadline = time.monotonic() + 5
    while _running(int(pids[0])) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _running(int(pids[0]))
    shutil.rmtree(scratch)
    assert os.path.exists(tmp_path)
