"""Order, chunks, seeds, isolation of data and environment, streaming, and what holds when the pool itself breaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import RunFailed
from rft_cli.grading.isolation.process import secret_names
from rft_cli.grading.open import open_grader
from rft_cli.grading.pool.scorer_grader import ScorerGrader, worker_count
from rft_cli.types import GradeRequest

NUMBERS = [GradeRequest(str(i), {"n": i}) for i in range(300)]


def open_(path: str, **settings: Any) -> ScorerGrader:
    return open_grader(GraderConfig(path=path, **{"workers": 1, **settings}), log_path=None)


def keeping(path: str, printed: list[tuple[int, str]]) -> ScorerGrader:
    """One worker; what the scorer prints is added to `printed`, with the place of its completion."""
    config = GraderConfig(path=path, workers=1)
    return open_grader(config, log_path=None, on_output=lambda place, text: printed.append((place, text)))


def rewards(grader: ScorerGrader, requests: list[GradeRequest]) -> list[float | None]:
    return [grade.reward for grade in grader.grade(requests)]


def test_order_over_workers_with_uneven_times(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import time
        def score(completion, example):
            if example["n"] % 50 == 0:
                time.sleep(0.05)
            return example["n"]
        """
    )
    with open_(path, workers=3) as grader:
        assert rewards(grader, NUMBERS) == [float(i) for i in range(300)]
        assert grader.grade([]) == []
        assert grader.stats.total == 300
        assert grader.signature == "score(completion, example)"


def test_slow_chunks_are_shared_among_workers(write_scorer: Any) -> None:
    path = write_scorer("import time\ndef score(completion):\n    time.sleep(0.3)\n    return 1\n")
    with open_(path, workers=4, timeout_s=0.6) as grader:
        grader.grade(NUMBERS[:4])
        started = time.monotonic()
        assert rewards(grader, NUMBERS[:16]) == [1.0] * 16  # 4.8 s for one worker
        assert time.monotonic() - started < 3.0


