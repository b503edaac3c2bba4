"""The pilot's table: one prompt as the model sees it, three graded completions, and what they say of the job."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rft_cli.config.suggest import counted
from rft_cli.console.text import clean, duration, number, one_line

PROMPT_LINES = 12
GRADING_COSTS = 0.2
"""Share of sampling and grading above which a grade's seconds are shown."""
_WIDTH = 22


def pilot_lines(pilot: Mapping[str, Any], width: int) -> str:
    """The document of a pilot (pilot.json) as a table of at most `width` columns."""
    head = f"pilot: {pilot['completions']} completions of {counted(pilot['prompts'], 'prompt')} by the base model"
    # sft does not compare completions of a prompt, and samples in validations alone.
    grouped = pilot["group_size"] > 1
    head += f", sampled as in {'training' if grouped else 'validations'}"
    lines = [*textwrap.wrap(head, width), "  a prompt as the model sees it"]
    lines += _prompt(clean(pilot["prompt"]), width - 4)
    # else they are in the message
    if pilot["verdict"]["level"] != "nothing":
        lines.append("  completions")
        lines += [line for shown in pilot["shown"] for line in _completion(shown, width)]
    for name, text in pilot_figures(pilot):
        wrapped = textwrap.wrap(text, max(20, width - _WIDTH - 2)) or [""]
        lines += [f"  {'' if place else name:<{_WIDTH}}{part}" for place, part in enumerate(wrapped)]
    return "\n".join(line.rstrip() for line in lines)


def _prompt(text: str, width: int) -> list[str]:
    wrapped = [
        part
        for line in text.split("\n")
        for part in (textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=False) or [""])
    ]
    if len(wrapped) > PROMPT_LINES:
        half = PROMPT_LINES // 2
        left_out = len(wrapped) - 2 * half + 1
        wrapped = [*wrapped[:half], f"… ({left_out} lines)", *wrapped[1 - half :]]
    return [f"  | {line}" for line in wrapped]


def _completion(shown: Mapping[str, Any], width: int) -> list[str]:
    """Grade and length on one line, the text below it."""
    grade = shown["grade"]
    reward = grade["status"] if grade["reward"] is None else number(grade["reward"])
    cut = ", cut" if shown["truncated"] else ""
    parts = "  ".join(f"{name} {number(value, 2)}" for name, value in grade["components"].items())
    head = f"    {reward}  {counted(shown['tokens'], 'token')}{cut}"
    if parts:
        head += "  " + one_line(parts, max(20, width - len(head) - 2))
    return [head, f"      {one_line(shown['completion'], max(20, width - 6))}"]


def pilot_figures(pilot: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the pilot found, a name and a text each."""
    total, ended, lengths = pilot["completions"], pilot["ended"], pilot["lengths"]
    text = f"{ended} of {total} by themselves"
    if ended:
        text += f", with {lengths['median']} tokens (median), {lengths['p95']} (95 %)"
    yield "ended", text + f"; tried with at most {pilot['limit_tried']}"
    grades, reward = pilot["grades"], pilot["reward"]
    if reward["mean"] is not None:
        other = [f"{grades[status]} {status}" for status in ("skipped", "failed") if grades[status]]
        yield "mean reward", ", ".join([number(reward["mean"]), *other])
    if pilot["solved"]:
        scale = (
            ""
            if (reward["low"], reward["high"]) == (0.0, 1.0)
            else (f" (0 is {number(reward['low'])}, 100 % is {number(reward['high'])})")
        )
        yield (
            "prompts by solve rate",
            "  ".join(f"{band}: {n}" for band, n in pilot["solved"].items()) + scale,
        )
    groups = pilot["groups"]
    if pilot["group_size"] > 1:
        teaching = groups["total"] - groups["constant"]
        agree = f"in {groups['constant']} all rewards agree"
        yield "groups that teach", f"{teaching} of {groups['total']}; {agree}"
    yield "time", _time(pilot["seconds"])


def _time(seconds: Mapping[str, float | None]) -> str:
    parts = []
    rollout, update, step, job = (seconds.get(name) for name in ("rollout", "update", "step", "job"))
    if rollout is not None and update is not None and step is not None and job is not None:
        parts.append(
            f"about {_seconds(step)} a step, {duration(job)} for the job "
            f"(a rollout batch: sampling {_seconds(rollout)}, training {_seconds(update)})"
        )
    completion, grade = seconds["completion"] or 0.0, seconds["grade"] or 0.0
    if grade > GRADING_COSTS * completion:
        parts.append(f"grading takes {grade / completion:.0%} of sampling, {grade:.2g} s a completion")
    parts.append(f"the pilot took {_seconds(seconds['pilot'] or 0.0)}")
    return "; ".join(parts)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 9.95 else duration(value)
