"""The cache: a question is asked once, by any process; what is broken is asked again; nothing secret is in it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rft_cli.grading.judge.cache import cache_folder, question_key
from tests.grading.judge.conftest import OpenJudge
from tests.grading.judge.servers import (
    KEY,
    Act,
    JudgeServer,
    asks,
    label_spec,
    score_spec,
    verdict,
)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "cache").rglob("*.json"))


def test_a_question_is_asked_once(server: JudgeServer, judge: OpenJudge) -> None:
    server.acts = [Act(body=verdict(0.3)), Act(body=verdict(0.9))]
    first = judge(concurrency=1)
    assert [grade.reward for grade in first.grade(asks("a", "b"))] == [0.3, 0.9]
    again = judge()  # another session, as another job has
    assert [grade.reward for grade in again.grade(asks("b", "a", "b"))] == [0.9, 0.3, 0.9]
    assert len(server.seen) == 2
    assert again._session.usage.to_metrics()["judge_cache_hits"] == 3
    assert again._session.usage.to_metrics()["judge_requests"] == 0


def test_the_same_question_at_the_same_time_is_asked_once(server: JudgeServer, judge: OpenJudge) -> None:
    server.default = lambda _: Act(body=verdict(0.3), wait_s=0.1)
    grader = judge()
    assert [grade.reward for grade in grader.grade(asks(*"aaaaaa"))] == [0.3] * 6
    assert len(server.seen) == 1
    assert grader._session.usage.to_metrics()["judge_cache_hits"] == 5


def test_a_question_whose_asker_gave_up_is_asked_by_the_next(server: JudgeServer, judge: OpenJudge) -> None:
    server.acts = [Act(body=verdict(0.3), wait_s=30)]
    grader = judge()
    left = grader._start(asks("a")[0])
    deadline = time.monotonic() + 10
    while not server.seen and time.monotonic() < deadline:
        time.sleep(0.01)
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(grader.grade, asks("a"))
        assert not waiting.done()
        left.cancel()
        assert waiting.result(timeout=10)[0].reward == 0.5
    assert len(server.seen) == 2


def test_without_a_cache_every_question_is_asked(
    server: JudgeServer, judge: OpenJudge, tmp_path: Path
) -> None:
    judge(cache="none").grade(asks("a", "a"))
    assert len(server.seen) == 2
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    "other",
    [
        {"spec": score_spec(range=[0, 5])},
        {"spec": score_spec(sampling_params={"seed": 1})},
        {"spec": label_spec()},
        {"model": "other-model"},
    ],
)
def test_what_the_verdict_depends_on_is_part_of_the_question(
    server: JudgeServer, judge: OpenJudge, other: dict
) -> None:
    server.default = lambda body: Act(body=verdict("good" if "enum" in str(body) else 0.5))
    judge().grade(asks("a"))
    before = len(server.seen)
    spec = other.pop("spec", score_spec())
    judge(spec, **other).grade(asks("a"))
    assert len(server.seen) > before
    assert server.seen[-1]["messages"][-1]["content"].startswith("1+1?\na")


def test_another_endpoint_is_another_question(server: JudgeServer, judge: OpenJudge) -> None:
    judge().grade(asks("a"))
    judge(base_url=server.url.replace("127.0.0.1", "localhost")).grade(asks("a"))
    assert len(server.seen) == 2


def test_the_graders_name_is_not_part_of_the_question(server: JudgeServer, judge: OpenJudge) -> None:
    judge().grade(asks("a"))
    judge(score_spec(name="other")).grade(asks("a"))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"key": "other", "text": "x"}', "\xff", "[" * 50_000]
)
def test_a_broken_entry_is_as_good_as_none(
    server: JudgeServer, judge: OpenJudge, tmp_path: Path, content: str
) -> None:
    judge().grade(asks("a"))
    (entry,) = entries(tmp_path)
    whole = entry.read_text()
    entry.write_bytes(content.encode("latin-1"))
    assert judge().grade(asks("a"))[0].reward == 0.5
    assert len(server.seen) == 2
    assert entry.read_text() == whole


@pytest.mark.parametrize("change", [{"text": "no verdict"}, {"text": 3}, {"text": '{"result": NaN}'}])
def test_an_entry_without_a_verdict_is_asked_again(
    server: JudgeServer, judge: OpenJudge, tmp_path: Path, change: dict
) -> None:
    judge().grade(asks("a"))
    (entry,) = entries(tmp_path)
    entry.write_text(json.dumps({**json.loads(entry.read_text()), **change}))
    assert judge().grade(asks("a"))[0].reward == 0.5
    assert len(server.seen) == 2


def test_what_an_entry_holds(server: JudgeServer, judge: OpenJudge, tmp_path: Path) -> None:
    judge().grade(asks("a completion in private"))
    (entry,) = entries(tmp_path)
    content = json.loads(entry.read_text())
    assert set(content) == {"key", "text"}
    assert content["key"] == entry.stem
    assert json.loads(content["text"])["result"] == 0.5
    # Nobody else may read it, and neither question nor key is in it.
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert (
        stat.S_IMODE(entry.parent.stat().st_mode)
        == stat.S_IMODE((tmp_path / "cache").stat().st_mode)
        == 0o700
    )
    assert "private" not in entry.read_text()
    assert KEY not in entry.read_text()


def test_a_folder_that_vanishes_costs_no_grade(server: JudgeServer, judge: OpenJudge, tmp_path: Path) -> None:
    grader = judge()
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file")
    assert grader.grade(asks("a"))[0].reward == 0.5


def test_processes_share_a_folder(tmp_path: Path) -> None:
    """Four processes write and read 50 entries each beside one another: all are whole, and no draft is left."""
    program = f"""
from pathlib import Path
from rft_cli.grading.judge.cache import JudgeCache, question_key
cache = JudgeCache(Path({str(tmp_path)!r}) / "cache")
for number in range(50):
    key = question_key({{"number": number}})
    cache.write(key, "x" * 5000 + str(number))
    assert cache.read(key) == "x" * 5000 + str(number), number
"""
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 50
    assert all(path.suffix == ".json" for path in files)


def test_the_key_of_a_question_is_by_content() -> None:
    same = question_key({"a": 1, "b": [1.5, "ü"]})
    assert same == question_key({"b": [1.5, "ü"], "a": 1})
    assert len({same, question_key({"a": 1, "b": [1.5, "u"]}), question_key({"a": 1})}) == 3
    assert len(same) == 64


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder("none", {}) is None
    assert cache_folder("auto", {"XDG_CACHE_HOME": "/var/cache/me"}) == Path("/var/cache/me/rft/judge")
    assert cache_folder("auto", {"XDG_CACHE_HOME": "relative"}) == Path("/home/me/.cache/rft/judge")
    assert cache_folder("~/verdicts", {}) == Path("/home/me/verdicts")