def test_random_numbers_are_seeded_by_place(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import os, random
        import numpy
        def score(completion):
            if completion == "die": os._exit(1)
            return {"reward": random.random(), "numpy": numpy.random.rand()}
        """
    )
    config = GraderConfig(path=path, workers=2)
    with open_grader(config, log_path=None, seed=3) as grader:
        first = grader.grade(NUMBERS[:40])
        again = grader.grade([*NUMBERS[:20], GradeRequest("die", {}), *NUMBERS[21:40]])
    with open_grader(config, log_path=None, seed=4) as grader:
        other = grader.grade(NUMBERS[:40])
    assert len({grade.reward for grade in first}) == 40
    assert len({grade.components["numpy"] for grade in first}) == 40
    assert again[20].status == "failed"
    assert [(g.reward, g.components) for i, g in enumerate(again) if i != 20] == [
        (g.reward, g.components) for i, g in enumerate(first) if i != 20
    ]
    assert not {grade.reward for grade in first} & {grade.reward for grade in other}


def test_a_scorer_may_change_its_row(write_scorer: Any) -> None:
    path = write_scorer(
        "def score(completion, example):\n    return example.pop('n') + len(example['list'].pop())\n"
    )
    row = {"n": 2, "list": ["four"]}
    with open_(path) as grader:
        assert rewards(grader, [GradeRequest("", row) for _ in range(8)]) == [6.0] * 8
    assert row == {"n": 2, "list": ["four"]}


def test_values_arrive_unchanged(write_scorer: Any) -> None:
    row = {
        "zip": "007",
        "big": 10**30,
        "float": 1.0,
        "none": None,
        "half": "\ud800",
        "deep": {"a": [1, True]},
    }
    path = write_scorer(
        f"""
        def score(completion, example, metadata):
            return example == {row!r} and type(example["float"]) is float and completion == "\\udfff\\0" \\
                and metadata == {{"truncated": True}}
        """
    )
    with open_(path) as grader:
        assert rewards(grader, [GradeRequest("\udfff\0", row, {"truncated": True})]) == [1.0]


def test_secrets_are_withheld_unless_allowed(write_scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "hidden")
    monkeypatch.setenv("HF_TOKEN", "hidden")
    monkeypatch.setenv("JUDGE_SECRET", "shown")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    path = write_scorer(
        """
        import os, subprocess, sys
        AT_IMPORT = dict(os.environ)
        SHOW = "import os; print(dict(os.environ))"
        def score(completion):
            child = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True).stdout
            seen = str(AT_IMPORT) + str(os.environ) + child
            return {"reward": 0, "hidden": "hidden" in seen, "judge": "shown" in seen,
                    "other": "TOKENIZERS_PARALLELISM" in seen}
        def needs(completion):
            return os.environ["MY_API_KEY"]
        """
    )
    with open_(path, env=["JUDGE_SECRET"]) as grader:
        components = grader.grade(NUMBERS[:1])[0].components
    assert components == {"hidden": 0.0, "judge": 1.0, "other": 1.0}
    with open_(f"{path}:needs") as grader:
        error = grader.grade(NUMBERS[:1])[0].error
    assert error is not None
    assert error.message.endswith(
        "KeyError: 'MY_API_KEY' "
        "(MY_API_KEY is withheld from scorers: allow it with --grader-env MY_API_KEY, or grader.env)"
    )


def test_what_looks_like_a_secret() -> None:
    secret = [
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "aws_secret_access_key",
        "DB_PASSWORD",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "SIGNING_KEY",
        "MYSQL_PWD",
        "AZURE_STORAGE_CONNECTION_STRING",
    ]
    plain = ["PATH", "HOME", "PWD", "TOKENIZERS_PARALLELISM", "KEYBOARD", "LANG", "SSH_AUTH_SOCK"]
    assert secret_names([*secret, *plain], []) == secret
    assert secret_names(["MYJUDGE", "LANG"], [], known=["MYJUDGE"]) == ["MYJUDGE"]
    assert secret_names(["MYJUDGE"], ["MYJUDGE"], known=["MYJUDGE"]) == []
    assert secret_names(secret, ["HF_TOKEN", "DB_PASSWORD"]) == [secret[1], secret[2], *secret[4:]]


def test_memory_limit(write_scorer: Any) -> None:
    path = write_scorer(
        "def score(completion):\n    return len(bytearray(int(completion) * 2**20)) / 2**20\n"
    )
    with open_(path, memory_mb=1024) as grader:
        grades = grader.grade([GradeRequest(n, {}) for n in ("1", "4096", "2")])
    assert [grade.reward for grade in grades] == [1.0, None, 2.0]
    assert grades[1].error is not None
    assert (grades[1].error.kind, grades[1].error.message) == ("raised", f"{path}:2: MemoryError")


def test_workers_load_neither_torch_nor_the_main_module(write_scorer: Any, tmp_path: Path) -> None:
    path = write_scorer(
        """
        import sys
        def score(completion):
            heavy = {"torch", "typer", "rich", "pydantic", "yaml", "numpy", "rft_cli.cli", "rft_cli.config"}
            return {"reward": 0, **{name: 1 for name in heavy & set(sys.modules)}}
        """
    )
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys
from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
from rft_cli.types import GradeRequest
with open_grader(GraderConfig(path={path!r}), log_path=None) as grader:  # no "if __name__" guard
    print(dict(grader.grade([GradeRequest("", {{}})])[0].components))
print(sorted({{"torch", "typer", "rich"}} & set(sys.modules)))
"""
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(root)},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "{}\n[]\n", "")


