"""Loads a spec file, or the mapping of `grader.spec`, as a validated Spec; all problems come in one error.

Each problem names the file, line and column where there are any, and the keys that lead to the value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rft_cli.config.json_tree import read_tree
from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import did_you_mean
from rft_cli.config.yaml_tree import Mark, Node
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.openai.formula import is_name
from rft_cli.grading.openai.problems import SpecProblem
from rft_cli.grading.openai.schema import MODELS, InputMessage, Leaf, Multi, SamplingParams, Spec
from rft_cli.grading.worker.messages import ScorerSource

_INLINE = "grader.spec"
"""How messages name a spec in a configuration."""
_TYPES = f"the types are: {', '.join(MODELS)}"
_NO_MARK = Mark(0, 0)
_JOB = ("method", "reinforcement", "grader")
"""Where a fine-tuning job holds its grader."""
_MAP = (
    'write "graders": {"NAME": {"type": …}, …}, as the API takes it (the type in the openai package, which has one '
    "grader there, is wrong)"
)
Keys = tuple[str | int, ...]


class LoadedSpec(NamedTuple):
    """A validated spec. `keys` lead to it where it is part of a job."""

    spec: Spec
    keys: Keys = ()

    def leaves(self) -> Iterator[tuple[Keys, Leaf]]:
        """Every grader that is not a multi, with the keys that lead to it."""
        if not isinstance(self.spec, Multi):
            yield self.keys, self.spec
            return
        for name, child in self.spec.graders.items():
            yield from LoadedSpec(child, (*self.keys, "graders", name)).leaves()


def load_spec(config: GraderConfig, source: ScorerSource) -> LoadedSpec:
    """Load the spec of these settings; `source` is its file, or the file that an inline spec would be.

    Raises UsageErrors with every problem.
    """
    return read_spec(source.content, source.shown) if config.spec is None else read_inline(config.spec)


def read_spec(content: bytes, shown: str) -> LoadedSpec:
    """Read the bytes of a spec file, or of a fine-tuning job with a grader; `shown` says whether JSON or YAML."""
    problems: list[UsageError] = []
    root = read_tree(content, shown, problems)
    reader = _Reader(shown, problems, marks=True)
    node, keys = (None, ()) if root is None else _grader_of_job(root)
    spec = None if node is None else reader.read(node, keys)
    if spec is None or problems:
        raise UsageErrors(sorted(problems, key=lambda problem: _position(problem, shown)))
    return LoadedSpec(spec, keys)


def read_inline(mapping: Mapping[str, Any]) -> LoadedSpec:
    """Read the mapping of `grader.spec`; problems name keys but no lines."""
    reader = _Reader(_INLINE, [], marks=False)
    spec = reader.read(_as_node(dict(mapping)), ())
    if spec is None or reader.problems:
        raise UsageErrors(reader.problems)
    return LoadedSpec(spec)


def _grader_of_job(root: Node) -> tuple[Node, Keys]:
    """The grader in a job and its keys; any other file as it is."""
    node = root
    for key in _JOB:
        if not isinstance(node.value, dict) or key not in node.value:
            return root, ()
        node = node.value[key]
    return node, _JOB


def _position(problem: UsageError, shown: str) -> tuple[int, int]:
    place = re.match(r":(\d+):(\d+):", problem.message[len(shown) :])
    return (int(place[1]), int(place[2])) if place else (0, 0)


def _as_node(value: Any) -> Node:
    if isinstance(value, Mapping):
        value = {str(key): _as_node(item) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_as_node(item) for item in value]
    return Node(value, _NO_MARK, _NO_MARK)


class _Reader:
    """Reads one tree and collects `problems`. `marks`: its nodes know their places."""

    def __init__(self, shown: str, problems: list[UsageError], *, marks: bool) -> None:
        self.shown = shown
        self.problems = problems
        self.marks = marks

    def read(self, node: Node, path: Keys) -> Spec | None:
        """The grader at `path`, or None where it has problems."""
        if not isinstance(node.value, dict):
            self._add(
                node.mark, path, "a grader is an object with type, name and more", "see docs/graders.md"
            )
            return None
        kind = self._type(node.value, node.mark, path)
        if kind is None:
            return None
        fields = {name: child.plain() for name, child in node.value.items()}
        if kind is Multi:
            fields["graders"] = self._graders(node.value, node.mark, (*path, "graders"))
        try:
            return kind.model_validate(fields)
        except ValidationError as error:
            for detail in error.errors():
                self._translate(detail, node, path, kind)
            return None

    def _type(self, fields: dict[str, Node], mark: Mark, path: Keys) -> type[Spec] | None:
        if "type" not in fields:
            wrapped = next((key for key in reversed(_JOB) if key in fields), None)
            fix = f"'{wrapped}' is part of a job: give the grader object in it" if wrapped else _TYPES
            self._add(mark, path, "has no 'type'", fix)
            return None
        node = fields["type"]
        if isinstance(node.value, str) and node.value in MODELS:
            return MODELS[node.value]
        shown = json.dumps(node.plain(), ensure_ascii=False)[:40]
        fix = (did_you_mean(node.value, MODELS) if isinstance(node.value, str) else None) or _TYPES
        self._add(node.mark, (*path, "type"), f"no such type: {shown}", fix)
        return None

    def _graders(self, fields: dict[str, Node], mark: Mark, path: Keys) -> dict[str, Spec | None] | None:
        """The graders of a multi; None for one with problems: the formula may still name it.

        None where they are not a map, which is reported here.
        """
        if "graders" not in fields:
            self._add(mark, path, "is missing", _MAP)
            return None
        graders = fields["graders"]
        if not isinstance(graders.value, dict):
            self._add(graders.mark, path, "must be a map of graders", _MAP)
            return None
        if "type" in graders.value and not isinstance(graders.value["type"].value, dict):
            self._add(graders.mark, path, "must be a map of graders, not one grader", _MAP)
            self.read(graders, path)
            return None
        for name, child in graders.value.items():
            if not is_name(name):
                fix = "a name has letters, digits and _, doesn't begin with a digit, and isn't a function"
                self._add(child.key_mark, (*path, name), "calculate_output can't name this grader", fix)
        return {name: self.read(child, (*path, name)) for name, child in graders.value.items()}

    def _translate(self, detail: ErrorDetails, node: Node, path: Keys, kind: type[Spec]) -> None:
        """Add one of pydantic's errors, in our words and at its place."""
        loc = detail["loc"]
        # _graders reported it.
        if kind is Multi and loc == ("graders",) and detail["input"] is None:
            return
        at, reached = _find(node, loc)
        name = str(loc[-1]) if loc else ""
        full = (*path, *(part for part in loc if reached or part != name), *(() if reached else (name,)))
        mark = at.key_mark if detail["type"] == "extra_forbidden" else at.mark
        for message, fix in explain(detail, kind, at, name):
            self._add(mark, full, message, fix)

    def _add(self, mark: Mark, path: Keys, message: str, fix: str | None) -> None:
        place = f"{self.shown}:{mark.line}:{mark.column}" if self.marks else self.shown
        keys = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
        self.problems.append(UsageError(": ".join(part for part in (place, keys, message) if part), fix))


