"""Ways in which a scorer misbehaves: what each does, and what comes of it. docs/graders.md shows them as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Mode:
    """`body` is the scorer's code for one completion; `outcome` the kind of failure, a reward, or None for skipped.

    `alone`: why other grades are kept only where each is graded in a process of its own (`grader.fresh`): it changes
    the state of its process, or attacks the parent of it.
    """

    name: str
    what: str
    body: str
    outcome: str | float | None
    alone: Literal["", "state", "parent"] = ""


MODES = (
    Mode("raise", "raises an exception", "1 / 0", "raised"),
    Mode("system_exit", "calls `sys.exit(0)`", "sys.exit(0)", "raised"),
    Mode("keyboard_interrupt", "raises KeyboardInterrupt", "raise KeyboardInterrupt", "raised"),
    Mode("raise_silent", "raises an exception whose text raises too", "raise Silent", "raised"),
    Mode("raise_endless", "raises an exception whose text never ends", "raise Endless", "timeout"),
    Mode("recursion", "calls itself without end", "EVIL['recursion'](example)", "raised"),
    Mode("os_exit", "calls `os._exit(0)`", "os._exit(0)", "died"),
    Mode("c_exit", "ends the process with code 0, from C", "ctypes.CDLL(None)._exit(0)", "died"),
    Mode("exec", "replaces its process by another program", "os.execv('/bin/true', ['true'])", "died"),
    Mode("segfault", "reads address 0", "ctypes.string_at(0)", "died"),
    Mode("abort", "calls `abort()`", "os.abort()", "died"),
    Mode("kill", "is killed with SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)", "died"),
    Mode("terminate", "is ended with SIGTERM", "os.kill(os.getpid(), signal.SIGTERM)", "died"),
    Mode("interrupt", "gets a SIGINT", "os.kill(os.getpid(), signal.SIGINT); return 0.25", 0.25),
    Mode("hang", "loops in Python", "hang()", "timeout"),
    Mode(
        "hang_in_c", "hangs in C, holding the interpreter's lock", "ctypes.PyDLL(None).sleep(1000)", "timeout"
    ),
    Mode("regex", "runs a regular expression without end", "re.match('(a+)+b', 'a' * 60)", "timeout"),
    Mode(
        "lock",
        "waits for a lock that nobody frees",
        "lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "timeout",
    ),
    Mode("swallow", "swallows the interruption, and loops on", "swallow()", "timeout"),
    Mode("late", "swallows the interruption, and returns a reward", "return late()", "timeout"),
    Mode(
        "deaf",
        "ignores SIGALRM, and loops",
        "signal.signal(signal.SIGALRM, signal.SIG_IGN); hang()",
        "timeout",
    ),
    Mode(
        "own_alarm",
        "sets handler and timer of SIGALRM for itself",
        "signal.signal(signal.SIGALRM, lambda *a: 1 / 0); signal.setitimer(signal.ITIMER_REAL, 0.001); return 0.25",
        0.25,
    ),
    Mode(
        "allocate",
        "allocates without end (`grader.memory_mb` is set)",
        "hold = [bytes(1 << 26) for _ in forever()]",
        "raised",
    ),
    Mode("child", "forks a child that lives on", "child(); return 0.25", 0.25),
    Mode("twin", "forks a child that returns from the scorer as well", "os.fork(); return 0.25", 0.25),
    Mode("daemon", "starts a program in a session of its own", "program('/'); return 0.25", 0.25),
    Mode("fork_daemon", "forks twice, into another session and folder", "daemon(); return 0.25", 0.25),
    Mode(
        "thread",
        "leaves a thread running",
        "threading.Thread(target=time.sleep, args=(1000,)).start(); return 0.25",
        0.25,
    ),
    Mode("at_exit", "hangs when its process is to end", "atexit.register(hang); return 0.25", 0.25),
    Mode("prints", "prints, and writes to descriptors 1 and 2", "prints(); return 0.25", 0.25),
    Mode("flood", "prints 20 MB", "[print('x' * 1_000_000) for _ in range(20)]; return 0.25", 0.25),
    Mode(
        "close_streams",
        "closes sys.stdout, sets sys.stderr to None",
        "sys.stdout.close(); sys.stderr = None; return 0.25",
        0.25,
    ),
    Mode("close_descriptors", "closes descriptors 0 to 255", "os.closerange(0, 256); return 0.25", "died"),
    Mode("close_output", "closes descriptors 1 and 2", "os.close(1); os.close(2); return 0.25", 0.25),
    Mode("read_stdin", "reads standard input", "input()", "raised"),
    Mode("nan", "returns NaN", "return float('nan')", "bad_value"),
    Mode("inf", "returns infinity", "return float('-inf')", "bad_value"),
    Mode("string", "returns a string", "return '0.5'", "bad_value"),
    Mode("none", "returns None", "return None", None),
    Mode("list", "returns a list", "return [1.0]", "bad_value"),
    Mode("huge_int", "returns an integer of 400 digits", "return 10**400", "bad_value"),
    Mode("complex", "returns a complex number", "return 1j", "bad_value"),
    Mode("generator", "returns a generator", "return (x for x in [1.0])", "bad_value"),
    Mode("no_reward", "returns a dict without `reward`", "return {'points': 1.0}", "bad_value"),
    Mode("odd_number", "returns a number whose value never comes", "return Odd()", "timeout"),
    Mode("chdir", "changes its folder", "os.chdir('/'); return 0.25", 0.25),
    Mode("remove_folder", "removes its folder", "os.rmdir(os.environ['TMPDIR']); return 0.25", 0.25),
    Mode("patch_builtins", "replaces `float`, `isinstance` and `len`", "patch_builtins(); return 0.25", 0.25),
    Mode(
        "patch_modules",
        "replaces functions of `os`, `time`, `signal`",
        "patch_modules(); return 0.25",
        0.25,
        "state",
    ),
    Mode("clear_modules", "empties `sys.modules`", "sys.modules.clear(); return 0.25", 0.25, "state"),
    Mode("recursion_limit", "lowers the recursion limit", "sys.setrecursionlimit(60); return 0.25", 0.25),
    Mode(
        "trace", "sets a trace function that raises", "sys.settrace(lambda *a: 1 / 0); return 0.25", "raised"
    ),
    Mode("change_row", "empties its row", "example.clear(); return 0.25", 0.25),
    Mode("patch_json", "replaces `json.loads`", "json.loads = None; return 0.25", 0.25, "state"),
    Mode("patch_random", "replaces `random.random`", "random.random = lambda: 9; return 0.25", 0.25, "state"),
    Mode(
        "patch_method",
        "replaces a method of a class of Python's",
        "json.JSONDecoder.decode = None; return 0.25",
        0.25,
        "state",
    ),
    Mode("patch_constant", "changes `math.pi`", "math.pi = 3; return 0.25", 0.25, "state"),
    Mode(
        "patch_code",
        "replaces the code of a function",
        "helper.__code__ = hang.__code__; return 0.25",
        0.25,
        "state",
    ),
    Mode(
        "patch_helper",
        "replaces a function of the scorer's",
        "globals()['helper'] = hang; return 0.25",
        0.25,
        "state",
    ),
    Mode(
        "shadow",
        "hides a built-in behind a global",
        "globals()['len'] = lambda value: 999; return 0.25",
        0.25,
        "state",
    ),
    Mode("patch_rft", "replaces functions of rft", "patch_rft(); return 0.25", "raised", "state"),
    Mode(
        "patch_new",
        "imports a module and replaces its functions",
        "import colorsys; colorsys.rgb_to_hsv = hang; return 0.25",
        0.25,
        "state",
    ),
    Mode(
        "block_import",
        "makes a module impossible to import",
        "sys.modules['colorsys'] = None; return 0.25",
        0.25,
        "state",
    ),
    Mode(
        "hook", "adds an audit hook that raises", "sys.addaudithook(refuse_open); return 0.25", 0.25, "state"
    ),
    Mode(
        "few_files",
        "lowers the limit of open files",
        "limit(resource.RLIMIT_NOFILE, 3); return 0.25",
        0.25,
        "state",
    ),
    Mode(
        "small_files",
        "lowers the limit of file sizes",
        "limit(resource.RLIMIT_FSIZE, 0); return 0.25",
        0.25,
        "state",
    ),
    Mode(
        "little_memory",
        "lowers the memory limit",
        "limit(resource.RLIMIT_AS, 1 << 20); return 0.25",
        0.25,
        "state",
    ),
    Mode(
        "block_signals",
        "blocks signals",
        "signal.pthread_sigmask(signal.SIG_BLOCK, {14}); return 0.25",
        0.25,
        "state",
    ),
    Mode("umask", "sets a umask", "os.umask(0o777); return 0.25", 0.25, "state"),
    Mode(
        "no_path", "changes `os.environ['PATH']`", "os.environ['PATH'] = '/none'; return 0.25", 0.25, "state"
    ),
    Mode(
        "unwatched",
        "hangs in C after turning rft's watchdog off",
        "faulthandler.cancel_dump_traceback_later(); ctypes.PyDLL(None).sleep(1000)",
        "timeout",
    ),
    Mode("new_environment", "replaces `os.environ`", "os.environ = {}; return 0.25", 0.25, "state"),
    Mode(
        "stop_parent",
        "stops its parent process with SIGSTOP",
        "os.kill(os.getppid(), 19); hang()",
        "died",
        "parent",
    ),
    Mode("stop", "stops its process with SIGSTOP", "os.kill(os.getpid(), signal.SIGSTOP)", "died"),
    Mode("garbage", "writes to every descriptor it has", "garbage(); return 0.25", "died"),
    Mode(
        "kill_parent",
        "kills its parent process",
        "os.kill(os.getppid(), signal.SIGKILL); hang()",
        "died",
        "parent",
    ),
    Mode(
        "interrupt_parent",
        "sends SIGINT to its parent",
        "os.kill(os.getppid(), signal.SIGINT); return 0.25",
        0.25,
        "parent",
    ),
    Mode("environment", "empties its environment", "os.environ.clear(); return 0.25", 0.25, "state"),
    Mode(
        "parent_prints",
        "writes to its parent's standard output",
        "parent_prints(); return 0.25",
        0.25,
        "parent",
    ),
)

_HEAD = """
import atexit, ctypes, faulthandler, json, math, os, random, re, resource, signal, subprocess, sys, threading, time
from itertools import count as forever
from numbers import Number