def test_an_async_scorer_outlives_a_timeout(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import asyncio
        async def score(completion):
            await asyncio.sleep(30 if completion == "slow" else 0)
            return 1
        """
    )
    with open_(path, timeout_s=0.3) as grader:
        grades = grader.grade([GradeRequest(text, {}) for text in ("a", "slow", "b")])
    assert [grade.reward for grade in grades] == [1.0, None, 1.0]
    assert grades[1].error is not None
    assert grades[1].error.kind == "timeout"


def test_stream_is_bounded_and_live(write_scorer: Any) -> None:
    path = write_scorer("def score(completion, example): return example['n']\n")
    read = 0

    def requests() -> Iterator[GradeRequest]:
        nonlocal read
        for read in range(1, 10_001):
            yield GradeRequest("", {"n": read})

    with open_(path) as grader:
        seen: list[float | None] = []
        for burst in grader.stream(requests()):
            seen += [grade.reward for grade in burst]
            assert read - len(seen) <= 4 * 64
    assert seen == [float(n) for n in range(1, 10_001)]


def test_slow_input_does_not_hold_grades_back(write_scorer: Any) -> None:
    path = write_scorer("def score(completion): return 1\n")
    gave, got = [], []

    def requests() -> Iterator[GradeRequest]:
        for i in range(6):
            gave.append(i)
            yield GradeRequest("", {})
            time.sleep(0.25)

    with open_(path) as grader:
        for burst in grader.stream(requests()):
            got.extend(burst)
            assert len(gave) - len(got) <= 3
    assert len(got) == 6


def test_a_worker_that_dies_between_calls_costs_no_grade(write_scorer: Any) -> None:
    path = write_scorer("import os\ndef score(completion): return os.getpid()\n")
    with open_(path) as grader:
        (first,) = rewards(grader, NUMBERS[:1])
        assert first is not None
        os.kill(int(first), signal.SIGKILL)
        later = rewards(grader, NUMBERS[:100])
    assert set(later).isdisjoint({first, None})


def test_workers_that_never_load_again_end_the_run(write_scorer: Any, tmp_path: Path) -> None:
    path = write_scorer(
        f"""
        import os
        if os.path.exists({str(tmp_path / "once")!r}): os._exit(1)
        open({str(tmp_path / "once")!r}, "w").close()
        def score(completion): os._exit(1) if completion == "die" else None
        """
    )
    with open_(path) as grader, pytest.raises(RunFailed, match="worker processes can't be kept alive"):
        grader.grade([GradeRequest("die", {}), GradeRequest("a", {})])


def test_exactly_the_completion_that_ends_its_worker_fails(write_scorer: Any) -> None:
    """Also in the middle of a long chunk, and each is graded once but for those that the lost worker had."""
    path = write_scorer(
        """
        import os
        def score(completion, example):
            if example["n"] in (0, 150, 151, 299): os._exit(7)
            return example["n"]
        """
    )
    with open_(path, workers=2) as grader:
        grader.grade(NUMBERS[1:100])
        grades = grader.grade(NUMBERS)
    bad = {0, 150, 151, 299}
    assert [grade.reward for grade in grades] == [None if i in bad else float(i) for i in range(300)]
    assert {grades[i].error and grades[i].error.kind for i in bad} == {"died"}


def test_an_abandoned_stream_does_not_disturb_the_next_call(write_scorer: Any) -> None:
    path = write_scorer("def score(completion, example): return example['n']\n")
    with open_(path) as grader:
        stream = grader.stream(NUMBERS)
        next(stream)
        assert rewards(grader, NUMBERS[::-1]) == [float(i) for i in range(299, -1, -1)]
        assert [grade.reward for burst in stream for grade in burst][-1] == 299.0


def test_an_unclosed_grader_leaves_nothing(write_scorer: Any, tmp_path: Path) -> None:
    path = write_scorer("def score(completion): return 1\n")
    program = f"""
from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
grader = open_grader(GraderConfig(path={path!r}), log_path=None)
print(grader.log_path.parent)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert not Path(ended.stdout.strip()).exists()


def test_a_given_worker_count_is_kept() -> None:
    assert worker_count(GraderConfig(workers=3)) == 3


def test_worker_count_follows_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for cores in (1, 2, 5, 64):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, cores=cores: set(range(cores)))
        counts.append(worker_count(GraderConfig()))
    assert counts == [1, 1, 4, 8]


