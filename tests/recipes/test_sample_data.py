"""The sample data: well-formed, without overlap, and graded as promised."""

import itertools
import json
import re
from itertools import islice
from pathlib import Path

import pytest

from recipes import word_problems
from recipes.build_sample_data import build
from recipes.measure import load_scorer, pass_at_k
from recipes.support_triage import TASK, inputs
from recipes.triage_answers import Noise, dialogues
from recipes.triage_held_out import HELD_OUT
from recipes.triage_phrases import SHARED

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data"
SIZES = {"train": 48, "val": 200, "test": 240}
JUNK = (
    "",
    "[]",
    "null",
    "3",
    "{}",
    '{"team": []}',
    '{"team": NaN}',
    "[" * 100_000,
    '{"a": ' * 100_000,
    "1" * 9999,
    "\x00\ud800",
    '"billing"',
    "```json\n{}\n```",
    '{"team": "billing"} {"team": "billing"}',
    "#### ",
    "#### 1e999",
)


def rows(split: str) -> list[dict[str, str]]:
    lines = (SAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("split", SIZES)
def test_rows_have_the_three_keys_and_a_record(split: str) -> None:
    assert len(rows(split)) == SIZES[split]
    for row in rows(split):
        assert list(row) == ["task", "input", "output"]
        assert row["task"] == TASK
        assert list(json.loads(row["output"])) == ["team", "priority", "order"]


def test_labels_are_balanced() -> None:
    for split in SIZES:
        records = [json.loads(row["output"]) for row in rows(split)]
        teams = [sum(record["team"] == team for record in records) for team in {r["team"] for r in records}]
        priorities = [
            sum(record["priority"] == p for record in records) for p in {r["priority"] for r in records}
        ]
        assert len(teams) == 4
        assert len(priorities) == 3
        assert max(teams) - min(teams) <= 3
        assert max(priorities) - min(priorities) <= 3


def test_no_input_and_no_order_number_occurs_twice() -> None:
    every = [row for split in SIZES for row in rows(split)]
    orders = [order for row in every if (order := json.loads(row["output"])["order"])]
    assert len({row["input"] for row in every}) == len(every)
    assert len(set(orders)) == len(orders)
    for row in every:
        order = json.loads(row["output"])["order"]
        assert order is None or order in row["input"]


def test_the_recipe_writes_the_files_in_the_repository(tmp_path: Path) -> None:
    build(tmp_path)
    for split in SIZES:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (SAMPLE / f"{split}.jsonl").read_bytes()


def test_the_pretraining_text_contains_no_sample_message() -> None:
    banned = inputs()
    assert banned == {row["input"] for split in SIZES for row in rows(split)}
    text = "\n".join(dialogue.user for dialogue in islice(dialogues(1, banned, Noise(), 0.5), 20_000))
    assert not [message for message in banned if f"\n\n{message}\n" in text]


def every_variant(template: str) -> set[str]:
    parts = [part.split("|") for part in re.split(r"[\[\]]", template)]
    return {re.sub(r" {2,}", " ", "".join(choice)) for choice in itertools.product(*parts)}


def test_held_out_phrases_are_no_variant_of_a_shared_one() -> None:
    for part in ("issues", "cues"):
        for label, held_out in getattr(HELD_OUT, part).items():
            shared = {text for template in getattr(SHARED, part)[label] for text in every_variant(template)}
            assert {text for text in held_out if text in shared} <= {""}
    for part in ("names", "goods", "gadgets", "order_inline", "order_sentences"):
        shared = {text for template in getattr(SHARED, part) for text in every_variant(template)}
        assert shared.isdisjoint(getattr(HELD_OUT, part))


def test_a_banned_message_is_never_drawn() -> None:
    drawn = {d.user.split("\n\n")[1] for d in islice(dialogues(1, set(), Noise(), 1.0), 50)}
    again = {d.user.split("\n\n")[1] for d in islice(dialogues(1, drawn, Noise(), 1.0), 50)}
    assert drawn.isdisjoint(again)


@pytest.mark.parametrize("split", SIZES)
def test_every_reference_scores_one(split: str) -> None:
    score = load_scorer(SAMPLE / "scorer.py")
    for row in rows(split):
        assert score(row["output"], row) == {
            "reward": 1.0,
            "valid_json": 1.0,
            "team": 1.0,
            "priority": 1.0,
            "order": 1.0,
            "all_correct": 1.0,
        }


def test_partial_records_score_their_parts() -> None:
    score = load_scorer(SAMPLE / "scorer.py")
    row = {"output": '{"team": "billing", "priority": "high", "order": null}'}
    assert score('{"team": "billing", "priority": "low", "order": null}', row)["reward"] == pytest.approx(0.7)
    assert score('{"team": "billing", "urgency": "high"}', row)["reward"] == pytest.approx(0.3)
    assert score('{"team": "x", "priority": "y", "order": "z"}', row)["reward"] == pytest.approx(0.1)
    assert score('Sure! {"team": "billing", "priority": "high", "order": null}', row)["reward"] == 0.0


@pytest.mark.parametrize("number", range(len(JUNK)))
def test_junk_scores_between_zero_and_one(number: int) -> None:
    triage = load_scorer(SAMPLE / "scorer.py")
    problems = load_scorer(ROOT / "recipes" / "second_task" / "scorer.py")
    assert 0.0 <= triage(JUNK[number], rows("train")[0])["reward"] <= 0.3
    assert problems(JUNK[number], {"answer": "#### 7"}) == {"reward": 0.0}


def test_word_problems_are_right_and_apart() -> None:
    score = load_scorer(ROOT / "recipes" / "second_task" / "scorer.py")
    splits = word_problems.splits()
    assert {name: len(problems) for name, problems in splits.items()} == {
        "train": 64,
        "val": 200,
        "test": 240,
    }
    every = [problem for problems in splits.values() for problem in problems]
    assert len({problem.question for problem in every}) == len(every)
    for problem in every:
        row = problem.row()
        assert 0 <= problem.result <= 99
        assert score(row["answer"], row) == {"reward": 1.0}
        assert score(f"#### {problem.result + 1}", row) == {"reward": 0.0}


def test_pass_at_k_is_the_share_of_draws_with_a_hit() -> None:
    assert pass_at_k(0, 4, 2) == 0.0
    assert pass_at_k(1, 4, 2) == pytest.approx(0.5)  # 3 of 6 pairs hold the one right completion
    assert pass_at_k(4, 4, 1) == 1.0
