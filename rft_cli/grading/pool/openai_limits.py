"""`grader.limits: openai`: the limits of OpenAI's graders, so that a grader that passes here passes there.

One source text under 256 kB, two minutes a grade, 2 GB of memory, no network, no files of this machine, the packages of
OpenAI's image, and a plain function grade(sample, item) that returns a number (reference: the python grader of OpenAI's
reinforcement fine-tuning). Disk and CPU are not limited, and versions of packages are those of rft's environment.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.isolation.openai import in_image, not_in_image
from rft_cli.grading.worker.messages import ScorerSource

SOURCE_BYTES = 256_000
MEMORY_MB = 2048


def memory_limit(config: GraderConfig) -> int | None:
    """Megabytes of a worker's address space: the tighter of OpenAI's limit and the setting. None: no limit."""
    if config.limits != "openai":
        return config.memory_mb
    return min(config.memory_mb or MEMORY_MB, MEMORY_MB)


def check_source(source: ScorerSource) -> None:
    """Raise UsageErrors with every problem that shows without running it: size and imports."""
    size = len(source.content)
    problems = []
    if size >= SOURCE_BYTES:
        message = (
            f"{source.shown}: {size / 1000:.0f} kB of source, and grader.limits: openai takes under 256 kB"
        )
        problems.append(UsageError(message, "move tables and texts out of the source, into the data rows"))
    folder = Path(source.path).parent
    tree = ast.parse(source.content)
    for line, module in _imports(tree.body):
        if not in_image(module):
            name = module.partition(".")[0]
            beside = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
            fix = f"put what you need of {name} into the file" if beside else "use what OpenAI's image has"
            problems.append(UsageError(f"{source.shown}:{line}: {not_in_image(module)}", fix))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UsageErrors(problems)


def _imports(body: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Line and module of each import that is certain to run: not those in `try`, `if` or `with`."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.For | ast.While):
            yield from _imports(node.body)
