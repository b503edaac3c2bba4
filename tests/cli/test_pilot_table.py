"""The pilot's table, drawn from a document written by hand."""

import io

from rft_cli.console import EventPrinter
from rft_cli.console.pilot_table import pilot_lines
from rft_cli.events import Piloted, from_json

GRADE = {"status": "graded", "reward": 1.0, "components": {"valid_json": 1.0, "team": 0.5}, "error": None}
PILOT = {
    "completions": 128, "prompts": 16, "group_size": 8, "ended": 118, "lengths": {"median": 34, "p95": 44},
    "grades": {"graded": 127, "skipped": 1, "failed": 0}, "reward": {"mean": 0.21875, "low": 0.0, "high": 1.0},
    "solved": {"0": 9, "to 25 %": 3, "to 50 %": 2, "to 75 %": 1, "under 100 %": 0, "100 %": 1},
    "groups": {"total": 16, "constant": 10}, "limit_tried": 512, "max_completion_tokens": 88,
    "prompt": "<|user|>Add.\n\n1 + 1<|end|><|assistant|>", "verdict": {"level": "ok"},
    "shown": [
        {"completion": "2", "tokens": 2, "truncated": False, "grade": GRADE},
        {"completion": "a\nb", "tokens": 512, "truncated": True, "grade": {**GRADE, "reward": 0.0, "components": {}}},
        {"completion": "", "tokens": 1, "truncated": False,
         "grade": {"status": "skipped", "reward": None, "components": {}}},
    ],
    "seconds": {"completion": 0.1, "grade": 0.05, "rollout": 12.8, "update": 7.2, "step": 5.0, "job": 500.0,
                "pilot": 13.4},
}  # fmt: skip

TABLE = """\
pilot: 128 completions of 16 prompts by the base model, sampled as in training
  a prompt as the model sees it
  | <|user|>Add.
  |
  | 1 + 1<|end|><|assistant|>
  completions
    1.000  2 tokens  valid_json 1.00 team 0.50
      2
    0.000  512 tokens, cut
      a ⏎ b
    skipped  1 token
      (empty)
  ended                 118 of 128 by themselves, with 34 tokens (median), 44
                        (95 %); tried with at most 512
  mean reward           0.219, 1 skipped
  prompts by solve rate 0: 9  to 25 %: 3  to 50 %: 2  to 75 %: 1  under 100 %: 0
                        100 %: 1
  groups that teach     6 of 16; in 10 all rewards agree
  time                  about 5.0 s a step, 8:20 for the job (a rollout batch:
                        sampling 13 s, training 7.2 s); grading takes 50% of
                        sampling, 0.05 s a completion; the pilot took 13 s"""


def test_the_table_fits_80_columns():
    assert pilot_lines(PILOT, 80) == TABLE
    assert max(map(len, TABLE.splitlines())) <= 80


def test_a_measured_model_has_no_steps_and_a_quick_scorer_is_not_the_cost():
    seconds = {"completion": 0.1, "grade": 0.01, "pilot": 3.0}
    assert pilot_lines({**PILOT, "seconds": seconds}, 80).splitlines()[-1] == (
        "  time                  the pilot took 3.0 s"
    )


def test_completions_stand_in_the_message_where_nothing_can_be_learned():
    assert "  completions" not in pilot_lines({**PILOT, "verdict": {"level": "nothing"}}, 80).splitlines()


def test_a_scale_that_is_not_0_to_1_is_told():
    text = pilot_lines({**PILOT, "reward": {"mean": 40.0, "low": -20.0, "high": 100.0}}, 100)
    assert "100 %: 1 (0 is -20.000, 100 % is 100.000)" in " ".join(text.split())


def test_long_prompts_are_cut_in_the_middle():
    lines = pilot_lines({**PILOT, "prompt": "\n".join(map(str, range(50)))}, 80).splitlines()
    assert lines[2:15] == [
        *(f"  | {n}" for n in range(6)), "  | … (39 lines)", *(f"  | {n}" for n in range(45, 50)), "  completions",
    ]  # fmt: skip


def test_hostile_text_steers_nothing():
    hostile = "\x1b[2J\u202e" + "x" * 300
    shown = [{**PILOT["shown"][0], "completion": hostile}]
    text = pilot_lines({**PILOT, "prompt": hostile, "shown": shown}, 80)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_event_travels_and_is_printed_but_not_quietly():
    event = from_json(Piloted(PILOT).to_json())
    out = io.StringIO()
    with EventPrinter("plain", out) as printer:
        printer(event)
    assert out.getvalue().startswith("pilot: 128 completions")
    out = io.StringIO()
    with EventPrinter("quiet", out) as printer:
        printer(event)
    assert out.getvalue() == ""
