"""In a worker: whether a grade changed code or settings that later grades stand on.

Code is what it was when the scorer had been loaded: functions, classes and modules, under every name in the scorer's
own modules, in those it names, in the standard library and in rft; in the last two also public constants. So are the
process's settings: environment, limits, signals, umask, locale, import paths. What is new is no change, and data of
the scorer's own is its own: caches and loaded models are meant to stay.

To change code, a scorer must get at it by a name. Modules whose names stand in its source are looked at each time; all
others, which take twenty times as long, when the look is thorough.
"""

from __future__ import annotations

import _locale
import builtins
import importlib
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from types import FunctionType, ModuleType
from typing import Any

from rft_cli.grading.worker.spaces import MISSING, Change, Shelf, Space, assigned_globals, codes_of

_signal = importlib.import_module("_signal")  # without the enums that `signal` makes of each answer
_RFT = ("rft_cli", "pebble")
_CONSTANTS = (str, int, float, bytes, tuple, frozenset)
_METHODS = (FunctionType, classmethod, staticmethod, property)
_PYTHON_CLASS, _FIXED_CLASS = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_IMMUTABLETYPE
_SKIPPED = frozenset({"builtins", "__main__", "__mp_main__"})
"""Built-ins are put back after each grade."""
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_SIGNALS = sorted(int(number) for number in _signal.valid_signals() if number != _signal.SIGALRM)

_flat, _list = chain.from_iterable, list
_callable, _error, _map, _type, _vars = callable, Exception, map, type, vars
_get_limit, _get_handler, _umask = resource.getrlimit, _signal.getsignal, os.umask
_mask, _block = _signal.pthread_sigmask, _signal.SIG_BLOCK
_set_locale, _all_locales = _locale.setlocale, _locale.LC_ALL


def _get_umask() -> int:
    current = _umask(0o77)
    _umask(current)
    return current


_SETTINGS: dict[str, Callable[[], Any]] = {
    "limits of the process (setrlimit)": lambda: [*_map(_get_limit, _LIMITS)],
    "signal handlers": lambda: [*_map(_get_handler, _SIGNALS)],
    "blocked signals": lambda: _mask(_block, ()),
    "the umask": _get_umask,
    "the locale": lambda: _set_locale(_all_locales),
}


