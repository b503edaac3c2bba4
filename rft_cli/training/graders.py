"""Every kind of grader behind one call. torch is loaded only where the grader is a reward model."""

from __future__ import annotations

from pathlib import Path

from rft_cli.config.schema import GraderConfig
from rft_cli.grading import open as torch_free
from rft_cli.grading.protocol import Grader, OnOutput
from rft_cli.grading.shape import Shape
from rft_cli.grading.source import is_reward_model


def open_grader(
    config: GraderConfig,
    *,
    log_path: Path | None,
    seed: int = 0,
    on_output: OnOutput | None = None,
    brief: bool = False,
    rows: Shape | None = None,
) -> Grader:
    """Open the grader that `config` names: scorers, a spec or a reward model; see `rft_cli.grading.open`."""
    if is_reward_model(config):
        from rft_cli.training.reward_model import open_reward_model

        assert config.file is not None
        return open_reward_model(config.file, config.reward_model)
    return torch_free.open_grader(
        config, log_path=log_path, seed=seed, on_output=on_output, brief=brief, rows=rows
    )
