"""The pilot's gate: can this job learn anything, and what helps where it can't, likeliest first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rft_cli.config.suggest import counted
from rft_cli.report.pilot import Figures
from rft_cli.types import Sample

SOLVED = 0.95
"""Share of completions with the highest reward above which there is little left to learn."""
MOSTLY = 0.5
WIDEST = 160
"""Characters of a completion in a message."""
_FORM_WORDS = ("format", "valid", "parse", "json", "schema")
_RAISE = "raise rollout.max_completion_tokens if good completions need more"
_CONTEXT = "shorten the prompts or take a model with a longer context if good completions need more"
_ENDLESS = (
    "a model that never ends by itself needs a chat template with a token that ends a turn: "
    "take an instruct model"
)
_FORM = "show the form in the prompt, with an example, and have the scorer pay a part for the form alone"
_TEACH = (
    "teach it your references first: the same command with --algorithm sft makes a run, and with --model RUN in its "
    "place reinforcement begins with what that has learned"
)
_NO_REFERENCES = (
    "write a reference ('output') for some rows and teach those first with --algorithm sft; then --model RUN"
)
_SAME = (
    "the model always says the same: raise rollout.temperature",
    "where --algorithm sft taught it that, teach it for one epoch: --n-epochs 1",
)
_ZERO = (
    "have the scorer pay for what is partly right",
    "begin with easier rows",
    "take a larger model",
)


@dataclass(frozen=True, slots=True)
class PilotVerdict:
    """ok; little: a warning, the job can hardly gain; nothing: no prompt teaches. `advice`: likeliest first."""

    level: Literal["ok", "little", "nothing"]
    message: str = ""
    advice: tuple[str, ...] = ()


def judge_pilot(
    found: Figures,
    samples: Sequence[Sample],
    references: Mapping[int, str | None],
    fills_context: bool = False,
) -> PilotVerdict:
    """What the samples say of the job. `references`: each row's reference, None if it has none.

    `fills_context`: the limit of a completion is all that the model's context leaves.
    """
    if found.teaches:
        top = max(found.rewards)
        best = sum(s.grade.reward == top for s in samples) / found.statuses["graded"]
        if best <= SOLVED:
            return PilotVerdict("ok")
        said = f"{best:.0%} of the base model's completions earn {top:g}, the most that was seen"
        return PilotVerdict(
            "little", f"{said}: there is little to learn", ("take harder rows, or a stricter scorer",)
        )
    head = (
        "nothing can be learned from these rows: none of "
        f"{counted(found.prompts, 'prompt')} has two completions with different rewards"
    )
    why, advice = _causes(found, samples, references, fills_context)
    return PilotVerdict("nothing", f"{head}\n{why}", tuple(dict.fromkeys(advice)))


@dataclass(frozen=True, slots=True)
class PilotMessage:
    """A verdict in words: what was seen, and what to do about it."""

    message: str
    fix: str


def pilot_message(judged: PilotVerdict, shown: Sequence[Sample]) -> PilotMessage:
    """The verdict with the completions to look at, and its advice, likeliest first."""
    lines = [judged.message]
    if judged.level == "nothing":
        lines += [f"  {_reward(s)}, {counted(s.tokens, 'token')}: {_short(s.completion)}" for s in shown]
    if len(judged.advice) == 1:
        return PilotMessage("\n".join(lines), judged.advice[0])
    advice = [f"({number}) {text}" for number, text in enumerate(judged.advice, 1)]
    return PilotMessage("\n".join(lines), "\n".join(["likeliest first:", *advice]))


def _reward(sample: Sample) -> str:
    reward = sample.grade.reward
    return sample.grade.status if reward is None else f"reward {reward:g}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return f"{flat[:WIDEST]}…" if len(flat) > WIDEST else flat or "(empty)"


def _causes(
    found: Figures, samples: Sequence[Sample], references: Mapping[int, str | None], fills_context: bool
) -> tuple[str, list[str]]:
    """What was seen, in words, and what helps."""
    if not found.rewards:
        return (
            f"the scorer graded none of {found.completions} completions",
            ["see what it says of them with `rft grade`"],
        )
    cut = 1 - found.ended / found.completions
    form = asked_form(samples, references)
    seen: list[str] = []
    advice: list[str] = []
    if cut > MOSTLY:
        all_of = "every completion" if not found.ended else f"{cut:.0%} of the completions"
        seen.append(f"{all_of} ran into the length limit and is graded unfinished")
        advice.append(f"{_CONTEXT if fills_context else _RAISE}; {_ENDLESS}")
    if form is not None:
        seen.append(f"no completion {form}")
        advice.append(_FORM)
    if len(found.rewards) > 1:
        seen.append("a prompt's completions all earn the same, though prompts differ")
        same = len({(s.row, s.completion) for s in samples}) == found.prompts
        advice += (
            _SAME if same else ["have the scorer give better completions of a prompt more, in small steps"]
        )
        return "; ".join(seen), advice
    (reward,) = found.rewards
    seen.append(f"every completion earns {reward:g}")
    if reward <= 0:
        advice += [_TEACH if any(references.values()) else _NO_REFERENCES, *_ZERO]
    elif reward == 1:
        advice.append("the task is solved already: take harder rows, or a stricter scorer")
    else:
        advice.append("have the scorer give better completions more: it gives all the same")
    return "; ".join(seen), advice


def asked_form(samples: Sequence[Sample], references: Mapping[int, str | None]) -> str | None:
    """What no completion has though it is asked for, to follow "no completion"; None if that can't be seen.

    Seen in a component of the scorer's that is named for the form and is 0 throughout, or in references that are JSON
    objects or lists where no completion is.
    """
    named = [
        name
        for sample in samples
        for name in sample.grade.components
        if any(word in name.lower() for word in _FORM_WORDS)
    ]
    for name in dict.fromkeys(named):
        if not any(s.grade.components.get(name) for s in samples):
            return f"has the form that the scorer's `{name}` pays for"
    asked = [s for s in samples if _is_json(references.get(s.row))]
    if asked and len(asked) == len(samples) and not any(_is_json(s.completion) for s in samples):
        return "is JSON, as the references are"
    return None


def _is_json(text: str | None) -> bool:
    """Whether the text is a JSON object or list."""
    if text is None or text.strip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
