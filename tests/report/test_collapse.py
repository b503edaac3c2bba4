"""The best constant answer, how completions differ, and what is said of them, from samples written by hand."""

import pytest

from rft_cli.report.advice import advise
from rft_cli.report.collapse import best_constant, candidates, repetition_of, shown
from rft_cli.report.conclusions import answers_note, headline
from rft_cli.report.estimates import compare
from rft_cli.report.pairs import Pair
from rft_cli.report.result import build_result
from rft_cli.report.summary import build_summary
from rft_cli.runs import Run
from rft_cli.types import Grade, Sample

LABELS = ["anger", "joy", "sadness", "optimism"]


def sample(row, completion, reward, truncated=False, tokens=3):
    grade = Grade("skipped") if reward is None else Grade("graded", reward)
    return Sample(row, f"f:{row}", f"prompt {row}", completion, tokens, truncated, grade)


def graded(answers, labels):
    """One completion a row, right where it is the row's label."""
    return [sample(row, text, float(text == labels[row])) for row, text in enumerate(answers)]


def constants(texts, labels):
    return [found for text in texts for found in graded([text] * len(labels), labels)]


# 60 rows, of which 24 want "anger": a constant answer earns 0.4.
ROWS = [LABELS[0] if n % 5 in (0, 1) else LABELS[1 + n % 3] for n in range(60)]
BASE = graded([f"I feel {n}" for n in range(60)], ROWS)
ALL = constants(LABELS, ROWS)


def pair(answers, split="test"):
    return Pair(split, BASE, graded(answers, ROWS), ALL)


def said(found):
    return headline(compare(found.before, found.after), found)


def test_a_collapsed_policy_is_named_whatever_its_gain():
    found = pair(["anger"] * 60)
    assert said(found) == (
        'Mean reward on the test rows went from 0.000 to 0.400: no better than answering "anger" to every row (0.400). '
        "The policy collapsed to that answer: 100 % of its completions."
    )
    assert answers_note(found) == (
        'Distinct answers: 60 -> 1 of 60; share of the most frequent: 2 % ("I feel 0") -> 100 % ("anger"); '
        "best constant answer 0.400."
    )


def test_a_few_other_answers_are_no_clear_progress():
    found = pair(["anger"] * 58 + ROWS[58:])
    constant = best_constant(found.constants, found.after)
    assert constant.completion == "anger"
    assert constant.reward.mean == pytest.approx(0.4)
    assert constant.difference.mean == pytest.approx(2 / 60)
    assert constant.difference.ci95[0] <= 0
    assert constant.as_good
    assert "no better than answering" in said(found)
    assert "(0.400; the interval of the difference includes 0)." in said(found)


def test_a_policy_that_reads_the_rows_is_better_than_any_constant():
    found = pair(ROWS)
    constant = best_constant(found.constants, found.after)
    assert not constant.as_good
    assert constant.difference.mean == pytest.approx(0.6)
    assert said(found) == "Mean reward on the test rows went from 0.000 to 1.000."
    assert answers_note(found).endswith('-> 40 % ("anger"); best constant answer 0.400.')


def test_a_policy_that_collapsed_to_another_than_the_best_answer():
    assert said(pair(["joy"] * 60)).endswith(
        'no better than answering "anger" to every row (0.400). '
        'The policy collapsed to one answer, "joy": 100 % of its completions.'
    )


def test_long_texts_that_all_differ_take_one_short_line():
    texts = [f"Number {n}: " + "a long story " * 40 for n in range(60)]
    before = [sample(n, f"{text} before", 0.1) for n, text in enumerate(texts)]
    after = [sample(n, text, 0.9) for n, text in enumerate(texts)]
    found = Pair("test", before, after, [sample(n, texts[0], 0.2) for n in range(60)])
    assert answers_note(found) == "All 60 answers differ, before and after."
    assert said(found) == "Mean reward on the test rows went from 0.100 to 0.900."


def test_a_text_that_fools_the_scorer_on_every_row_is_named_though_all_differ():
    after = [sample(n, f"67481118481848381183831483834838{n}", 1.2) for n in range(60)]
    found = Pair("test", BASE, after, [sample(n, after[0].completion, 1.2) for n in range(60)])
    assert 'no better than answering "674811184818483811838314838348380" to every row (1.200).' in said(found)
    assert answers_note(found) == (
        'All 60 answers differ, before and after; best constant answer 1.200 ("674811184818483811838314838348380").'
    )


def test_a_completion_that_few_rows_grade_does_not_hide_one_that_all_do():
    once = [sample(n, "once", 1.0 if n == 0 else None) for n in range(50)]
    wide = [sample(n, "wide", 0.41) for n in range(50)]
    after = [sample(n, f"text {n}", 0.4) for n in range(50)]
    assert best_constant([*once, *wide], after).completion == "wide"
    assert best_constant(once, after) is None
    nearly = [sample(n, "nearly", None if n < 2 else 0.5) for n in range(50)]
    assert best_constant([*wide, *nearly], after).completion == "nearly"


