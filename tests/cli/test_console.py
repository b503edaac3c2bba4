"""EventPrinter in its three modes, and the tables, driven with events and results written by hand."""

import io
from dataclasses import replace

import pytest

from rft_cli.console import Check, EventPrinter, choose_mode, print_checks, print_estimates, print_summary
from rft_cli.console.events import Mode
from rft_cli.console.tables import print_comparison
from rft_cli.events import Finished, Note, Progress, Started, Stepped, Validated
from rft_cli.report.summary import CompletionPair, Summary, SummaryRow
from rft_cli.types import Estimate

STARTED = Started("builtin/tiny", 1_234_567, 1_234_567, "ppo", 1, 40, 4, "cpu")


def stepped(step: int, reward: float = 0.5, **extra: float) -> Stepped:
    metrics = {
        "reward": reward,
        "kl_per_token": 0.0123,
        "entropy": 0.7,
        "rollout_seconds": 1.25,
        "update_seconds": 0.5,
    }
    metrics |= {"completions": 128.0 * step, **extra}
    return Stepped(step, 40, step / 10, metrics, 125.0)


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def printed(mode: Mode, events: list, seconds_between: float = 0.0) -> str:
    out, clock = io.StringIO(), Clock()
    with EventPrinter(mode, out, clock) as printer:
        for event in events:
            printer(event)
            clock.now += seconds_between
    return out.getvalue()


def test_plain_prints_notes_validations_and_the_first_and_last_step():
    events = [
        Note("detected: rft (48 of 48 rows)"),
        Note("2 rows overlap", "warning"),
        Validated(0, 0.0, 0.41, 0.38, 0.44, 200, True),
        STARTED,
        *(stepped(step) for step in range(1, 41)),
        Validated(40, 4.0, 0.9, 0.88, 0.92, 200, True),
        Finished({}),
    ]
    figures = "reward 0.500  KL k1/token 0.012  entropy 0.700  rollout 1.2 s  update 0.5 s  2:05 left"
    assert printed("plain", events).splitlines() == [
        "detected: rft (48 of 48 rows)",
        "warning: 2 rows overlap",
        "validation (base): reward 0.410 [0.380, 0.440] on 200 rows",
        "ppo on builtin/tiny: 1.2 M parameters, all weights, 40 steps in 4 epochs on cpu",
        f"epoch 0.1/4  step 1/40  {figures}",
        f"epoch 4.0/4  step 40/40  {figures}",
        "validation (epoch 4.0, step 40): reward 0.900 [0.880, 0.920] on 200 rows  best so far",
    ]


def test_plain_prints_a_moving_line_at_most_every_ten_seconds():
    steps = printed("plain", [stepped(step) for step in range(1, 31)], seconds_between=2.0).splitlines()
    assert [line.split("  ")[1] for line in steps] == [f"step {n}/40" for n in (1, 6, 11, 16, 21, 26)]
    sampling = [Progress("baseline", 10 * n, 200) for n in range(1, 21)]
    assert printed("plain", sampling, 4.0).splitlines()[:2] == [
        "baseline  10/200 completions",
        "baseline  40/200 completions",
    ]


def test_quiet_prints_warnings_alone():
    events = [
        Note("fine"),
        Note("look here", "warning"),
        STARTED,
        stepped(1),
        Validated(1, 1, 0, 0, 0, 1, True),
    ]
    assert printed("quiet", events) == "warning: look here\n"


def test_hostile_text_in_notes_is_shown_not_obeyed():
    assert printed("plain", [Note("name \x1b[2J[red]x[/red]")]) == "name �[2J[red]x[/red]\n"


