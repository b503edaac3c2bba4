"""`grader.sandbox: openai`: what OpenAI's graders are held to, so that a grader that passes here passes there.

Source under 256 kB, two minutes a grade, 2 GB of memory, no network, a function grade(sample, item) that returns a
number, no files beside it (reference: the python grader of OpenAI's reinforcement fine-tuning). Disk and CPU are not
limited, and packages are those of rft's environment.
"""

from __future__ import annotations

from typing import NamedTuple

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError
from rft_cli.grading.load import ScorerSource

SOURCE_BYTES = 256_000
TIMEOUT_S = 120.0
MEMORY_MB = 2048


class Limits(NamedTuple):
    """Seconds that a grade may take, and megabytes of a worker's address space (None: no limit)."""

    timeout_s: float
    memory_mb: int | None


def limits_of(config: GraderConfig) -> Limits:
    """The limits of `grader`. In the sandbox they are OpenAI's, unless tighter ones are set."""
    if config.sandbox != "openai":
        return Limits(config.timeout_s, config.memory_mb)
    timeout = config.timeout_s if "timeout_s" in config.model_fields_set else TIMEOUT_S
    return Limits(min(timeout, TIMEOUT_S), min(config.memory_mb or MEMORY_MB, MEMORY_MB))


def check_size(source: ScorerSource) -> None:
    """Raise UsageError where the source is larger than OpenAI takes."""
    size = len(source.content)
    if size >= SOURCE_BYTES:
        message = (
            f"{source.shown}: {size / 1000:.0f} kB of source, and grader.sandbox: openai takes under 256 kB"
        )
        raise UsageError(message, "move tables and texts out of the source, into the data rows")