HOME = os.getcwd()


class Silent(Exception):
    def __str__(self):
        raise ValueError


class Endless(Exception):
    def __str__(self):
        hang()


class Odd(Number):
    __hash__ = None

    def __float__(self):
        hang()


def hang():
    while True:
        pass


def swallow():
    while True:
        try:
            hang()
        except BaseException:
            pass


def late():
    try:
        hang()
    except BaseException:
        return 1.0


def child():
    if os.fork() == 0:
        time.sleep(1000)


def program(folder):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True, cwd=folder)


def daemon():
    if os.fork() == 0:
        os.setsid()
        os.chdir("/")
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)


def prints():
    print("to stdout")
    os.write(1, b"to descriptor 1\\n")
    os.write(2, b"to descriptor 2\\n")


def parent_prints():
    with open(f"/proc/{os.getppid()}/fd/1", "a") as file:
        file.write("to the parent's descriptor 1\\n")


def patch_builtins():
    import builtins
    builtins.float = lambda value: 999.0
    builtins.isinstance = lambda *a: True
    builtins.len = None


def patch_modules():
    os.getpid = os.chdir = os._exit = time.perf_counter = signal.setitimer = signal.signal = None


def patch_rft():
    from rft_cli.grading.worker import return_values as values
    from rft_cli.grading.worker import worker
    worker.Worker.returned_for = worker.read_return = values.read_return = None