@pytest.mark.parametrize("width", [80, 120])
def test_live_shows_the_step_figures_and_a_bar_and_keeps_what_is_above(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    with EventPrinter("live", out) as printer:
        printer(STARTED)
        printer(Progress("baseline [b]", 64, 200))
        printer(Validated(0, 0.0, 0.41, 0.38, 0.44, 200, True))
        for step in range(1, 21):
            printer(stepped(step, step / 20, grader_failed=2.0))
        frame = out.getvalue()
        printer(Finished({}))
    assert "baseline [b]" in frame
    assert "validation (base): reward 0.410 [0.380, 0.440] on 200 rows" in frame
    last = frame[frame.rindex("epoch 2.0/4") :]
    assert "step 20/40" in last
    assert "reward 1.000  KL k1/token 0.012  entropy 0.700" in last
    assert "rollout 1.2 s  update 0.5 s  2,560 completions  grades failed 2.000" in last
    assert "▁▁▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇██  0.050 … 1.000" in last
    assert "50 %  2:05 left" in last
    assert max(len(line) for line in last.replace("\x1b[2K", "").splitlines()) <= width
    assert "\x1b[3" not in frame  # NO_COLOR


def test_live_leaves_the_terminal_as_it_was_after_an_error():
    out = io.StringIO()
    printer = EventPrinter("live", out)

    def fail():
        with printer:
            printer(stepped(1))
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")


def test_started_says_what_is_trained_and_by_how_many():
    lora = Started("m", 7_000_000_000, 40_000, "grpo", 2, 10, 1, "cuda:0")
    assert printed("plain", [lora]) == (
        "grpo on m: 7.0 B parameters, 40.0 k trained, 10 steps in 1 epoch on cuda:0, 2 processes\n"
    )
    assert "m: 12 parameters" in printed("plain", [Started("m", 12, 12, "ppo", 1, 1, 1, "cpu")])


def test_a_job_within_an_epoch_says_how_far_it_is():
    started = Started("m", 12, 12, "ppo", 1, 184, 184 / 1868, "cpu")
    events = [started, Stepped(24, 184, 24 / 1868, {}), Validated(24, 24 / 1868, 0.5, 0.5, 0.5, 9, False)]
    said = printed("plain", events)
    assert "184 steps in 0.099 epochs on cpu\n" in said
    assert "validation (epoch 0.013, step 24): " in said
    assert "epoch 0.013/0.099  step 24/184\n" in printed("plain", events[:2])
    assert "184 steps in 15.3 epochs" in printed("plain", [replace(started, n_epochs=46 / 3)])


def test_a_step_without_figures_is_printed_too():
    assert printed("plain", [Stepped(1, 2, 0.5, {"reward": None})]) == "epoch 0.5  step 1/2\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_mode_is_live_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert choose_mode(False, Terminal()) == "live"
    assert choose_mode(True, Terminal()) == "quiet"
    assert choose_mode(False, io.StringIO()) == "plain"
    monkeypatch.setenv("TERM", "dumb")
    assert choose_mode(False, Terminal()) == "plain"


def at(mean: float, half: float = 0.03) -> Estimate:
    return Estimate(mean, (mean - half, mean + half), 200)


SUMMARY = Summary(
    headline="Mean reward on the test rows went from 0.412 to 0.913.",
    split="test",
    table=(
        SummaryRow("reward", at(0.412), at(0.913), at(0.501)),
        SummaryRow("[b]a_component_with_a_name_longer_than_its_column[/b]", at(0.1), at(0.2), at(-0.1)),
    ),
    notes=("240 test rows.", "Training reward 0.4 -> 0.9."),
    completions=(
        CompletionPair(
            "better",
            "Triage this.\n\n" + "words " * 40 + "order #1",
            "no \x1b[31m[red]",
            '{"team": "x"}',
            0.1,
            1.0,
        ),
        CompletionPair("worse", "p", "", "long " * 100, 1.0, 0.0),
    ),
    run="runs/20260101-000000-tiny-with-a-rather-long-name-that-nobody-should-see-broken-over-two-lines",
    next="rft export runs/20260101-000000-tiny-with-a-rather-long-name-that-nobody-should-see-broken-over-two-lines",
)


@pytest.mark.parametrize("width", [80, 120])
def test_summary_fits_the_terminal_and_shows_everything(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    print_summary(SUMMARY, out)
    text = out.getvalue()
    lines = text.splitlines()
    assert "Mean reward on the test rows went from 0.412 to 0.913." in lines
    reward = next(line for line in lines if line.startswith("reward"))
    assert reward.split("  ", 1)[1].split() == [
        "0.412",
        "[0.38,",
        "0.44]",
        "0.913",
        "[0.88,",
        "0.94]",
        "+0.501",
        "[+0.47,",
        "+0.53]",
    ]
    assert "no �[31m[red]" in text
    assert "(empty)" in text
    assert any("order #1" in line and line.startswith("better  0.100 -> 1.000") for line in lines)
    assert f"run   {SUMMARY.run}" in lines
    assert f"next  {SUMMARY.next}" in lines
    assert max(len(line) for line in lines if SUMMARY.run not in line) <= width
    assert "\x1b" not in text


def test_checks_and_estimates():
    out = io.StringIO()
    print_checks(
        [Check("model", True, "m"), Check("grader", False, "bad [x]"), Check("test", None, "not given")], out
    )
    print_estimates("validation rows, m", {"reward": at(0.5), "json": at(0.25)}, out)
    print_comparison("m against step 3", SUMMARY.table[:1], out)
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines == [
        "ok model m",
        "problem grader bad [x]",
        "– test not given",
        "validation rows, m mean [95 %] rows",
        "reward 0.500 [0.47, 0.53] 200",
        "json 0.250 [0.22, 0.28] 200",
        "m against step 3",
        "validation rows before after difference",
        "reward 0.412 [0.38, 0.44] 0.913 [0.88, 0.94] +0.501 [+0.47, +0.53]",
        "Means over rows, 95 % bootstrap intervals; the difference is paired by row.",
    ]
