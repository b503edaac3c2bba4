"""YAML text → a tree in which every value knows its line and column. PyYAML parses; what words mean is ours.

Refused, because a configuration needs none of it and each has bitten someone: tags, merge keys, several
documents, duplicate keys, alias expansions and nesting beyond any real file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from rft_cli.config.scalars import Scalar, plain
from rft_cli.errors import UsageError

MAX_BYTES = 1_000_000
MAX_NODES = 10_000
MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `mark` is where it stands, `key_mark` where its key does; `word` is its text if unquoted."""

    value: dict[str, Node] | list[Node] | Scalar
    mark: Mark
    key_mark: Mark
    word: str | None = None

    def plain(self) -> Any:
        """The value without its marks."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class _Stop(Exception):
    """The file can't be read any further."""

    def __init__(self, mark: Mark | None, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.mark = mark
        self.reason = reason
        self.fix = fix


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with a depth limit, and without tags."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it bare
        if getattr(event, "tag", None) not in (None, "!"):
            raise _Stop(_mark(event.start_mark), f"the tag {event.tag} is not allowed", "remove it")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Stop(_mark(event.start_mark), f"nested deeper than {MAX_DEPTH} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(content: bytes, name: str, problems: list[UsageError]) -> Node | None:
    """The file's mapping, empty for an empty file. Adds what is wrong to `problems`; None: unreadable."""
    try:
        return _Reader(name, problems).root(content)
    except _Stop as stop:
        place = name if stop.mark is None else f"{name}:{stop.mark.line}:{stop.mark.column}"
        problems.append(UsageError(f"{place}: {stop.reason}", stop.fix))
        return None


class _Reader:
    """Turns composed nodes into ours, counting them so that aliases can't multiply without end."""

    def __init__(self, name: str, problems: list[UsageError]) -> None:
        self.name = name
        self.problems = problems
        self.count = 0

    def root(self, content: bytes) -> Node:
        start = Mark(1, 1)
        node = _compose(content)
        if node is None:
            return Node({}, start, start)
        read = self.read(node, _mark(node.start_mark), 0)
        if read.value is None:
            return Node({}, start, start)
        if not isinstance(read.value, dict):
            raise _Stop(
                read.mark, "the file must hold settings as 'key: value' lines", "see the files in configs/"
            )
        return read

    def read(self, node: yaml.Node, key_mark: Mark, depth: int) -> Node:
        mark = _mark(node.start_mark)
        self.count += 1
        if self.count > MAX_NODES:
            raise _Stop(mark, f"more than {MAX_NODES} values (aliases expanded)", "write the values out")
        if depth > MAX_DEPTH:
            raise _Stop(mark, "an alias refers to itself", "write the values out")
        if isinstance(node, yaml.ScalarNode):
            unquoted = node.style is None
            value = plain(node.value) if unquoted else node.value
            return Node(value, mark, key_mark, node.value if unquoted else None)
        if isinstance(node, yaml.SequenceNode):
            return Node(
                [self.read(item, _mark(item.start_mark), depth + 1) for item in node.value], mark, key_mark
            )
        return Node(dict(self.items(node, depth)), mark, key_mark)

    def items(self, node: yaml.Node, depth: int) -> Iterator[tuple[str, Node]]:
        first: dict[str, Mark] = {}
        for key, value in node.value:
            mark = _mark(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.problem(mark, "a key must be a word", None)
            elif key.value == "<<" and key.style is None:
                self.problem(mark, "merge keys (<<) are not supported", "write the keys out")
            elif key.value in first:
                self.problem(
                    mark, f"'{key.value}' is set twice, first on line {first[key.value].line}", "remove one"
                )
            else:
                first[key.value] = mark
                yield key.value, self.read(value, mark, depth + 1)

    def problem(self, mark: Mark, reason: str, fix: str | None) -> None:
        self.problems.append(UsageError(f"{self.name}:{mark.line}:{mark.column}: {reason}", fix))


def _compose(content: bytes) -> yaml.Node | None:
    """PyYAML's node tree, its errors in plain words."""
    if len(content) > MAX_BYTES:
        raise _Stop(
            None, f"larger than {MAX_BYTES // 1_000_000} MB: not a configuration", "give the YAML file"
        )
    text = _text(content)
    loader = None
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.reader.ReaderError as error:
        mark = _mark_at(text, error.position)
        raise _Stop(
            mark, f"the character {error.character:#x} is not allowed in YAML", "remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        raise _Stop(None if at is None else _mark(at), *_plain_words(error)) from error
    finally:
        if loader is not None:
            loader.dispose()


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        reason = f"byte 0x{content[error.start]:02x} is not valid UTF-8"
        raise _Stop(_mark_at(before, len(before)), reason, "save the file as UTF-8") from error


def _plain_words(error: yaml.MarkedYAMLError) -> tuple[str, str | None]:
    """PyYAML's problem and what to do about it."""
    problem = error.problem or "not valid YAML"
    if "'\\t'" in problem:
        return "a tab: YAML indents with spaces", "replace the tab by spaces"
    if problem.startswith("mapping values are not allowed"):
        return "a second ': ' on one line, or wrong indentation", "quote the value, or indent the line"
    if problem.startswith("could not find expected ':'"):
        return "a line without ': '", "write it as 'key: value'"
    if "another document" in problem:
        return "a second document (---)", "keep one"
    if problem.startswith("expected <block end>"):
        return "wrong indentation", "line it up with the keys above"
    if problem.startswith("found undefined alias"):
        return f"the alias {problem.rpartition(' ')[2]} has no anchor", "write the value out"
    return f"not valid YAML: {problem}", "correct this line, or the one before it"


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _mark_at(text: str, position: int) -> Mark:
    return Mark(text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1)
