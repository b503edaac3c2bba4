"""The worker process: reads requests from one pipe, writes answers to another, ends when the first one is closed."""

from __future__ import annotations

import contextlib
import marshal
import os
import pickle
from typing import NoReturn

from rft_cli.grading.isolation.process import CUT_OFF
from rft_cli.grading.worker.fresh import FreshWorker
from rft_cli.grading.worker.messages import read_request, write_answer
from rft_cli.grading.worker.worker import Worker

_base_exception, _dumps, _loads, _quit, _tuple = BaseException, marshal.dumps, marshal.loads, os._exit, tuple
_unpickle = pickle.loads


def main(requests: int, answers: int) -> NoReturn:
    """Run until the end of this process: load the scorer, then grade what is asked for.

    The first message is a pickled triple, the setup, this worker's folder and its token; the first answer is the
    pickled LoadReport as a plain tuple. Then come a pickled binding and works, and `Outcome`s as plain tuples go out.
    """
    with contextlib.suppress(_base_exception):
        setup, folder, token = _unpickle(read_request(requests))
        worker = (FreshWorker if setup.fresh else Worker)(setup, folder, (requests, answers))
        write_answer(answers, token, pickle.dumps(_tuple(worker.load())))
        while True:
            binding, works = _loads(read_request(requests))
            worker.bind(binding)
            write_answer(answers, token, _dumps([_tuple(outcome) for outcome in worker.grade(works)]))
    _quit(CUT_OFF)
