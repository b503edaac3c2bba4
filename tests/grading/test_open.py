"""What `open_grader` refuses, with the scorer's own file:line, and what it accepts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

import rft_cli.grading
from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError
from rft_cli.grading.open import open_grader
from rft_cli.types import Grade, GradeRequest


def refusal(path: str | None, **settings: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        open_grader(GraderConfig(path=path, **settings), log_path=None)
    return caught.value


def grades(path: str, completions: list[str], **settings: Any) -> list[Grade]:
    with open_grader(GraderConfig(path=path, workers=1, **settings), log_path=None) as grader:
        return grader.grade([GradeRequest(text, {"n": i}) for i, text in enumerate(completions)])


def rewards(path: str, completions: list[str]) -> list[float | None]:
    return [grade.reward for grade in grades(path, completions)]


def test_files_that_are_no_scorer(tmp_path: Path, write_scorer: Any) -> None:
    scorer = write_scorer("def score(completion): return 1\n")
    near = str(tmp_path / "scoer.py")
    assert (refusal(None).message, refusal(None).fix) == (
        "no grader is set",
        "name a Python file: --reward-model scorer.py",
    )
    assert (refusal(near).message, refusal(near).fix) == (
        f"{near}: no such file",
        f"did you mean '{scorer}'?",
    )
    far = str(tmp_path / "folder" / "scorer.py")
    assert refusal(far).fix == f"there is no folder {tmp_path / 'folder'} either"
    assert refusal(str(tmp_path / "zzz.py")).fix == "check the path"
    assert (
        refusal(str(tmp_path)).message
        == f"{tmp_path}: is neither a scorer nor a reward model (no config.json)"
    )
    text = write_scorer("{}", "grader.txt")
    assert refusal(text).message == f"{text}: is not a Python file"
    spec = write_scorer("{}", "grader.json")
    assert refusal(spec).message == f"{spec}:1:1: has no 'type'"
    assert refusal(str(tmp_path / "graders.json")).fix == f"did you mean '{spec}'?"
    assert refusal("org/reward-model").message == (
        "org/reward-model: is a reward model, and nothing here loads torch"
    )
    empty = write_scorer(" \n", "empty.py")
    assert refusal(empty).message == f"{empty}: the file is empty"
    zeros = write_scorer("x = 1\0\n", "zeros.py")
    assert refusal(zeros).message.startswith(f"{zeros}")
    os.mkfifo(tmp_path / "pipe.py")
    locked = tmp_path / "loop.py"
    locked.symlink_to(locked)
    assert refusal(str(locked)).message.startswith(f"{locked}: can't be read: ")


def test_syntax_error(write_scorer: Any) -> None:
    path = write_scorer("def score(completion):\n    return (1\n")
    assert refusal(path).message == f"{path}:2:12: '(' was never closed"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos._exit(0)\n", "{path}: importing it ended the process (exit code 0)"),
        ("import os\nos.kill(os.getpid(), 11)\n", "{path}:2: importing it ended the process (SIGSEGV)"),
        ("x = 1\nx.y\n", "{path}:2: AttributeError: 'int' object has no attribute 'y'"),
    ],
)
def test_scorers_that_do_not_load(write_scorer: Any, source: str, message: str) -> None:
    path = write_scorer(source)
    assert refusal(path).message == message.format(path=path)


def test_an_import_that_blocks(write_scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft_cli.grading.pool.workers.IMPORT_LIMIT_S", 0.5)
    path = write_scorer("import time\ntime.sleep(60)\n")
    assert refusal(path).message == f"{path}: importing it takes longer than 0.5 s"


def test_named_function(write_scorer: Any) -> None:
    path = write_scorer(
        """
        from math import sqrt
        LIMIT = 3
        def exact(completion): return completion == "yes"
        def score(completion): return 0.5
        """
    )
    assert rewards(f"{path}:exact", ["yes", "no"]) == [1.0, 0.0]
    error = refusal(f"{path}:exct")
    assert error.message == f"{path}: no such function: 'exct'"
    assert error.fix == f"did you mean '{path}:exact'? (functions in it: exact, score)"
    assert refusal(f"{path}:LIMIT").message == f"{path}: is not a function: 'LIMIT'"
    assert refusal(f"{path}:zzzzz").fix == "functions in it: exact, score"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def grade(sample, item): return len(sample['output_text']) + item['n']", [1.0, 3.0]),
        ("def reward(text): return 0.5\ndef grade(text): return 0.25", [0.25, 0.25]),
        ("from math import sqrt\ndef only(text): return len(text)", [1.0, 2.0]),
        (
            "async def score(text):\n    import asyncio\n    await asyncio.sleep(0)\n    return len(text)",
            [1.0, 2.0],
        ),
        ("def score_batch(completions, examples): return [len(c) for c in completions]", [1.0, 2.0]),
        ("async def score_batch(completions): return [e is None or 0.5 for e in completions]", [0.5, 0.5]),
        ("class Scorer:\n    def __call__(self, text): return 7\nscore = Scorer()", [7.0, 7.0]),
        ("from helper_module import score", [0.125, 0.125]),
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int\ndef score(text): return A(2).n",
            [2.0, 2.0],
        ),
        (
            "from pathlib import Path\ndef score(text): return float(Path(__file__).with_name('n.txt').read_text())",
            [3, 3],
        ),
    ],
)
def test_scorers_that_load(write_scorer: Any, source: str, expected: list[float]) -> None:
    write_scorer("def score(text): return 0.125\n", "helper_module.py")
    write_scorer("3", "n.txt")
    assert rewards(write_scorer(source), ["a", "bb"]) == expected


def test_one_bad_value_of_a_batch_fails_alone(write_scorer: Any) -> None:
    path = write_scorer(
        "def score_batch(completions): return ['x' if c == 'bad' else 1 for c in completions]"
    )
    made = grades(path, ["a", "bad", "b"])
    assert [grade.status for grade in made] == ["graded", "failed", "graded"]
    assert made[1].error is not None
    assert made[1].error.kind == "bad_value"


def test_a_batch_that_raises_is_graded_one_by_one(write_scorer: Any) -> None:
    path = write_scorer(
        """
        import time
        def score_batch(completions):
            if "bad" in completions:
                raise ValueError("bad one")
            if "slow" in completions:
                time.sleep(30)
            return [0.5 for c in completions]
        """
    )
    made = grades(path, ["a", "bad", "b", "slow"], timeout_s=0.3)
    assert [grade.reward for grade in made] == [0.5, None, 0.5, None]
    assert [grade.error and grade.error.kind for grade in made] == [None, "raised", None, "timeout"]
    only = write_scorer("def score_batch(completions): return 0.5", "only.py")
    assert [g.error and g.error.kind for g in grades(only, ["a", "b"])] == ["bad_value", "bad_value"]


def test_an_edit_after_opening_does_not_change_grades(write_scorer: Any) -> None:
    source = "import os\ndef score(text):\n    if text == 'die': os._exit(1)\n    return {}\n"
    path = write_scorer(source.format("0.25"))
    with open_grader(GraderConfig(path=path, workers=1), log_path=None) as grader:
        write_scorer(source.format("0.75"))
        made = grader.grade([GradeRequest("die", {}), GradeRequest("restarted", {})])
        assert [grade.reward for grade in made] == [None, 0.25]
        assert grader.sha256 == hashlib.sha256(source.format("0.25").encode()).hexdigest()


def test_a_colon_in_the_name_of_a_file(write_scorer: Any) -> None:
    assert rewards(write_scorer("def score(text): return 1\n", "v2:score.py"), ["a"]) == [1.0]


def test_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rft_cli.grading.nothing
