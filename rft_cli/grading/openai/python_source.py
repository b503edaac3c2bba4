"""The source of a `python` spec: it runs as a scorer in the workers, called as grade(sample, item)."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.grading.source import syntax_problems
from rft_cli.grading.wire.messages import ScorerSource

_FIX = "define grade(sample, item), with exactly these two arguments"


def scorer_source(source: str, folder: str, shown: str, home: str = "") -> ScorerSource:
    """The inline source as workers load it; raises UsageError where it is not Python or has no such function.

    It can import modules from `folder`, where the spec is, and `home`, where the command was typed. `shown` is how
    messages name the source.
    """
    with syntax_problems(shown):
        tree = ast.parse(source)
    found = [value for name, value in _top_level(tree.body) if name == "grade"]
    if not found:
        raise UsageError(f"{shown}: defines no function 'grade'", _FIX)
    if isinstance(found[-1], ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        _check_arguments(found[-1], shown)
    path = os.path.join(folder, Path(shown).name)
    return ScorerSource(path, shown, "grade", source.encode("utf-8", "surrogatepass"), inline=True, home=home)


def _top_level(body: Iterable[ast.AST]) -> Iterator[tuple[str, ast.AST | None]]:
    """Names that the module itself binds, also under if, try and with, to a function, a lambda or another value."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name, None) for alias in node.names)
        elif not isinstance(node, ast.ClassDef | ast.expr):
            yield from _top_level(ast.iter_child_nodes(node))


def _check_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, shown: str) -> None:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    if len(positional) != 2 or given.vararg or given.kwonlyargs or given.kwarg:
        names = ast.unparse(given)
        raise UsageError(f"{shown}:{function.lineno}: grade({names}) can't be called as OpenAI does", _FIX)
