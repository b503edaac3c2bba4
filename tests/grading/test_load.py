"""What a scorer file may hold, read in this process; `test_open.py` does the same through workers."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from rft_cli.grading.worker.ending import Crash, Ending, read_crash
from rft_cli.grading.worker.load import LoadedScorer, ScorerProblem, describe, load_scorer
from rft_cli.grading.worker.messages import ScorerSource

SOURCE = ScorerSource("/folder/scorer.py", "scorer.py", None, b"")


@pytest.mark.parametrize(
    ("source", "message", "fix"),
    [
        (
            "import json\nimport no_such_module\n",
            "{path}:2: ModuleNotFoundError: No module named 'no_such_module'",
            "install 'no_such_module' in rft's environment, or put it beside the scorer",
        ),
        (
            "\nopen('table.csv')\n",
            "{path}:2: FileNotFoundError: ",
            "files are found from where the command is typed",
        ),
        ("x = 1\nreturn x\n", "{path}:2: SyntaxError: 'return' outside function", "the file must import"),
        (
            "import sys\n\nsys.exit(2)\n",
            "{path}:3: SystemExit: 2",
            "put what runs as a script under: if __name__ == '__main__':",
        ),
        (
            "x = 1\nx.y\n",
            "{path}:2: AttributeError: 'int' object has no attribute 'y'",
            "the file must import",
        ),
        (
            "x = 1\n",
            "{path}: there is no function in it",
            "define score(completion), score(completion, example)",
        ),
        (
            "class Reward:\n    def __call__(self, completion):\n        return 1\n",
            "{path}: there is no function in it",
            "make an object of the class: score = Reward(…)",
        ),
        (
            "def one(x): pass\ndef two(x): pass\ndef _three(x): pass\n",
            "{path}: which function is the scorer? It has none named score, grade, score_batch, reward",
            "name it, or several with a --reward-model each: {path}:NAME (functions in it: one, two)",
        ),
        (
            "async def score(text):\n    yield 1\n",
            "{path}:1: score has a yield, which makes it a generator: it gives no reward",
            "return the reward",
        ),
        (
            "def grade(sample, item):\n    yield 1\n",
            "{path}:1: grade has a yield, which makes it a generator: it gives no reward",
            "return the reward",
        ),
        (
            "import helper\n",
            "{path}:1: ValueError: broken (raised in helper.py:3)",
            "the file must import without an error",
        ),
        (
            "import bad_syntax\n",
            "{path}:1: SyntaxError: '(' was never closed (raised in bad_syntax.py:1)",
            "the file must import",
        ),
        (
            "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd\n",
            "{path}:3: Odd: <exception str() failed>",
            "the file must import",
        ),
    ],
)
def test_scorers_that_do_not_load(
    write_scorer: Any, monkeypatch: pytest.MonkeyPatch, source: str, message: str, fix: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    write_scorer("\n\nraise ValueError('broken')\n", "helper.py")
    write_scorer("(\n", "bad_syntax.py")
    path = write_scorer(source)
    with pytest.raises(ScorerProblem) as caught:
        load_scorer(ScorerSource(path, "shown.py", None, source.encode()))
    assert caught.value.message.startswith(message.format(path="shown.py"))
    assert caught.value.fix.startswith(fix.format(path="shown.py"))
    sys.modules.pop("rft_scorer")


def load(monkeypatch: pytest.MonkeyPatch, path: str, function: str | None) -> LoadedScorer:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return load_scorer(ScorerSource(path, "shown.py", function, Path(path).read_bytes()))


def test_which_function(write_scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scorer("def reward(a): return 1\ndef grade(sample, item): return 2\nLIMIT = 3\n")
    assert load(monkeypatch, path, None).signature == "grade(sample, item)"
    assert load(monkeypatch, path, "reward").signature == "reward(a)"
    one = write_scorer("def only(text, _k=1): return 1\n", "one.py")
    assert load(monkeypatch, one, None).signature == "only(text, _k)"
    for name, message in (("LIMIT", "is not a function"), ("nothing", "no such function")):
        with pytest.raises(ScorerProblem) as caught:
            load(monkeypatch, path, name)
        assert caught.value.message == f"shown.py: {message}: '{name}'"
        assert (caught.value.fix, caught.value.found) == (
            "functions in it: reward, grade",
            ("reward", "grade"),
        )
    none = write_scorer("LIMIT = 3\n", "none.py")
    with pytest.raises(ScorerProblem) as caught:
        load(monkeypatch, none, "LIMIT")
    assert caught.value.fix == "there is no public function in it"


def test_a_lambda(write_scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(monkeypatch, write_scorer("grade = lambda sample, item: 0.5\n"), None)
    assert loaded.signature == "grade(sample, item)"
    assert (loaded.place, [p.name for p in loaded.callee.parameters]) == ("shown.py:1", ["sample", "item"])
    only = load(monkeypatch, write_scorer("mine = lambda text: 0.5\n", "mine.py"), None)
    assert only.signature == "mine(text)"


def test_an_exception_that_can_not_be_described() -> None:
    class Odd(Exception):
        @property
        def __notes__(self) -> list[str]:
            raise SystemExit

    raised = describe(Odd(), SOURCE)
    assert raised == ("scorer.py", "Odd", "")


def test_crashes(tmp_path: Path) -> None:
    folder, fault = str(tmp_path / "7"), tmp_path / "7.fault"

    def crash(code: int, **how: bool) -> Crash:
        return read_crash(folder, SOURCE, Ending(code, **how), "grading it")

    killed = Crash(False, "scorer.py", "grading it ended the process (SIGKILL, perhaps out of memory)")
    assert crash(-9) == killed
    assert crash(-9, late=True).late
    assert crash(-9, garbled=True).text == (
        "grading it broke or garbled the pipe by which it answers, so rft ended the process"
    )
    trace = 'Fatal Python error: Aborted\n  File "/lib/x.py", line 1 in f\n'
    trace += '  File "/folder/scorer.py", line 5 in score\n'
    fault.write_text(trace)
    ended = "grading it ended the process (SIGABRT)"
    assert crash(-signal.SIGABRT) == Crash(False, "scorer.py:5", ended, trace)
    fault.write_text("Timeout (0:00:31)!\n" + trace)
    (tmp_path / "7.out").write_text("last words")
    late = crash(1)
    assert (late.late, late.place, late.output) == (True, "scorer.py:5", "last words")
    outcome = late.outcome(30)
    assert (outcome.kind, outcome.seconds) == ("timeout", 30)
    assert outcome.message == "scorer.py:5: no result after 30 s (grader.timeout_s)"
    assert crash(3).text == "grading it ended the process (exit code 3)"
    assert crash(-50).text == "grading it ended the process (signal 50)"
    assert killed.outcome(30)[2:4] == ("died", f"scorer.py: {killed.text}")
