"""The main program of one of several training processes, started by `distributed/launch.py`."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from rft_cli.stopping import Stop
from rft_cli.training.distributed.channel import SOCKET, Reporter
from rft_cli.training.distributed.ranks import DUMP_SIGNAL, die_with_parent


def main(arguments: list[str]) -> NoReturn:
    """Train the run that the parent made, which holds its lock and writes its status."""
    die_with_parent()
    faulthandler.enable()
    faulthandler.register(DUMP_SIGNAL)
    stop = Stop()
    reporter = Reporter(int(os.environ[SOCKET]), int(os.environ["RANK"]), stop.note)
    # Slurm sends them to every process of a job.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, _: stop.note(number))
    try:
        _train(Path(arguments[0]), reporter, stop, resume="--resume" in arguments)
    except BaseException as error:
        reporter.error(error)
        print(f"process {os.environ['RANK']}:\n{traceback.format_exc()}", file=sys.stderr)
        code = 1
    else:
        reporter.goodbye()
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    # With torch loaded the interpreter's own end takes seconds, and may abort.
    os._exit(code)


def _train(path: Path, reporter: Reporter, stop: Stop, resume: bool) -> None:
    # Imported once signals are handled: it takes seconds.
    from rft_cli.config.load import load_own
    from rft_cli.job import load_job
    from rft_cli.runs import Run
    from rft_cli.training.distributed.group import leave
    from rft_cli.training.main import train

    run = Run(path)
    job = load_job(load_own(run.path).config)
    train(job, run, reporter.event, resume=resume, stop=stop)
    leave()


if __name__ == "__main__":
    main(sys.argv[1:])