def test_a_scorer_may_keep_state(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import os
        calls, model, seen = 0, None, {}
        class Model:
            score = staticmethod(len)
        def score(completion):
            global calls, model
            import colorsys, wave
            calls += 1
            os.environ["SCORER_IS_READY"] = "yes"
            model = model or Model()
            seen[completion] = model.score(completion)
            return {"reward": calls, "pid": os.getpid(), "seen": len(seen)}
        """
    )
    with open_grader(GraderConfig(path=path, workers=1), log_path=None) as grader:
        grades = grader.grade([GradeRequest(f"{i}", {}) for i in range(300)])
    assert [grade.reward for grade in grades] == list(range(1, 301))
    assert len({grade.components["pid"] for grade in grades}) == 1
    assert grades[-1].components["seen"] == 300


def test_fresh_grades_see_nothing_of_each_other(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import json, os
        calls = 0
        def score(completion):
            global calls
            calls += 1
            print("call", calls)
            json.dumps = lambda value: "999"
            if completion == "die": os._exit(3)
            return {"reward": calls, "pid": os.getpid(), "same": json.dumps(1) == "999"}
        """
    )
    printed: list[tuple[int, str]] = []
    config = GraderConfig(path=path, workers=1, fresh=True)
    tell = lambda place, text: printed.append((place, text))  # noqa: E731
    with open_grader(config, log_path=None, on_output=tell) as grader:
        grades = grader.grade([GradeRequest("die" if i == 7 else "a", {}) for i in range(20)])
    assert [grade.reward for grade in grades] == [None if i == 7 else 1.0 for i in range(20)]
    assert len({grade.components["pid"] for i, grade in enumerate(grades) if i != 7}) == 19
    assert printed == [(i, "call 1\n") for i in range(20)]
    assert grades[7].error is not None
    assert grades[7].error.message == f"{path}: grading it ended the process (exit code 3)"


@pytest.mark.parametrize(
    "source",
    ["async def score(text): return len(text)", "def score_batch(completions): return [len(completions)]"],
)
def test_every_form_of_a_scorer_may_be_fresh(write_scorer: Any, source: str) -> None:
    with open_(write_scorer(source), fresh=True) as grader:
        assert rewards(grader, [GradeRequest("a", {})] * 3) == [1.0] * 3


def test_what_changes_state_is_not_noticed_in_shared_mode(write_scorer: Any) -> None:
    """docs/graders.md says so: a scorer that does this needs `grader.fresh`. Built-ins are put back."""
    path = write_scorer(
        """
        import builtins, json
        def score(completion):
            if completion == "patch":
                json.dumps = lambda value: "999"
                builtins.len = lambda value: 999
            return len(json.dumps(1))
        """
    )
    requests = [GradeRequest("patch" if i == 1 else "a", {}) for i in range(4)]
    for fresh, expected in ((False, [1.0, 999.0, 3.0, 3.0]), (True, [1.0, 999.0, 1.0, 1.0])):
        with open_(path, fresh=fresh) as grader:
            assert rewards(grader, requests) == expected


