"""One of several training processes: `python -m rft_cli.training.worker RUN`, started by `launch`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rft_cli.config.load import load_config
from rft_cli.job import load_job
from rft_cli.runs import Run
from rft_cli.training.launch import ADDRESS, Reporter, end_process_group
from rft_cli.training.main import train


def main(arguments: list[str]) -> int:
    """Train the run that the parent made; its lock and status are the parent's business."""
    run = Run(Path(arguments[0]))
    reporter = Reporter(os.environ[ADDRESS])
    try:
        job = load_job(load_config(str(run.path / "config.yaml"), overrides={}, sets=[], env={}).config)
        train(job, run, reporter.event, resume="--resume" in arguments)
    except BaseException as error:
        reporter.error(error)
        raise
    finally:
        end_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
