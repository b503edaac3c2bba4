"""What the parts of a job share in one process."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from rft_cli.config import RunConfig
from rft_cli.events import OnEvent
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job
from rft_cli.stopping import Stop, interruption
from rft_cli.training.auto import LengthLimits
from rft_cli.training.distributed.group import stop_asked
from rft_cli.training.rollouts.engines.vllm import VllmEngine


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job with its tokenizer, its open grader and, where it has one, its open guard.

    `emit` takes events, of which process 0's alone are shown. `engine`: what samples completions, where the trainer's
    own process does not.
    """

    job: Job
    tokenizer: PreTrainedTokenizerBase
    limits: LengthLimits
    grader: Grader
    emit: OnEvent
    stop: Stop
    guard: Grader | None = None
    engine: VllmEngine | None = None

    @property
    def config(self) -> RunConfig:
        return self.job.config

    def check_stop(self) -> None:
        """Raise Interrupted where a stop was asked for, at a point where nothing is lost; all processes call this."""
        number = stop_asked(self.stop)
        if number is not None:
            raise interruption(number)
