"""In a worker: runs the scorer file once, finds its function, and describes what went wrong and where.

The scorer is a module that the processes it starts with multiprocessing can import: under spawn and forkserver such a
process starts without the scorer. It gets the names of its functions, and this process's `sys.path`, in which it finds
their module.
"""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from rft_cli.grading.isolation.openai import in_image, install_name, stand_alone
from rft_cli.grading.worker.messages import ScorerSource
from rft_cli.grading.worker.signature import SIGNATURES, Callee, callee_of

MODULE = "rft_scorer"
"""The name of a scorer's module, whatever its file is."""
_FOLDER = "rft_module"
_INSTALLED = ("site-packages", "dist-packages")
_TEXT = """\
__file__ = {path!r}
with open({copy!r}, "rb") as _copy:
    exec(compile(_copy.read(), __file__, "exec"))
"""
FUNCTION_NAMES = (
    "score", "grade", "score_batch", "reward", "compute_score", "lambda_handler", "reward_func", "reward_fn",
    "reward_function",
)  # fmt: skip
"""Names of functions to look for, in this order, where the user names none."""
_TRACE_CHARS = 4000
_MESSAGE_CHARS = 500


@dataclass(eq=False)
class ScorerProblem(Exception):
    """The scorer can't be used: `message` says where and why, `found` are the functions in it."""

    message: str
    fix: str
    trace: str = ""
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedScorer:
    """A function ready to be called. `signature` is for people: "score(completion, example)".

    `place` is its file:line, `callee` what decides how it is called, `defaults` are of its parameters.
    """

    function: Callable[..., Any]
    signature: str
    place: str
    callee: Callee
    defaults: dict[str, Any]


class Raised(NamedTuple):
    """An exception described: `place` is the scorer's own file:line, `text` the exception's last line."""

    place: str
    text: str
    trace: str


def load_scorer(source: ScorerSource, *, openai: bool = False) -> LoadedScorer:
    """Run the file and choose its function; raises ScorerProblem. Call it once in a process.

    `openai`: take only what OpenAI takes, a function grade(sample, item) in a file that stands alone.
    """
    module = _run(source, alone=openai)
    if openai:
        _check_openai(module, source)
    name = source.function or ("grade" if openai else _choose(module, source))
    function = getattr(module, name, None)
    if not callable(function):
        what = "is not a function" if hasattr(module, name) else "no such function"
        raise ScorerProblem(f"{source.shown}: {what}: '{name}'", _say(_public(module)), found=_public(module))
    place = f"{source.shown}:{_line_of(function)}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = f"{place}: {name} has a yield, which makes it a generator: it gives no reward"
        raise ScorerProblem(message, "return the reward")
    try:
        callee = callee_of(function, name)
    except (TypeError, ValueError):
        message = f"{place}: {name} has no signature that Python can read"
        raise ScorerProblem(message, f"use {SIGNATURES}") from None
    defaults = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    return LoadedScorer(function, f"{name}{_parameters(function)}", place, callee, defaults)


def _check_openai(module: ModuleType, source: ScorerSource) -> None:
    function = getattr(module, "grade", None)
    if source.function not in (None, "grade") or not callable(function):
        message = f"{source.shown}: grader.limits: openai takes a function named grade"
        raise ScorerProblem(message, f"write grade(sample, item) ({_say(_public(module))})")
    place = f"{source.shown}:{_line_of(function)}"
    if inspect.iscoroutinefunction(function):
        message = f"{place}: grade is async, and grader.limits: openai takes a plain function"
        raise ScorerProblem(message, "write def grade(sample, item)")
    if not source.inline and list(inspect.signature(function).parameters) != ["sample", "item"]:
        message = f"{place}: grade{_parameters(function)}: grader.limits: openai takes grade(sample, item)"
        raise ScorerProblem(message, "take these two, as OpenAI calls it")


def _run(source: ScorerSource, *, alone: bool) -> ModuleType:
    # The bytes that were hashed are compiled here: no bytecode cache, which could be older or litter the folder.
    module = ModuleType(MODULE)
    module.__file__ = source.path
    sys.modules[MODULE] = module
    # Tracebacks quote these lines, also of a text that is no file.
    lines = source.content.decode("utf-8", "replace").splitlines(keepends=True)
    linecache.cache[source.path] = (len(source.content), None, lines, source.path)
    if alone:
        stand_alone(source.path, f"/{_FOLDER}")
    else:
        let_import(os.path.dirname(source.path), source.home)
    try:
        exec(compile(source.content, source.path, "exec"), module.__dict__)
    except BaseException as error:
        place, text, trace = describe(error, source)
        raise ScorerProblem(f"{place}: {text}", _import_fix(error, alone), trace=trace) from None
    return module


