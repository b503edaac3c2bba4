"""Imports what a job needs, then forks a child for each command it is asked for, one JSON request a line.

`{"folder", "arguments", "given", "out", "err", "before", "environment"}` starts a command and answers its process's
number.
`{"wait", "seconds"}` answers the exit code (negative: the signal), or a string where it took too long and was killed.
"""

import json
import os
import signal
import sys
import time
import traceback

import rft_cli.training.main  # noqa: F401  (what takes seconds)
from rft_cli.cli import main


def child(request):
    """The command line's entry point, as a process of its own would run it."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    given = os.open(request["given"], os.O_RDONLY)
    said = (os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err"))
    for target, source in enumerate((given, *said)):
        os.dup2(source, target)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(n, mode, closefd=False, encoding="utf-8", buffering=1)
        for n, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exec(request["before"], {})
    sys.argv = ["rft", *request["arguments"]]
    main()


def start(request):
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        child(request)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def wait(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return f"still running after {seconds} s"


for line in sys.stdin:
    asked = json.loads(line)
    answer = wait(asked["wait"], asked["seconds"]) if "wait" in asked else start(asked)
    print(json.dumps(answer), flush=True)
# With torch loaded the interpreter's own end takes seconds.
os._exit(0)