def _find(node: Node, loc: Keys) -> tuple[Node, bool]:
    """The node at `loc`, or the last one on the way to it; and whether it was reached."""
    for step in loc:
        inner: Any = node.value
        try:
            node = inner[step]
        except (KeyError, IndexError, TypeError):
            return node, False
    return node, True


_WORDS = {
    "list_type": "a list",
    "mapping_type": "an object",
    "dict_type": "an object",
    "model_type": "an object",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than_equal": "at most",
}
"""pydantic's kinds of error → what the value must be; a limit's number follows."""


def _fields(kind: type[BaseModel], loc: Sequence[str | int]) -> Iterable[str]:
    """The fields of the model at `loc` inside `kind`."""
    if loc and loc[0] == "sampling_params":
        kind = SamplingParams
    elif loc:
        kind = InputMessage
    return kind.model_fields


def explain(detail: ErrorDetails, kind: type[Spec], at: Node, name: str) -> Iterator[tuple[str, str | None]]:
    """The messages of an error at the node `at`, which the key `name` leads to; each with its fix."""
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, SpecProblem):
        for problem in (error, *error.more):
            yield problem.message, problem.fix
        return
    sort = detail["type"]
    shown = json.dumps(at.plain(), ensure_ascii=False)
    got = f"(got {shown if len(shown) <= 40 else shown[:37] + '...'})"
    if sort == "missing":
        yield "is missing", None
    elif sort == "too_short":
        yield "is empty", "name at least one"
    elif sort == "extra_forbidden":
        known = list(_fields(kind, detail["loc"][:-1]))
        yield "unknown field", did_you_mean(name, known) or f"known here: {', '.join(known)}"
    elif sort == "literal_error":
        expected = detail["ctx"]["expected"]
        words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
        fix = did_you_mean(at.value, words) if isinstance(at.value, str) else None
        yield f"must be {expected} {got}", fix
    elif sort == "string_type":
        yield f"must be text {got}", f'quote it: "{at.word}"' if at.word else None
    else:
        limit = next(iter(detail.get("ctx", {}).values()), None)
        wanted = f"{_WORDS[sort]} {limit:g}" if isinstance(limit, int | float) else _WORDS[sort]
        yield f"must be {wanted} {got}", None
