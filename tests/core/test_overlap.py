"""Prompts that stand in two files: found, all of them and no others, and handled as data.overlap says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rft_cli.data.dataset import Dataset
from rft_cli.data.overlap import Overlap, OverlapResult, apply_overlap, find_overlap
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.types import Example, Message, Source


def dataset(path: str, prompts: list[str]) -> Dataset:
    examples = [
        Example(f"line-{line}", [Message(role="user", content=text)], {}, Source(path, line))
        for line, text in enumerate(prompts, start=1)
    ]
    return Dataset(examples, "rft", path, "", [])


TRAIN = dataset("train.jsonl", ["a", "b", " c\n", "d", "b"])
OTHER = dataset("val.jsonl", ["x", "b", "c", "b"])


def lines_of(found: Sequence[Overlap]) -> list[tuple[int, int, int]]:
    return [(one.place, one.train.line, one.other.line) for one in found]


def test_every_pair_is_found() -> None:
    assert lines_of(find_overlap(TRAIN, OTHER)) == [(1, 2, 2), (2, 3, 3), (4, 5, 2)]


def test_a_plain_prompt_equals_its_user_turn() -> None:
    plain = Dataset([Example("line-1", "b", {}, Source("p.jsonl", 1))], "trl", "p.jsonl", "", [])
    assert lines_of(find_overlap(plain, OTHER)) == [(0, 1, 2)]


def test_planted_prompts_are_found_among_many() -> None:
    train = dataset("train.jsonl", [f"question {number}" for number in range(10_000)])
    val = [f"Question {number}" for number in range(10_000)]
    for line in (0, 17, 4_000, 9_998, 9_999):
        val[line] = f"question {line}"
    assert [found.train.line for found in find_overlap(train, dataset("v", val))] == [
        1,
        18,
        4001,
        9999,
        10000,
    ]


def test_no_overlap_changes_nothing() -> None:
    for policy in ("warn", "drop", "error"):
        assert apply_overlap(TRAIN, dataset("v", ["z"]), policy) == OverlapResult(TRAIN, None)


def test_warn_keeps_the_rows_and_says_where() -> None:
    checked = apply_overlap(TRAIN, OTHER, "warn")
    assert checked.train is TRAIN
    assert checked.note == (
        "train.jsonl: 3 of 5 training rows have a prompt that is also in val.jsonl "
        "(line 2 = 2, line 3 = 3, line 5 = 2); --set data.overlap=drop leaves them out of training"
    )


def test_a_long_list_of_lines_is_cut() -> None:
    many = [f"q{number}" for number in range(9)]
    note = apply_overlap(dataset("t", many), dataset("v", many), "warn").note
    assert note is not None
    assert "(line 1 = 1, line 2 = 2, line 3 = 3, line 4 = 4, line 5 = 5, …)" in note


def test_drop_takes_them_from_training() -> None:
    checked = apply_overlap(TRAIN, OTHER, "drop")
    assert [example.id for example in checked.train.examples] == ["line-1", "line-4"]
    assert checked.train.path == "train.jsonl"
    assert str(checked.note).endswith("; left out of training")
    assert len(TRAIN.examples) == 5


def test_drop_that_leaves_nothing() -> None:
    with pytest.raises(UsageError, match="every prompt is also in val"):
        apply_overlap(dataset("train.jsonl", ["b"]), OTHER, "drop")


def test_error_names_every_line(tmp_path: Path) -> None:
    with pytest.raises(UsageErrors) as caught:
        apply_overlap(TRAIN, OTHER, "error")
    assert [problem.message for problem in caught.value.problems] == [
        "train.jsonl:2: the same prompt as val.jsonl:2",
        "train.jsonl:3: the same prompt as val.jsonl:3",
        "train.jsonl:5: the same prompt as val.jsonl:2",
    ]
