"""The unit of pretraining text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialogue:
    """One user message and the assistant's completion."""

    user: str
    assistant: str
