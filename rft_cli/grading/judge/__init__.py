"""Judges: models behind an OpenAI-compatible endpoint that grade, `score_model` and `label_model`."""

from rft_cli.grading.judge.book import JudgeBook
from rft_cli.grading.judge.grader import JudgeGrader, open_judge
from rft_cli.grading.judge.ledger import Usage
from rft_cli.grading.judge.task import JudgeTask, Render

__all__ = ["JudgeBook", "JudgeGrader", "JudgeTask", "Render", "Usage", "open_judge"]