def test_candidates_are_the_most_frequent_of_each_end():
    best = graded(["anger"] * 4 + ["joy"] * 3 + ["sadness"] * 2 + ["once"], ["anger"] * 10)
    last = graded(["optimism"] * 6 + ["joy"] * 4, ["anger"] * 10)
    assert [found.completion for found in candidates([best, last])] == ["anger", "joy", "sadness", "optimism"]
    assert [found.completion for found in candidates([best, last], 1)] == ["anger", "optimism"]
    distinct = [sample(0, "a", 0.1), sample(1, "b", 0.7), sample(2, "c", None)]
    assert [found.completion for found in candidates([distinct])] == ["b"]
    assert candidates([[]]) == []


def test_figures_of_answers():
    found = repetition_of(graded(["a", "b", "b"], ["a"] * 3))
    assert found.to_json() == {"n": 3, "distinct": 2, "most_frequent": "b", "share": pytest.approx(2 / 3)}
    assert not found.collapsed
    assert not repetition_of(graded(["a"] * 4, ["a"] * 4)).collapsed  # four completions show nothing
    assert repetition_of([]) is None
    assert best_constant([], BASE) is None
    assert best_constant([sample(0, "x", None)], BASE) is None
    assert shown("two\n lines") == '"two lines"'
    assert shown("x" * 99) == '"' + "x" * 39 + '…"'


# -- what comes next -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path, "job", config_yaml="", info={"model": "org/model"})
    run.write_samples("step-000000", [sample(row, "x", 0.0, True, 32) for row in range(4)])
    return run


def advice(run, rewards, **figures):
    for step, reward in enumerate(rewards, 1):
        run.append_metrics({"step": step, "epoch": step / len(rewards), "reward": reward, **figures})
    result = build_result(run)
    text = "\n".join(build_summary(run, result).notes)
    assert (result["advice"] is None) or result["advice"] in text
    return result["next"].replace(str(run.path), "RUN"), result["advice"]


def test_where_all_was_cut_the_limit_is_what_to_change(run):
    command, text = advice(run, [0.0, 0.0], truncated=0.98, constant_groups=1.0)
    assert command == "rft train RUN/config.yaml --set rollout.max_completion_tokens=64"
    assert text.startswith("98% of the training completions were cut at the length limit")
    assert "more epochs would not help" in text


def test_where_nothing_earned_anything_more_epochs_are_not_advised(run):
    command, text = advice(run, [0.0, 0.0], truncated=0.1, constant_groups=1.0)
    assert command == "rft validate RUN/config.yaml --model org/model"
    assert text.startswith("No completion earned anything in training")


def test_where_all_earned_the_same_the_rows_are_too_easy(run):
    command, text = advice(run, [1.0, 1.0], truncated=0.1, constant_groups=1.0)
    assert command == "rft validate RUN/config.yaml --model org/model"
    assert text.startswith("All completions of a prompt got the same reward")


def test_batches_without_two_grades_of_a_prompt_do_not_hide_that_nothing_differs(run):
    run.append_metrics({"step": 1, "epoch": 0.5, "reward": 0.0, "constant_groups": 1.0})
    run.append_metrics({"step": 2, "epoch": 1.0, "reward": None, "constant_groups": None})
    assert build_result(run)["advice"].startswith("No completion earned anything in training")


def test_where_nothing_was_graded_the_scorer_is_what_to_look_at(run):
    command, text = advice(run, [None, None], truncated=0.1, constant_groups=None)
    assert command == "rft validate RUN/config.yaml --model org/model"
    assert text.startswith("No prompt had two graded completions in training")


def test_where_the_reward_fell_smaller_steps_are_advised(run):
    command, text = advice(run, [0.5, 0.3, 0.1], constant_groups=0.1, learning_rate=3e-4)
    assert command == "rft train RUN/config.yaml --learning-rate 0.0001"
    assert "The training reward fell" in text


def test_where_the_reward_rose_more_epochs_are_advised(run):
    assert advice(run, [0.1, 0.3, 0.5], constant_groups=0.1, learning_rate=3e-4) == (
        "rft train RUN/config.yaml --n-epochs 2",
        None,
    )


def test_one_step_has_no_beginning_and_end(run):
    advice(run, [0.3])
    notes = "\n".join(build_summary(run, build_result(run)).notes)
    assert "Training reward" not in notes
    assert "Validation reward of the base 0.000." in notes


def test_a_gain_is_to_be_exported(run):
    assert advise(run, 3, [], pair(ROWS)).next.endswith(f"rft export {run.path}")


def test_a_gain_that_may_be_chance_is_not_to_be_exported_yet(run):
    few = Pair("test", graded(ROWS[:2], ["joy", ROWS[1]]), graded(ROWS[:2], ROWS[:2]), ())
    found = advise(run, 3, [], few)
    assert found.next.startswith("rft train ")
    assert "may be chance" in found.text
    assert f"`rft export {run.path}` takes the model out" in found.text
    found = advise(run, 3, [], pair(["anger"] * 58 + ROWS[58:]))
    assert found.next.startswith("rft train ")
    assert "not above what one answer to every row earns" in found.text
