"""`multi`: a formula over the rewards of named graders."""

from __future__ import annotations

from collections.abc import Mapping

from rft_cli.grading.combined import CombinedGrader
from rft_cli.grading.openai.formula import Formula, FormulaError
from rft_cli.grading.protocol import PartGrader
from rft_cli.types import Grade, GradeError


class MultiGrader(CombinedGrader):
    """The formula's value; a part that fails fails the completion, a part that skips it skips it."""

    def __init__(self, parts: Mapping[str, PartGrader], formula: Formula) -> None:
        super().__init__(parts)
        self._formula = formula

    def reward(self, grades: Mapping[str, Grade]) -> float | GradeError | None:
        """The formula's value."""
        for name, grade in grades.items():
            if grade.error is not None:
                return GradeError(grade.error.kind, f"{name}: {grade.error.message}", grade.error.trace)
        rewards = {name: grade.reward for name, grade in grades.items() if grade.reward is not None}
        if len(rewards) < len(grades):
            return None
        try:
            return self._formula.value(rewards)
        except FormulaError as error:
            return GradeError("formula", str(error))
