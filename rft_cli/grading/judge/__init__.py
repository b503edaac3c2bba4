"""Judges: models behind an OpenAI-compatible endpoint that grade, `score_model` and `label_model`."""

from rft_cli.grading.judge.grader import JudgeGrader
from rft_cli.grading.judge.session import JudgeSession
from rft_cli.grading.judge.usage import ModelUsage

__all__ = ["JudgeGrader", "JudgeSession", "ModelUsage"]
