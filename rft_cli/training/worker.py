"""One of several training processes: `python -m rft_cli.training.worker RUN`, started by `launch`."""

from __future__ import annotations

import dataclasses
import faulthandler
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from time import sleep
from typing import NoReturn

from rft_cli.stopping import Stop
from rft_cli.training.distributed.channel import ADDRESS, Reporter
from rft_cli.training.distributed.ranks import DUMP_SIGNAL, die_with_parent
from rft_cli.training.distributed.vitals import Examiner

LOOK_S = 0.25
LOOKS_A_SIGN = 4


def main(arguments: list[str]) -> NoReturn:
    """Train the run that the parent made; its lock and status are the parent's business."""
    die_with_parent()
    faulthandler.enable()
    faulthandler.register(DUMP_SIGNAL)
    stop = Stop()
    reporter = Reporter(os.environ[ADDRESS], int(os.environ["RANK"]), stop.note)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
    ):  # to all of the job, in Slurm
        signal.signal(number, lambda number, _: stop.note(number))
    threading.Thread(target=_give_signs, args=(reporter,), daemon=True).start()
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
    os._exit(
        code
    )  # all is said and closed; the interpreter's end with torch in it takes seconds, and may abort


def _train(path: Path, reporter: Reporter, stop: Stop, resume: bool) -> None:
    # Imported here, where signs of life are given already: it takes seconds.
    from rft_cli.config.load import load_own
    from rft_cli.job import load_job
    from rft_cli.runs import Run
    from rft_cli.training.distributed.group import leave
    from rft_cli.training.main import train

    run = Run(path)
    job = load_job(load_own(run.path).config)
    train(job, run, reporter.event, resume=resume, stop=stop)
    leave()


def _give_signs(reporter: Reporter) -> None:
    """Look often, so that short phases are seen too; tell once a second."""
    examiner = Examiner()
    while True:
        for _ in range(LOOKS_A_SIGN):
            vitals = examiner.look()
            sleep(LOOK_S)
        reporter.sign(dataclasses.asdict(vitals))


if __name__ == "__main__":
    main(sys.argv[1:])