class Watch:
    """Made when the scorer is loaded. `scorer` is its module, `folders` where it and its helpers lie.

    `ignored` are changes that are this scorer's way of working. `events` collects what an audit hook saw.
    """

    def __init__(
        self, scorer: ModuleType, folders: Sequence[str], events: set[str], ignored: frozenset[str]
    ) -> None:
        self._events, self._ignored = events, ignored
        self._own: dict[str, Any] = vars(scorer)
        self._shadows = self._own.keys() & _BUILT_IN
        self._folders = tuple(folder + os.sep for folder in folders if folder)
        self._mine: list[Space] = []
        self._near, self._far = Shelf(), Shelf()
        self._seen: set[int] = set()
        self._table, self._environ = sys.modules, os.environ
        self._modules = dict(self._table)
        self._names, self._loaded = [*self._modules], [*self._modules.values()]
        self._named = self._names_in_source()
        for name, module in self._modules.items():
            self._take(name, module)
        self._near.look()
        self._far.look()
        events.clear()
        self._probes = [*_SETTINGS.items()]
        self._settings: dict[str, Any] = {}
        self._settle()
        self._paths = [
            (f"sys.{n}", getattr(sys, n), [*getattr(sys, n)]) for n in ("path", "meta_path", "path_hooks")
        ]

    def _settle(self) -> None:
        """Settings are to stay what they are now."""
        self._variables: dict[Any, Any] = dict(getattr(os.environ, "_data", {}))
        self._settings = {name: probe() for name, probe in self._probes}

    def changes(self, *, thorough: bool = True, one: bool = True) -> list[str]:
        """What changed since this was made, in words; empty where a later grade finds all as it was.

        `one`: a single grade was made since the last look. Then what it loaded explains what else it changed.
        """
        try:
            arrived = self._any_arrived()
            found = [
                *_map(Change, self._events),
                *self._settings_changed(),
                *self._code_changed(thorough or arrived),
            ]
            if arrived and one:
                found = self._without_effects(found)
            # After the code: what arrived is looked at together with all the rest from now on.
            told = [*(change.told for change in found), *self._modules_changed()]
        except _error as error:
            told = [f"what rft needs to see ({_type(error).__name__})"]
        return [name for name in told if name not in self._ignored]

    def _any_arrived(self) -> bool:
        table = sys.modules
        if len(table) <= len(self._names):
            return False
        return any(isinstance(table[name], ModuleType) for name in [*table] if name not in self._modules)

    def _without_effects(self, found: list[Change]) -> list[Change]:
        """The changes that are no effect of the modules that were just loaded: these are there to stay.

        Libraries patch others as they are imported, with functions or constants of their own.
        """
        left = []
        for change in found:
            if change.space is None:
                continue
            if self._is_of_a_library(change.value):
                change.space.kept[change.key] = change.value
            else:
                left.append(change)
        self._events.clear()
        self._settle()
        return left

    def _is_of_a_library(self, value: Any) -> bool:
        if not _callable(value):
            return value is not None and value is not MISSING
        function = _type(value) is FunctionType
        name = value.__globals__.get("__name__") if function else getattr(value, "__module__", None)
        home = sys.modules.get(name or "")
        if home is None or (function and _vars(home) is not value.__globals__):
            return False
        return not self._is_own(str(name), home)

    def _settings_changed(self) -> Iterator[Change]:
        for name, probe in self._probes:
            if probe() != self._settings[name]:
                yield Change(name)
        if os.environ is not self._environ:
            yield Change("os.environ")
        current = getattr(self._environ, "_data", {})
        if not self._variables.items() <= current.items():
            for variable, value in self._variables.items():
                if current.get(variable) != value:
                    yield Change(f"os.environ[{os.fsdecode(variable)!r}]")
        for name, entries, before in self._paths:
            if entries != before:
                if [entry for entry in before if entry not in entries]:
                    yield Change(name)
                before[:] = entries

    def _modules_changed(self) -> Iterator[str]:
        table = sys.modules
        if table is not self._table:
            yield "sys.modules"
            return
        get = table.get
        if [*_map(get, self._names)] != self._loaded:
            for name, module in zip(self._names, self._loaded, strict=True):
                if get(name) is not module:
                    yield f"sys.modules[{name!r}]"
        if len(table) > len(self._names):
            for name in [name for name in table if name not in self._modules]:
                yield from self._arrived(name, table[name])
            self._near.look()
            self._far.look()

    def _arrived(self, name: str, module: Any) -> Iterator[str]:
        """A module that was loaded since: from now on it stays as it is, unless the scorer patched it right away."""
        if module is None:
            yield f"sys.modules[{name!r}]"
            return
        self._modules[name] = module
        self._names.append(name)
        self._loaded.append(module)
        for space in self._take(name, module):
            for key, value in space.kept.items():
                if _type(value) is FunctionType and value.__globals__ is self._own:
                    yield f"{space.label}.{key}"

    def _code_changed(self, thorough: bool) -> Iterator[Change]:
        for space in self._mine:
            yield from space.changed()
        shadows = self._own.keys() & _BUILT_IN
        if shadows != self._shadows:
            yield from (Change(f"the scorer's {key}") for key in shadows - self._shadows)
        yield from self._near.changed()
        if thorough:
            yield from self._far.changed()

    def _names_in_source(self) -> set[str]:
        """Every name and the beginning of every string in the code of the scorer and of its own modules."""
        found: set[str] = set()
        for name, module in self._modules.items():
            if self._is_own(name, module):
                for code in codes_of(_vars(module)):
                    texts = [text for text in code.co_consts if isinstance(text, str)]
                    found.update(text.partition(".")[0] for text in [*code.co_names, *texts])
        found.update(
            value.__name__.partition(".")[0] for value in self._own.values() if isinstance(value, ModuleType)
        )
        found.update(str(getattr(value, "__module__", "")).partition(".")[0] for value in self._own.values())
        return found

    def _is_own(self, name: str, module: Any) -> bool:
        """Whether this is the scorer, or a module of the user's beside it."""
        if not isinstance(module, ModuleType):
            return False
        space = _vars(module)
        return space is self._own or (not _trusted(name) and self._beside(space.get("__file__")))

    def _take(self, name: str, module: Any) -> list[Space]:
        """Watch this module and its classes, if it is one to watch; what of it is not the scorer's own."""
        if name in _SKIPPED or not isinstance(module, ModuleType):
            return []
        space = _vars(module)
        top, trusted, own = name.partition(".")[0], _trusted(name), self._is_own(name, module)
        if not (trusted or own) and not any(value is module for value in self._own.values()):
            return []
        constants = _CONSTANTS if trusted and name != "sys" else ()
        assigned = assigned_globals(space) if own else ()
        kept = {
            key: value
            for key, value in space.items()
            if ((_callable(value) or isinstance(value, ModuleType)) and key not in assigned)
            or (_type(value) in constants and not key.startswith("_"))
        }
        taken = [Space("the scorer" if space is self._own else name, space, kept)]
        for key, value in kept.items():
            if isinstance(value, type) and getattr(value, "__module__", None) == name:
                taken.extend(self._class(f"{name}.{key}", value))
        if own:
            self._mine.extend(taken)
            return []
        (self._near if top in self._named else self._far).spaces.extend(taken)
        return taken

    def _beside(self, file: object) -> bool:
        """Whether this is a module of the user's, beside the scorer. Packages may lie there too, in a `.venv`."""
        return isinstance(file, str) and file.startswith(self._folders) and "site-packages" not in file

    def _class(self, label: str, kind: type) -> Iterator[Space]:
        flags = kind.__flags__
        if flags & _PYTHON_CLASS and not flags & _FIXED_CLASS and id(kind) not in self._seen:
            self._seen.add(id(kind))
            names = type.__dict__["__dict__"].__get__(kind)
            kept = {key: value for key, value in names.items() if _type(value) in _METHODS}
            yield Space(label, names, kept)


def _trusted(name: str) -> bool:
    """Whether this is a module of the standard library, of rft or of its pool."""
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top in _RFT


_BUILT_IN = frozenset(_vars(builtins)) - {"__doc__", "__name__", "__package__", "__loader__", "__spec__"}
