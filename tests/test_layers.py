"""The layers hold: the lint rules catch a planted violation, and what must be quick loads no torch."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "trl", "transformers", "peft", "accelerate", "datasets")


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    # Started in the tree, whose own rft_cli must win over the installed one.
    program = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; "
        "lint_imports_command(['--no-cache'])"
    )
    return run(sys.executable, "-c", program, cwd=tree)


def ruff(tree: Path) -> subprocess.CompletedProcess[str]:
    rules = "TID251,TID252,TID253"
    return run(
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--select",
        rules,
        "--output-format=concise",
        ".",
        cwd=tree,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and its lint rules, to plant violations in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "rft_cli", tmp_path / "rft_cli", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
    )
    return tmp_path


def plant(tree: Path, file: str, line: str) -> None:
    """Write a new module at `file` with this one line, or add the line to the module that is there."""
    target = tree / "rft_cli" / file
    text = target.read_text(encoding="utf-8") if target.exists() else ""
    target.write_text(f"{text}\n{line}\n", encoding="utf-8")


def test_the_tree_keeps_its_layers(tree: Path):
    result = lint_imports(tree)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout
    assert ruff(tree).returncode == 0, ruff(tree).stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("grading/planted.py", "import rft_cli.console", "Layers"),
        ("grading/planted.py", "import rft_cli.report", "Layers"),
        ("data/planted.py", "import rft_cli.runs", "Layers"),
        ("errors.py", "import rft_cli.types", "Layers"),
        ("training/planted.py", "import rft_cli.commands", "Layers"),
        ("planted.py", "import json", "Layers"),  # a module that stands in no layer
        ("grading/planted.py", "def f():\n    import torch", "Only training/ imports torch"),
        ("commands/planted.py", "def f():\n    import transformers", "Only training/ imports torch"),
        ("view/planted.py", "import rft_cli.console", "Layers"),
        ("pages/planted.py", "import rich", "Only console/ imports rich"),
        ("pages/planted.py", "import rft_cli.dashboard", "Layers"),
        ("report/planted.py", "import rich", "Only console/ imports rich"),
        ("runs/planted.py", "import typer", "Only cli.py and commands/ import typer"),
    ],
)
def test_a_planted_import_breaks_its_contract(tree: Path, file: str, line: str, contract: str):
    plant(tree, file, line)
    result = lint_imports(tree)
    assert result.returncode != 0
    broken = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert len(broken) == 1, result.stdout
    assert broken[0].startswith(contract)


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        ("commands/planted.py", "import rft_cli.training", "TID253"),
        ("commands/planted.py", "from rft_cli.training.main import train", "TID253"),
        ("grading/planted.py", "import torch", "TID253"),
        ("config/planted.py", "from transformers import AutoConfig", "TID253"),
        ("report/planted.py", "from rich.table import Table", "TID251"),
        ("training/planted.py", "import typer", "TID251"),
        ("data/planted.py", "from . import rows", "TID252"),
    ],
)
def test_ruff_catches_a_planted_import(tree: Path, file: str, line: str, rule: str):
    plant(tree, file, line)
    result = ruff(tree)
    assert result.returncode == 1
    hits = [text for text in result.stdout.splitlines() if " TID" in text]
    assert hits
    assert all(rule in text and "planted.py" in text for text in hits)


def test_ruff_lets_a_command_import_training_inside_a_function(tree: Path):
    plant(tree, "commands/planted.py", "def f():\n    import rft_cli.training")
    assert ruff(tree).returncode == 0


def test_every_part_of_the_package_stands_in_the_contracts():
    """A new module must be added to the `Only ...` contracts too: they list who may not import."""
    parts = {
        path.stem
        for path in (ROOT / "rft_cli").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__", "builtin"}
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    exempt = {
        "Only training/ imports torch and what builds on it": {"training"},
        "Only console/ imports rich": {"console"},
        "Only cli.py and commands/ import typer": {"cli", "commands"},
    }
    listed = {
        rule["name"]: {module.removeprefix("rft_cli.") for module in rule["source_modules"]}
        for rule in rules
        if rule["type"] == "forbidden" and rule["name"].startswith("Only ")
    }
    assert listed == {name: parts - allowed for name, allowed in exempt.items()}


# Runs the command line in a process of its own and, at the end, writes which of the heavy modules were loaded.
WATCHED = f"""
import atexit, json, os, sys
def report():
    with open(os.environ["LOADED"], "w", encoding="utf-8") as file:
        json.dump([name for name in {HEAVY!r} if name in sys.modules], file)
