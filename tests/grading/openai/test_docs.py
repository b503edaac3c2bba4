"""The specs in docs/graders.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rft_cli.config.load import load_config
from rft_cli.grading.open import open_grader
from rft_cli.grading.openai.formula import FUNCTIONS
from rft_cli.grading.openai.schema import MODELS, TextSimilarity
from rft_cli.types import GradeRequest

PAGE = (Path(__file__).parents[3] / "docs" / "graders.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## OpenAI's graders\n")[2].partition("\n## ")[0]


def test_the_multi_grader(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
    (tmp_path / "job.yaml").write_text(block)
    config = load_config(str(tmp_path / "job.yaml"), env={}).config.grader
    assert config.timeout_s == 5
    row = {"output": '{"team": "billing", "order": null}'}
    with open_grader(config, log_path=None) as grader:
        made = grader.grade([GradeRequest(text, row) for text in (row["output"], "team billing", "none")])
    # Of the second text, both words are among the four of the reference: F = 2 * 1 * 0.5 / 1.5.
    assert [grade.reward for grade in made] == [1.0, pytest.approx(0.8 * 2 / 3), 0.0]


def test_every_type_metric_and_function_is_named() -> None:
    names = [*MODELS, *FUNCTIONS, *TextSimilarity.model_fields["evaluation_metric"].annotation.__args__]
    shown = SECTION.replace("`rouge_1` … `rouge_5`", " ".join(f"`rouge_{n}`" for n in range(1, 6)))
    assert [name for name in names if f"`{name}`" not in shown] == []