def refuse_open(event, arguments):
    if event == "open":
        raise OSError


def limit(what, most):
    resource.setrlimit(what, (most, most))


def garbage():
    for number in range(3, 256):
        try:
            os.write(number, b"garbage" * 20)
        except OSError:
            pass


def helper(text):
    return len(text)


"""

_TAIL = """

def score(completion, example):
    if completion in EVIL:
        return EVIL[completion](example)
    assert os.getcwd() == HOME  # before each grade
    kept = os.path.join(os.environ["TMPDIR"], "kept")
    print("grading", completion)
    import colorsys
    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert json.loads("[1]") == [1] and 0 <= random.random() < 1 and math.pi > 3.1
    assert os.environ["PATH"] != "/none"
    with open(kept, "wb") as file:
        file.write(b"x")
    with open(kept, "rb") as file:
        assert file.read() == b"x"
    os.remove(kept)
    return {"reward": example["number"] / 1000, "length": helper(completion)}
"""


def scorer() -> str:
    """The source of a scorer that misbehaves where the completion is a mode's name."""
    functions = (f"def do_{mode.name}(example):\n    {mode.body}\n\n\n" for mode in MODES)
    table = ",\n".join(f"    {mode.name!r}: do_{mode.name}" for mode in MODES)
    return f"{_HEAD}{''.join(functions)}EVIL = {{\n{table},\n}}\n{_TAIL}"


def table() -> str:
    """The modes as a Markdown table."""
    rows = [f"| {mode.what} | {_said(mode.outcome)} | {_kept(mode)} |" for mode in MODES]
    head = "| the scorer, in one of 200 grades | that grade | the others, in shared mode |"
    return "\n".join([head, "|---|---|---|", *rows])


def _said(outcome: str | float | None) -> str:
    if outcome is None:
        return "skipped"
    return f"failed: `{outcome}`" if isinstance(outcome, str) else "graded with what it returned"


def _kept(mode: Mode) -> str:
    return {"": "kept", "state": "not protected", "parent": "it hits `rft` itself"}[mode.alone]