atexit.register(report)
from rft_cli.cli import main
main()
"""


def loaded_by(tmp_path: Path, *arguments: str) -> tuple[int, list[str], str]:
    """Exit code, the heavy modules it loaded, and what it printed, of `rft ARGUMENTS`."""
    report = tmp_path / "loaded.json"
    result = run(
        sys.executable, "-c", WATCHED, *arguments, cwd=tmp_path, LOADED=str(report), PYTHONPATH=str(ROOT)
    )
    return result.returncode, json.loads(report.read_text(encoding="utf-8")), result.stdout + result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("create", "--help"),
        ("train", "--help"),
        ("grade", "--help"),
        ("validate", "--help"),
        ("export", "--help"),
        ("runs", "--help"),
        ("show", "--help"),
        ("compare", "--help"),
        ("report", "--help"),
    ],
    ids=" ".join,
)
def test_help_loads_no_torch(tmp_path: Path, arguments: tuple[str, ...]):
    code, loaded, said = loaded_by(tmp_path, *arguments)
    assert code == 0, said
    assert loaded == []


def test_help_loads_no_settings(tmp_path: Path):
    program = "import rft_cli.cli, sys; print([m for m in ('pydantic', 'yaml', 'rich') if m in sys.modules])"
    result = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


@pytest.mark.parametrize("command", ["create", "train", "validate"])
def test_a_config_error_loads_no_torch(tmp_path: Path, command: str):
    (tmp_path / "job.yaml").write_text("optim:\n  learning_rte: 1.0e-5\n", encoding="utf-8")
    code, loaded, said = loaded_by(tmp_path, command, "--config", "job.yaml")
    assert code == 2, said
    assert "job.yaml:2:3" in said
    assert loaded == []


def test_grading_loads_no_torch(tmp_path: Path):
    (tmp_path / "scorer.py").write_text(
        "def score(completion):\n    return len(completion) / 10\n", encoding="utf-8"
    )
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "abc"}\n', encoding="utf-8")
    code, loaded, said = loaded_by(tmp_path, "grade", "--reward-model", "scorer.py", "rows.jsonl")
    assert code == 0, said
    assert '"reward": 0.3' in said
    assert loaded == []


@pytest.mark.parametrize(
    "arguments", [("runs",), ("show", "a"), ("compare", "a", "b"), ("report", "a")], ids=" ".join
)
def test_looking_at_runs_loads_no_torch(tmp_path: Path, arguments: tuple[str, ...]):
    from tests.view.made_runs import line, make_run, sample

    for name in ("a", "b"):
        samples = {0: [sample(0, 0.1)], 4: [sample(0, 0.5)]}
        make_run(tmp_path / "runs", name, lines=[line(1)], validations=samples, best_step=4)
    code, loaded, said = loaded_by(tmp_path, *arguments)
    assert code == 0, said
    assert loaded == []


def test_the_watch_itself_sees_a_loaded_module(tmp_path: Path):
    report = tmp_path / "loaded.json"
    program = WATCHED.replace("from rft_cli.cli import main\nmain()", "import numpy, accelerate")
    result = run(sys.executable, "-c", program, cwd=tmp_path, LOADED=str(report))
    assert result.returncode == 0, result.stderr
    assert "accelerate" in json.loads(report.read_text(encoding="utf-8"))


def imports_of(file: Path, modules: Set[str]) -> set[str]:
    """The `modules` that a file imports, at its top or inside functions; not those for type checkers alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in modules else str(node.module) for name in inner)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text(encoding="utf-8")))
    return found & modules


def circles_in(tree: Path) -> list[set[str]]:
    """Groups of modules that import one another, directly or through others."""
    names = {
        ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (tree / "rft_cli").rglob("*.py")
    }
    graph = {name: imports_of(path, names.keys()) - {name} for name, path in names.items()}

    def reached(start: str) -> set[str]:
        seen, waiting = set[str](), [start]
        while waiting:
            for name in graph[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    reach = {name: reached(name) for name in graph}
    groups = {
        frozenset(other for other in reach[name] if name in reach[other])
        for name in reach
        if name in reach[name]
    }
    return [set(group) for group in groups]


def test_no_modules_import_one_another():
    assert circles_in(ROOT) == []


@pytest.mark.parametrize("line", ["import rft_cli.cli", "def f():\n    from rft_cli import cli"])
def test_a_planted_circle_is_found(tree: Path, line: str):
    plant(tree, "commands/signals.py", line)
    assert any({"rft_cli.cli", "rft_cli.commands.signals"} <= circle for circle in circles_in(tree))


def test_a_class_name_means_one_thing():
    files = (ROOT / "rft_cli").rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    twice = {name for name, times in names.items() if times > 1}
    assert twice == set()