def test_a_scorer_may_use_multiprocessing(write_scorer: Any) -> None:
    path = write_scorer(
        """
        from multiprocessing import shared_memory
        def score(completion):
            block = shared_memory.SharedMemory(create=True, size=8)
            try:
                block.buf[0] = 7
                return block.buf[0]
            finally:
                block.close()
                block.unlink()
        """
    )
    with open_grader(GraderConfig(path=path, workers=1), log_path=None) as grader:
        assert [grade.reward for grade in grader.grade([GradeRequest("a", {})] * 3)] == [7.0] * 3


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("limits", ["none", "openai"])
def test_a_scorer_may_start_processes(write_scorer: Any, method: str, limits: Any) -> None:
    """The child imports the scorer's module by name: its own functions and classes, and __file__, are there."""
    path = write_scorer(
        f"""
        import multiprocessing, os
        class Half:
            def __init__(self, value):
                self.value = value / 2
        def half(value):
            return Half(value if os.path.basename(__file__) == "scorer.py" else 99)
        def grade(sample, item):
            with multiprocessing.get_context("{method}").Pool(1) as pool:
                (made,) = pool.map(half, [len(sample["output_text"])])
            return made.value
        """
    )
    config = GraderConfig(path=path, workers=1, limits=limits, timeout_s=20)
    with open_grader(config, log_path=None) as grader:
        # A later edit of the file is not what a child runs.
        Path(path).write_text("raise SystemExit")
        assert [grade.reward for grade in grader.grade([GradeRequest("abc", {})])] == [1.5]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "for n in range(3, 64):\n            try: os.write(n, b'garbage' * 9)\n            except OSError: pass",
            "broke or garbled the pipe by which it answers, so rft ended the process",
        ),
        ("os.closerange(3, 64)", "broke or garbled the pipe by which it answers, so rft ended the process"),
        ("os.kill(os.getpid(), 19)", "stopped the process (SIGSTOP), so rft ended it"),
        ("os.kill(os.getpid(), 9)", "ended the process (SIGKILL, perhaps out of memory)"),
        ("os._exit(3)", "ended the process (exit code 3)"),
    ],
)
def test_who_ended_the_process_is_told(write_scorer: Any, source: str, told: str) -> None:
    path = write_scorer(
        f"import os\ndef score(completion):\n    if completion:\n        {source}\n    return 1\n"
    )
    with open_grader(GraderConfig(path=path, workers=1), log_path=None) as grader:
        before, bad, after = grader.grade([GradeRequest(text, {}) for text in ("", "x", "")])
    assert (before.reward, after.reward) == (1.0, 1.0)
    assert bad.error is not None
    assert (bad.error.kind, bad.error.message.split(": ", 1)[1]) == ("died", f"grading it {told}")


def test_a_descriptor_that_a_scorer_closed_is_taken_from_again(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import os
        def score(completion):
            print(completion)
            if completion == "one": os.close(1)
            return 1
        """
    )
    printed: list[tuple[int, str]] = []
    with keeping(path, printed) as grader:
        grader.grade([GradeRequest(text, {}) for text in ("zero", "one", "two", "three")])
    assert printed == [(0, "zero\n"), (1, "one\n"), (2, "two\n"), (3, "three\n")]


def test_what_a_thread_prints_between_calls_comes_with_the_next_grade(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import threading
        def score(completion):
            if completion == "later":
                threading.Timer(0.3, print, ["from a thread"]).start()
            elif completion == "nul":
                print(chr(0) * 100 + "x")
            return 1
        """
    )
    printed: list[tuple[int, str]] = []
    with keeping(path, printed) as grader:
        grader.grade([GradeRequest("later", {})])
        time.sleep(0.8)
        assert printed == []
        grader.grade([GradeRequest("next", {})])
        grader.grade([GradeRequest("nul", {})])
    assert printed == [(0, "from a thread\n"), (0, "\0" * 100 + "x\n")]


WORKER = """
import json, os, pickle, sys
from rft_cli.grading.isolation.process import Isolation
from rft_cli.grading.worker.messages import map_begun
from rft_cli.grading.worker.messages import ScorerSource, WorkerSetup
from rft_cli.grading.shape import Shape
from rft_cli.grading.pool.binding import bind
from rft_cli.grading.worker.worker import Worker
folder, texts, memory = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
path = f"{folder}/scorer.py"
source = ScorerSource(path, "scorer.py", None, open(path, "rb").read())
isolation = Isolation(folder, f"{folder}/log", os.getppid())
os.makedirs(f"{folder}/1", exist_ok=True)
map_begun(f"{folder}/1.begun", new=True)
os.environ["TMPDIR"] = f"{folder}/1"
worker = Worker(WorkerSetup(source, isolation, 0.3, memory, 0), f"{folder}/1", ())
report = worker.load()
if report.signature:
    worker.bind(pickle.dumps(bind(report.callee, Shape()).binding))
outcomes = []
while len(outcomes) < len(texts):
    works = [(i, t, pickle.dumps({}), b"") for i, t in enumerate(texts)]
    outcomes += worker.grade(works[len(outcomes):])
with open(f"{folder}/result.json", "w") as file:
    json.dump({"report": report, "outcomes": outcomes, "cwd": os.getcwd()}, file)
"""


