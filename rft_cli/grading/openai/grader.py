"""A spec as a Grader: the tree of graders that it describes, with its statistics."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.combined import CombinedGrader, CountingGrader
from rft_cli.grading.openai.embeddings import CosineGrader
from rft_cli.grading.openai.formula import Formula, FormulaError, parse_formula
from rft_cli.grading.openai.load import Keys, LoadedSpec, load_spec
from rft_cli.grading.openai.row_keys import variables
from rft_cli.grading.openai.schema import (
    JudgeModel,
    Leaf,
    Multi,
    Python,
    Spec,
    StringCheck,
    TextSimilarity,
)
from rft_cli.grading.openai.templates import parse_template
from rft_cli.grading.openai.text_graders import OPERATIONS, JsonGrader, TextGrader, similarity
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.protocol import OnOutput, PartGrader
from rft_cli.grading.source import syntax_problems
from rft_cli.grading.worker.messages import ScorerSource
from rft_cli.types import Grade, GradeError

# Loaded where a spec has judges.
if TYPE_CHECKING:
    from rft_cli.grading.judge.session import JudgeSession

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


@dataclass
class Builder:
    """Builds the graders of the spec in `source`. `session` is what its judges share."""

    config: GraderConfig
    source: ScorerSource
    log_path: Path | None
    seed: int
    on_output: OnOutput | None = None
    session: JudgeSession | None = None
    _problems: list[UsageError] = field(default_factory=list)

    def build(self, loaded: LoadedSpec) -> PartGrader:
        """The grader of the spec; raises UsageErrors with every problem, after closing what was opened."""
        opened: dict[Keys, PartGrader] = {}
        leaves = list(loaded.leaves())
        openable: list[type[Spec]] = [StringCheck, TextSimilarity, Python]
        try:
            with self._collect(()):
                self._open_session(leaves)
                openable += get_args(JudgeModel)
            for keys, leaf in leaves:
                if isinstance(leaf, tuple(openable)):
                    with self._collect(keys):
                        opened[keys] = self._open(leaf, keys)
            if self._problems:
                raise UsageErrors(self._problems)
        except BaseException:
            for part in opened.values():
                part.close()
            if self.session is not None:
                self.session.close()
            raise
        return _tree(loaded.spec, loaded.keys, opened)

    def _open_session(self, leaves: Sequence[tuple[Keys, Leaf]]) -> None:
        if any(isinstance(leaf, JudgeModel) for _, leaf in leaves):
            from rft_cli.grading.judge.session import JudgeSession

            self.session = JudgeSession(self.config.judge)

    def _open(self, leaf: Leaf, keys: Keys) -> PartGrader:
        grader = self._open_leaf(leaf, keys)
        return JsonGrader(grader) if any(v.reads_json for _, v in variables(leaf)) else grader

    def _open_leaf(self, leaf: Leaf, keys: Keys) -> PartGrader:
        if isinstance(leaf, Python):
            place = ".".join(map(str, (*keys, "source")))
            folder = os.path.dirname(self.source.path)
            source = scorer_source(leaf.source, folder, f"{self.source.shown}: {place}", self.source.home)
            return ScorerGrader(source, self.config, self.log_path, self.seed, self.on_output)
        if isinstance(leaf, JudgeModel):
            from rft_cli.grading.judge.grader import JudgeGrader

            assert self.session is not None
            return JudgeGrader(leaf, self.session)
        sides = (parse_template(leaf.input), parse_template(leaf.reference))
        if isinstance(leaf, StringCheck):
            return TextGrader(*sides, OPERATIONS[leaf.operation])
        if leaf.evaluation_metric == "cosine":
            return CosineGrader(*sides, self.config.embeddings, self.config.grade_limit_s)
        return TextGrader(*sides, similarity(leaf.evaluation_metric))

    @contextlib.contextmanager
    def _collect(self, keys: Keys) -> Iterator[None]:
        """Collect the problems of one grader, with the keys that lead to it, and go on."""
        try:
            yield
        except UsageErrors as errors:
            self._problems += errors.problems
        except ImportError as error:
            library = (error.name or str(error)).partition(".")[0]
            extra = "judge" if library == "openai" else "text"
            message = f"text_similarity needs {library}, which is not installed"
            self._add(keys, UsageError(message, f"pip install 'rft-cli[{extra}]'"))
        except UsageError as error:
            self._add(keys, error)

    def _add(self, keys: Keys, problem: UsageError) -> None:
        shown, path = self.source.shown, ".".join(map(str, keys))
        place = f"{shown}: {path}: " if path else f"{shown}: "
        message = problem.message if problem.message.startswith(shown) else f"{place}{problem.message}"
        self._problems.append(UsageError(message, problem.fix))


def _tree(spec: Spec, keys: Keys, opened: dict[Keys, PartGrader]) -> PartGrader:
    if not isinstance(spec, Multi):
        return opened[keys]
    graders = spec.graders.items()
    parts = {name: _tree(child, (*keys, "graders", name), opened) for name, child in graders}
    formula = parse_formula(spec.calculate_output, spec.graders)
    return CombinedGrader(parts, partial(_formula_value, formula))


def _formula_value(formula: Formula, grades: Mapping[str, Grade]) -> float | GradeError | None:
    """The formula's value; a part that fails fails the completion, a part that skips it skips it."""
    for name, grade in grades.items():
        if grade.error is not None:
            return GradeError(grade.error.kind, f"{name}: {grade.error.message}", grade.error.trace)
    rewards = {name: grade.reward for name, grade in grades.items() if grade.reward is not None}
    if len(rewards) < len(grades):
        return None
    try:
        return formula.value(rewards)
    except FormulaError as error:
        return GradeError("formula", str(error))


class SpecGrader(CountingGrader):
    """The Grader of the spec in `source`; raises UsageErrors with every problem.

    `signature` is its type and name, `sha256` is of the file. Prints of python graders go to `log_path`, or to
    `on_output`, each with its completion's position.
    """

    def __init__(
        self,
        source: ScorerSource,
        config: GraderConfig,
        log_path: Path | None,
        seed: int,
        on_output: OnOutput | None = None,
    ) -> None:
        loaded = load_spec(config, source)
        builder = Builder(config, source, log_path, seed, on_output)
        super().__init__(builder.build(loaded))
        self.spec = loaded.spec
        self.sha256 = source.sha256
        self.stats.judges = None if builder.session is None else builder.session.usage
        self.signature = _describe(loaded.spec)
        self.log_path = log_path


def _describe(spec: Spec) -> str:
    """Type and name for people; of a multi also the graders in it."""
    if not isinstance(spec, Multi):
        return f"{spec.type} grader '{spec.name}'"
    inner = ", ".join(f"{name}: {child.type}" for name, child in spec.graders.items())
    return f"multi grader '{spec.name}' ({inner})"
