"""The parity table as a page: `python -m tests.grading.openai.parity_page docs/graders-parity.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.grading.openai.parity_table import (
    COSINE,
    FORMULAS,
    JUDGED,
    METEOR,
    METRICS,
    OPERATIONS,
    PYTHON,
    ROW,
    TEMPLATES,
    Judged,
    Metric,
    expected_rewards,
)

INTRODUCTION = """# OpenAI's graders, case by case

Generated from `tests/grading/openai/parity_table.py` by
`python -m tests.grading.openai.parity_page docs/graders-parity.md`. `tests/grading/openai/test_parity.py` runs every
case through `rft` and fails if one differs by more than 1e-12.

{count} cases, {between} of them with a reward that is neither 0 nor 1. No expected value comes from `rft`: those of
metrics were computed by calling the named library (nltk 3.10.4, rapidfuzz 3.14.6, rouge-score 0.1.2, sacrebleu 2.6.0),
which a test does again; all others are by hand. OpenAI publishes which metrics there are and, for `fuzzy_match`, which
library; its tokens and smoothing are not published, so these rows say what `rft` computes, not what a hosted run gave.
"""


def page() -> str:
    """The page's text."""
    rewards = expected_rewards()
    between = sum(reward not in (0.0, 1.0) for reward in rewards)
    rules = ("metric", "input", "reference", "reward", "source")
    sections = [
        INTRODUCTION.format(count=len(rewards), between=between),
        _section("text_similarity", rules, map(_metric, METRICS)),
        _section(
            "text_similarity: meteor, with a WordNet in which car and auto are synonyms",
            rules,
            map(_metric, METEOR),
        ),
        _section(
            "text_similarity: cosine, with an endpoint whose vector of a text is the numbers in it",
            rules,
            map(_metric, COSINE),
        ),
        _section(
            "multi: calculate_output with one = 1, zero = 0, two_thirds = 2/3, nine_tenths = 0.9",
            ("formula", "reward", "source"),
            ((_code(formula), _number(reward), "by hand") for formula, reward in FORMULAS),
        ),
        _section(
            "string_check",
            ("operation", "input", "reference", "reward", "source"),
            ((name, _code(a), _code(b), _number(reward), "by hand") for name, a, b, reward in OPERATIONS),
        ),
        _section(
            "score_model and label_model, with a judge whose replies are fixed",
            ("grader", "message", "completion", "the judge is asked", "and replies", "reward", "source"),
            map(_judged, JUDGED),
        ),
        _section(
            "python",
            ("source of the grader", "completion", "row", "reward", "source"),
            (
                (_code(source), _code(completion), _code(json.dumps(row)), _number(reward), "by hand")
                for source, completion, row, reward in PYTHON
            ),
        ),
        _section(
            f"Templates, on the row {_code(json.dumps(ROW, ensure_ascii=False))}",
            ("template", "completion", "becomes", "source"),
            (
                (_code(template), _code(completion), _code(text), "by hand")
                for template, completion, text in TEMPLATES
            ),
        ),
    ]
    return "\n".join(sections)


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _metric(case: Metric) -> tuple[str, ...]:
    return (case.metric, _code(case.text), _code(case.reference), _number(case.expected), case.source)


def _judged(case: Judged) -> tuple[str, ...]:
    settings = {key: value for key, value in case.settings.items() if key != "type"}
    grader = f"{case.settings['type']} {_code(json.dumps(settings))}" if settings else case.settings["type"]
    texts = (case.template, case.completion, case.asked, case.reply)
    return (grader, *map(_code, texts), _number(case.expected), "by hand")


def _number(value: float) -> str:
    return f"{value:.12g}"


def _code(text: str) -> str:
    """The text as code inside a table, its line ends and spaces visible."""
    shown = text.replace("\n", "↵").replace("\t", "⇥").replace("|", "\\|")
    if "`" in shown:
        return f"```` {shown} ````"
    return f"`{shown.replace(' ', '␣') if shown != shown.strip() else shown}`" if shown else "(empty)"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