def work(folder: Path, source: str, texts: list[str], memory: int | None = None) -> dict[str, Any]:
    """A worker without a pool, in a process that ends by itself."""
    (folder / "scorer.py").write_text(source)
    arguments = [str(folder), json.dumps(texts), json.dumps(memory)]
    ended = subprocess.run(
        [sys.executable, "-c", WORKER, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_one_worker(tmp_path: Path) -> None:
    source = """
import os, sys, time, builtins
def score(text):
    if text == "raise": raise ValueError("no")
    if text == "bad": return "x"
    if text == "skip": return None
    if text == "hang":
        while True: time.sleep(0.01)
    if text == "late":
        try:
            time.sleep(9)
        except BaseException:
            return 1
    if text == "late error":
        try:
            time.sleep(9)
        except BaseException:
            raise KeyError
    if text == "late bad":
        try:
            time.sleep(9)
        except BaseException:
            return "x"
    if text == "streams":
        sys.stdout.close()
        sys.stderr = None
        return 7
    if text == "gone": os.rmdir(os.getcwd())
    if text == "patch": builtins.len = None; builtins.extra = 1
    print("print", text)
    return len(text)
"""
    texts = "ok raise bad skip hang late/late error/late bad/streams/gone/patch/ok".replace(
        " ", "/", 5
    ).split("/")
    result = work(tmp_path, source, texts, memory=4096)
    found = [(v[0], v[2]) for v in result["outcomes"]]
    assert dict(zip(texts, found, strict=True)) == {
        "ok": (2.0, None),
        "raise": (None, "raised"),
        "bad": (None, "bad_value"),
        "skip": (None, None),
        "hang": (None, "timeout"),
        "late": (None, "timeout"),
        "late error": (None, "timeout"),
        "late bad": (None, "timeout"),
        "streams": (7.0, None),
        "gone": (4.0, None),
        "patch": (None, "raised"),  # its own len is gone, and back for the next
    }
    assert result["report"][0] == "score(text)"
    assert Path(result["cwd"]).parent == tmp_path
    assert (tmp_path / "log").read_text() == "print ok\nprint gone\nprint patch\nprint ok\n"


def test_one_worker_with_a_batch_scorer(tmp_path: Path) -> None:
    source = """
import time
async def score_batch(completions):
    if len(completions) > 1 and "slow" in completions:
        try:
            time.sleep(9)
        except BaseException:
            pass
    if "bad" in completions and len(completions) > 1: raise ValueError
    return ["x" if c == "odd" else 1 for c in completions]
"""
    ok = work(tmp_path, source, ["a", "odd"])
    assert [(v[0], v[2]) for v in ok["outcomes"]] == [(1.0, None), (None, "bad_value")]
    bad = work(tmp_path, source, ["a", "bad"])
    assert [(v[0], v[2]) for v in bad["outcomes"]] == [(1.0, None), (1.0, None)]
    slow = work(tmp_path, source, ["a", "slow"])
    assert [(v[0], v[2]) for v in slow["outcomes"]] == [(1.0, None), (1.0, None)]


def test_one_worker_whose_scorer_does_not_load(tmp_path: Path) -> None:
    result = work(tmp_path, "1 / 0\n", ["a", "b"])
    message = "scorer.py:1: ZeroDivisionError: division by zero"
    assert result["report"][:2] == ["", message]
    assert [(v[0], v[2], v[3]) for v in result["outcomes"]] == [(None, "raised", message)] * 2
