"""Ways in which a scorer misbehaves, each hidden among good grades: the good ones are right, the pool goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.types import GradeRequest
from tests.command import FULL
from tests.grading.evil import MODES, Mode, scorer, table

ROOT = Path(__file__).parents[2]
GOOD = 199
TIMEOUT_S = 0.4
FORKS_TIMEOUT_S = 1.0  # a fork waits for a core, too


@dataclass(frozen=True, slots=True)
class Opened:
    """A grader of the evil scorer. Every process that descends from it has `mark` in its environment."""

    grader: ScorerGrader
    mark: str


def open_evil(folder: Path, mark: str, workers: int, *, fresh: bool = False) -> ScorerGrader:
    (folder / "scorer.py").write_text(scorer())
    os.environ["RFT_TEST_MARK"] = mark
    try:
        timeout_s = FORKS_TIMEOUT_S if fresh else TIMEOUT_S
        path = str(folder / "scorer.py")
        config = GraderConfig(path=path, timeout_s=timeout_s, workers=workers, memory_mb=1024, fresh=fresh)
        grader = open_grader(config, log_path=folder / "logs" / "grader.log")
        grader.grade([GradeRequest("good", {"number": 1})])
    finally:
        del os.environ["RFT_TEST_MARK"]
    return grader


def marked(mark: str) -> list[int]:
    """Processes that were started with this mark. What they put into their environment later makes no difference.

    Python's resource tracker is the test's own: it lives as long as the process that first spawned something.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                alive = "\nState:\tZ" not in (entry / "status").read_text()
                alive = alive and b"resource_tracker" not in (entry / "cmdline").read_bytes()
                if alive and mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def gone(mark: str) -> bool:
    """Whether all marked processes end within five seconds."""
    deadline = time.monotonic() + 5
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not marked(mark)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """One pool for all modes: each must leave it usable for the next. At its end no process is left."""
    yield from one_pool(tmp_path_factory.mktemp("evil"), fresh=False)


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The same with `grader.fresh`."""
    yield from one_pool(tmp_path_factory.mktemp("fresh"), fresh=True)


def one_pool(folder: Path, *, fresh: bool) -> Iterator[Opened]:
    mark = uuid.uuid4().hex
    try:
        grader = open_evil(folder, mark, workers=2, fresh=fresh)
        with grader:
            yield Opened(grader, mark)
            assert marked(mark)
    finally:
        os.environ.pop("RFT_TEST_MARK", None)
    assert gone(mark)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_one_evil_grade_among_good_ones_in_forks(forking: Opened, mode: Mode) -> None:
    survives(forking, mode, good=GOOD if FULL else 40)


@pytest.mark.parametrize("mode", [m for m in MODES if not m.alone], ids=lambda mode: mode.name)
def test_one_evil_grade_among_good_ones(opened: Opened, mode: Mode) -> None:
    survives(opened, mode, good=GOOD)


def survives(opened: Opened, mode: Mode, good: int) -> None:
    evil_at = 2 * good // 5
    requests = [GradeRequest(f"good {i}", {"number": i}) for i in range(good)]
    requests.insert(evil_at, GradeRequest(mode.name, {"number": -1}))

    began = time.monotonic()
    grades = opened.grader.grade(requests)

    assert time.monotonic() - began < 2 * TIMEOUT_S + 8  # 4 where nothing else runs on the machine
    evil = grades.pop(evil_at)
    assert [(g.status, g.reward, dict(g.components)) for g in grades] == [
        ("graded", i / 1000, {"length": float(len(f"good {i}"))}) for i in range(good)
    ]
    if isinstance(mode.outcome, str):
        assert (evil.status, evil.reward) == ("failed", None)
        assert evil.error is not None
        assert evil.error.kind == mode.outcome
    else:
        assert (evil.status, evil.reward) == ("skipped" if mode.outcome is None else "graded", mode.outcome)


def test_a_slow_import_costs_no_grade(tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text("import time\ntime.sleep(1)\ndef score(text): return len(text)\n")
    config = GraderConfig(path=str(tmp_path / "scorer.py"), timeout_s=0.3, workers=2)
    with open_grader(config, log_path=None) as grader:
        assert [g.reward for g in grader.grade([GradeRequest("ab", {})] * 200)] == [2.0] * 200


def test_the_table_in_the_docs_is_this_one() -> None:
    assert len(MODES) >= 25
    assert table() in (ROOT / "docs" / "graders.md").read_text()


def test_messages_name_the_place(opened: Opened) -> None:
    grader = opened.grader

    def message(mode: str) -> str:
        error = grader.grade([GradeRequest(mode, {"number": -1})])[0].error
        assert error is not None
        return error.message

    def line_of(text: str) -> int:
        return next(i for i, line in enumerate(scorer().splitlines(), start=1) if text in line)

    path = grader.source.shown
    assert message("raise") == f"{path}:{line_of('1 / 0')}: ZeroDivisionError: division by zero"
    loop = line_of("def hang()") + 1  # "while True:" or the "pass" below it
    assert message("hang") in {
        f"{path}:{n}: no result after 0.4 s (grader.timeout_s)" for n in (loop, loop + 1)
    }
    assert (
        message("hang_in_c")
        == f"{path}:{line_of('PyDLL(None).sleep')}: no result after 0.4 s (grader.timeout_s)"
    )
    assert message("segfault") == f"{path}:{line_of('string_at')}: grading it ended the process (SIGSEGV)"
    assert message("os_exit") == f"{path}: grading it ended the process (exit code 0)"
    assert message("kill") == f"{path}: grading it ended the process (SIGKILL, perhaps out of memory)"
    assert message("string") == f"{path}: returned '0.5' (str), which is no number: convert it with float(…)"
    assert message("no_reward") == f"{path}: returned a dict without the key 'reward' (it has 'points')"


def test_prints_went_to_the_log(opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    grader = opened.grader
    grader.grade([GradeRequest("prints", {"number": 1}), GradeRequest("hello", {"number": 1})])

    log = grader.log_path.read_text()
    assert "to stdout" in log
    assert "to descriptor 1" in log
    assert "to descriptor 2" in log
    assert "grading hello" in log
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("modes", [["child", "twin"], ["daemon", "fork_daemon"], ["thread", "at_exit"]])
def test_nothing_is_left_after_close(tmp_path: Path, modes: list[str]) -> None:
    mark = uuid.uuid4().hex
    with open_evil(tmp_path, mark, workers=1) as grader:
        scratch = grader.job_folder
        grades = grader.grade([GradeRequest(mode, {"number": 1}) for mode in modes])
        assert [grade.reward for grade in grades] == [0.25] * len(modes)
        assert len(marked(mark)) >= (1 if "thread" in modes else 2)  # the worker, and what it left

    grader.close()  # a second time is no error
    assert gone(mark)
    assert not scratch.exists()


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text(scorer())
    program = f"""
import os, signal
from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
grader = open_grader(GraderConfig(path={str(tmp_path / "scorer.py")!r}), log_path=None)
print(grader.job_folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    mark = uuid.uuid4().hex
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "RFT_TEST_MARK": mark},
    )
    assert ended.returncode == -9
    assert gone(mark)
    shutil.rmtree(ended.stdout.strip())