def _import_fix(error: BaseException, alone: bool) -> str:
    if isinstance(error, ModuleNotFoundError) and alone and error.name is not None:
        if in_image(error.name):
            return f"OpenAI's image has it: pip install {install_name(error.name)} in rft's environment"
        return "use what OpenAI's image has, and put your own modules into the file"
    if isinstance(error, ModuleNotFoundError):
        return f"install '{error.name}' in rft's environment, or put it beside the scorer or where you type the command"
    if isinstance(error, SystemExit):
        return "put what runs as a script under: if __name__ == '__main__':"
    if isinstance(error, FileNotFoundError):
        return (
            "a file that the standalone grader needs can't come along: put what it holds into the source"
            if alone
            else "files are found from where the command is typed (grader.folder), or as Path(__file__).parent / 'name'"
        )
    return "the file must import without an error"


def _choose(module: ModuleType, source: ScorerSource) -> str:
    for name in FUNCTION_NAMES:
        if callable(getattr(module, name, None)):
            return name
    public = _public(module)
    if len(public) == 1:
        return public[0]
    if not public:
        fix = f"define {SIGNATURES}"
        called = [name for name, value in vars(module).items() if _is_own_class(value, module)]
        if called:
            fix = f"make an object of the class: score = {called[0]}(…)"
        raise ScorerProblem(f"{source.shown}: there is no function in it", fix)
    message = f"{source.shown}: which function is the scorer? It has none named {', '.join(FUNCTION_NAMES)}"
    fix = f"name it, or several with a --reward-model each: {source.shown}:NAME ({_say(public)})"
    raise ScorerProblem(message, fix, found=public)


def _is_own_class(value: object, module: ModuleType) -> bool:
    """Whether this is a class of the file whose objects can be called."""
    return isinstance(value, type) and value.__module__ == module.__name__ and "__call__" in vars(value)


def _public(module: ModuleType) -> tuple[str, ...]:
    """Names of the public functions that were defined in the file itself."""
    named = vars(module).items()
    own = [name for name, f in named if inspect.isfunction(f) and f.__module__ == module.__name__]
    return tuple(name for name in own if not name.startswith("_"))


def _say(names: tuple[str, ...]) -> str:
    return f"functions in it: {', '.join(names)}" if names else "there is no public function in it"


def _line_of(function: Callable[..., Any]) -> int:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return 1 if code is None else code.co_firstlineno


def _parameters(function: Callable[..., Any]) -> str:
    return "(" + ", ".join(inspect.signature(function).parameters) + ")"


def describe(error: BaseException, source: ScorerSource) -> Raised:
    """Where in the scorer `error` came from, and the traceback from there on. Never raises."""
    try:
        return _describe(error, source)
    except BaseException:  # an exception whose own text raises, or no memory left to format it
        return Raised(source.shown, type(error).__name__, "")


def _describe(error: BaseException, source: ScorerSource) -> Raised:
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    # A SyntaxError quotes the line first.
    text = lines[-1 if isinstance(error, SyntaxError) else 0].removeprefix(f"{MODULE}.")[:_MESSAGE_CHARS]
    if isinstance(error, SyntaxError) and error.filename == source.path:
        return Raised(f"{source.shown}:{error.lineno}", text, "")
    start = _first_own_frame(error.__traceback__, source.path)
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(start)]
    own = [line for file, line in frames if file == source.path]
    file, line = frames[-1] if frames else (source.path, 0)
    if isinstance(error, SyntaxError) and error.filename is not None:
        file, line = error.filename, error.lineno or 1
    if file != source.path and file.startswith(os.path.dirname(source.path) + os.sep):
        text += f" (raised in {os.path.basename(file)}:{line})"
    full = "".join(traceback.format_exception(type(error), error, start))
    return Raised(f"{source.shown}:{own[-1]}" if own else source.shown, text, full[-_TRACE_CHARS:])


def _first_own_frame(trace: TracebackType | None, path: str) -> TracebackType | None:
    """The traceback without rft's own frames, which stand above the scorer's."""
    current = trace
    while current is not None and current.tb_frame.f_code.co_filename != path:
        current = current.tb_next
    return trace if current is None else current


def lay_out(scratch: Path, path: str, content: bytes) -> None:
    """Write the module under `scratch`: it runs these bytes of the scorer as the file at `path`."""
    folder = scratch / _FOLDER
    folder.mkdir()
    copy = folder / "source"
    copy.write_bytes(content)
    text = _TEXT.format(path=path, copy=str(copy))
    (folder / f"{MODULE}.py").write_text(text, encoding="utf-8", errors="surrogateescape")


def let_find(scratch: str) -> None:
    """In a worker: let processes that it starts find the module, after everything else."""
    sys.path.append(f"{scratch}/{_FOLDER}")


def let_import(folder: str, home: str) -> None:
    """In a worker: find modules beside the scorer first, and those of `home` before installed packages.

    The standard library comes before `home`: a project may have a file named like one of its modules.
    """
    sys.path.insert(0, folder)
    if home and home != folder:
        installed = (place for place, entry in enumerate(sys.path) if entry.endswith(_INSTALLED))
        sys.path.insert(next(installed, len(sys.path)), home)
