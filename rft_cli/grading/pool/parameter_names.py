"""The names that people give to the parameters of reward functions, and what each of them means."""

from __future__ import annotations

from rft_cli.grading.worker.signature import Role

COMPLETION = ("completion", "solution_str", "prediction", "response", "output", "text", "generated_text")
COMPLETIONS = (
    "completions", "solution_strs", "predictions", "responses", "outputs", "texts", "generated_texts", "queries",
)  # fmt: skip
"""The model's text, the surest name first; the plural ones belong to functions that get a list."""
EXAMPLE = ("example", "item", "row", "examples", "items", "rows")
SAMPLE = ("sample", "samples")
PLURAL = frozenset({*COMPLETIONS, "samples"})

OTHERS: dict[str, Role] = {
    **dict.fromkeys(("prompt", "prompts"), "prompt"),
    **dict.fromkeys(
        ("ground_truth", "ground_truths", "reference", "references", "reference_answer"), "reference"
    ),
    **dict.fromkeys(
        ("target", "targets", "label", "labels", "expected", "gold", "solution", "solutions"), "reference"
    ),
    **dict.fromkeys(("expected_output", "expected_response", "expected_answer", "gold_answer"), "reference"),
    **dict.fromkeys(("data_source", "data_sources", "extra_info", "extra_infos"), "row_or_empty"),
    "metadata": "metadata",
    "completion_ids": "ids",
    "trainer_state": "nothing",
    **dict.fromkeys(("log_metric", "log_extra"), "logger"),
}
"""What these mean where the rows have no key of the name."""
FILLED_THOUGH_OPTIONAL = frozenset({"prompt", "prompts", "metadata", "completion_ids"})
"""Names among them that are given also where the parameter has a default."""
OF_TRL = frozenset({"prompts", "completion_ids", "trainer_state", "log_metric", "log_extra"})
PLURAL_OTHERS = frozenset({"prompts", "completion_ids", "ground_truths", "data_sources", "extra_infos"})

_SAYS_REFERENCE = frozenset(
    {"expected", "reference", "ref", "gold", "target", "truth", "correct", "true", "label"}
)
_SAYS_COMPLETION = frozenset(
    {"completion", "output", "response", "prediction", "generation", "generated", "pred"}
)
_SAYS_ROW = frozenset({"row", "example", "item", "record"})


NEVER_BY_POSITION = frozenset({"messages", "conversation", "history", "question", "state", "info", "parser"})
"""Names that say that neither the completion nor the row is meant."""


def sounds_like(name: str) -> Role | None:
    """What an unknown name says by its parts: model_output the completion, label_row the row, y_true the reference."""
    parts = set(name.lower().split("_"))
    if parts & _SAYS_ROW:
        return "example"
    if parts & _SAYS_REFERENCE:
        return "reference"
    return "completion" if parts & _SAYS_COMPLETION else None
