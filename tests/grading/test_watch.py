"""What counts as spoiling a process for later grades, and what is a scorer's own business."""

from __future__ import annotations

import colorsys
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy
import pytest

from rft_cli.grading.worker.watch import Watch


def scorer(**names: object) -> ModuleType:
    module = ModuleType("rft_scorer")
    vars(module).update(names)
    sys.modules["rft_scorer"] = module
    return module


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    for name in ("rft_scorer", "beside"):
        sys.modules.pop(name, None)


def test_data_and_what_is_new_is_no_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = scorer(cache={}, model=None, table=numpy.zeros(3))
    watch = Watch(module, (str(tmp_path),), set(), frozenset())
    assert watch.changes() == []
    vars(module).update(model=len, table=numpy.ones(3), added=print)
    monkeypatch.setenv("RFT_TEST_NEW", "1")
    monkeypatch.setattr(sys, "path", sys.path)
    sys.path.insert(0, str(tmp_path))
    monkeypatch.setattr(colorsys, "_new", numpy.ones(2), raising=False)
    assert watch.changes() == []
    monkeypatch.setattr(colorsys, "_new", numpy.zeros(2))  # compared with the other array: an error
    assert watch.changes() == []
    sys.path.remove(str(tmp_path))


def test_code_and_settings_are_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helper = ModuleType("beside")
    helper.__file__ = str(tmp_path / "beside.py")
    vars(helper)["help"] = print
    sys.modules["beside"] = helper
    module = scorer(score=len, numpy=numpy)
    events: set[str] = {"import time"}
    watch = Watch(module, (str(tmp_path),), events, frozenset({"the scorer.score"}))
    assert watch.changes() == []
    with monkeypatch.context() as patch:
        patch.setattr(json, "loads", None)
        patch.setattr(json.JSONDecoder, "decode", None)
        patch.setattr(numpy, "mean", None)
        patch.setattr(helper, "help", None)
        patch.setattr(os, "environ", {})
        vars(module)["score"] = print  # ignored
        vars(module)["len"] = print
        events.add("sys.addaudithook")
        assert set(watch.changes()) == {
            "sys.addaudithook",
            "json.loads",
            "json.decoder.JSONDecoder.decode",
            "numpy.mean",
            "beside.help",
            "os.environ",
            "the scorer's len",
        }
    events.clear()
    del vars(module)["len"]
    assert watch.changes() == []
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "colorsys", ModuleType("colorsys"))
        patch.setitem(sys.modules, "never_loaded", None)
        patch.delenv("PATH")
        patch.setattr(sys, "meta_path", sys.meta_path)
        finder = sys.meta_path.pop()
        found = watch.changes()
        sys.meta_path.append(finder)
    assert set(found) == {
        "os.environ['PATH']",
        "sys.meta_path",
        "sys.modules['colorsys']",
        "sys.modules['never_loaded']",
    }


def test_what_a_library_changes_as_it_is_imported_is_its_arrival(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """typing_extensions, torch and others put functions of their own into the standard library."""
    module = scorer()
    exec("def mine(text): return text", vars(module))
    watch = Watch(module, (str(tmp_path),), set(), frozenset())
    library = ModuleType("beside")
    exec("def loads(text): return text", vars(library))
    monkeypatch.setattr(json, "loads", vars(library)["loads"])
    monkeypatch.setenv("LANG", "xx")
    monkeypatch.setattr(json, "dumps", vars(module)["mine"])
    sys.modules["beside"] = library
    assert watch.changes() == ["json.dumps"]
    monkeypatch.setattr(json, "loads", print)
    assert set(watch.changes()) == {"json.dumps", "json.loads"}


@pytest.mark.parametrize("home", ["rft_scorer", "beside"])
def test_what_the_scorers_own_classes_and_functions_replace_is_a_change_whatever_arrives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    module, helper = scorer(), ModuleType("beside")
    helper.__file__ = str(tmp_path / "beside.py")
    sys.modules["beside"] = helper
    own = {"rft_scorer": module, "beside": helper}[home]
    exec("class Loose: pass\ndef loose(text): return text", vars(own))
    watch = Watch(module, (str(tmp_path),), set(), frozenset())
    monkeypatch.setitem(sys.modules, "rft_test_library", ModuleType("rft_test_library"))
    monkeypatch.setattr(json, "JSONDecoder", vars(own)["Loose"])
    monkeypatch.setattr(json, "loads", vars(own)["loose"])
    assert set(watch.changes()) == {"json.JSONDecoder", "json.loads"}


def test_several_grades_do_not_tell_who_loaded_and_who_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watch = Watch(scorer(), (str(tmp_path),), set(), frozenset())
    sys.modules["beside"] = ModuleType("beside")
    monkeypatch.delenv("PATH")
    assert watch.changes(one=False) == ["os.environ['PATH']"]


def test_what_a_scorer_assigns_to_its_globals_is_its_own(tmp_path: Path) -> None:
    module = scorer()
    source = """
def get():
    global get, last
    last = get
    get = lambda: 1

def kept(): pass

last = print
"""
    exec(source, vars(module))
    watch = Watch(module, (str(tmp_path),), set(), frozenset())
    vars(module)["get"]()
    assert watch.changes() == []
    vars(module)["kept"] = print
    assert watch.changes() == ["the scorer.kept"]


def test_packages_beside_the_scorer_are_not_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = ModuleType("beside")
    package.__file__ = str(tmp_path / ".venv" / "lib" / "site-packages" / "beside.py")
    vars(package)["helper"] = print
    sys.modules["beside"] = package
    watch = Watch(scorer(), (str(tmp_path),), set(), frozenset())
    monkeypatch.setattr(package, "helper", None)
    assert watch.changes() == []


def test_what_cannot_be_looked_at_is_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(scorer(), ("",), set(), frozenset())
    with monkeypatch.context() as patch:
        patch.setattr(os.environ, "_data", None)
        assert watch.changes() == ["what rft needs to see (AttributeError)"]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "modules", dict(sys.modules))
        assert "sys.modules" in watch.changes()
