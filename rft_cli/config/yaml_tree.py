"""YAML text → a tree in which every value knows its line and column. PyYAML parses; what words mean is ours.

Refused, because a configuration needs none of it: tags, merge keys, several documents, duplicate keys, aliases that
multiply without end, and the characters that end a line in YAML 1.1 alone (U+0085, U+2028, U+2029): no editor shows
them, and in a string they turn into spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from rft_cli.config.scalars import Scalar, plain
from rft_cli.config.suggest import as_word
from rft_cli.errors import UsageError

MAX_BYTES = 1_000_000
MAX_NODES = 10_000

# What YAML calls not printable, and line ends of YAML 1.1 alone.
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `mark` is its place, `key_mark` its key's; `word` is its text if unquoted."""

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
    """PyYAML's composer; raises _Stop at a tag."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it bare
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise _Stop(_mark(event.start_mark), f"the tag {as_word(tag)} is not allowed", "remove it")
        return super().compose_node(parent, index)

    def first_document(self) -> yaml.Node | None:
        """The file's document; None: it is empty."""
        self.get_event()  # type: ignore[no-untyped-call]
        return None if self.check_event(yaml.StreamEndEvent) else self.compose_document()

    def next_document(self) -> Mark | None:
        """Where a second document begins, once the first was read."""
        if self.check_event(yaml.StreamEndEvent):
            return None
        return _mark(self.peek_event().start_mark)  # type: ignore[no-untyped-call]


def read_yaml(content: bytes, name: str, problems: list[UsageError]) -> Node | None:
    """The file's mapping, empty for an empty file. Adds what is wrong to `problems`; None: unreadable."""
    try:
        return _NodeReader(name, problems).root(content)
    except _Stop as stop:
        place = name if stop.mark is None else f"{name}:{stop.mark.line}:{stop.mark.column}"
        problems.append(UsageError(f"{place}: {stop.reason}", stop.fix))
    except RecursionError:
        # an alias that refers to itself, too
        problems.append(UsageError(f"{name}: nested too deep to read", "write the values out"))
    return None


class _NodeReader:
    """Turns PyYAML's nodes into ours, and counts them: aliases multiply."""

    def __init__(self, name: str, problems: list[UsageError]) -> None:
        self.name = name
        self.problems = problems
        self.count = 0

    def root(self, content: bytes) -> Node:
        start = Mark(1, 1)
        node = self.compose(content)
        read = None if node is None else self.read(node, _mark(node.start_mark))
        if read is None or read.value is None:
            return Node({}, start, start)
        if not isinstance(read.value, dict):
            raise _Stop(
                read.mark, "the file must hold settings as 'key: value' lines", "see the files in configs/"
            )
        return read

    def read(self, node: yaml.Node, key_mark: Mark) -> Node:
        mark = _mark(node.start_mark)
        self.count += 1
        if self.count > MAX_NODES:
            reason = f"more than {MAX_NODES} values (an alias counts as what it stands for)"
            raise _Stop(mark, reason, "leave out what is not a setting")
        if isinstance(node, yaml.ScalarNode):
            unquoted = node.style is None
            value = plain(node.value) if unquoted else node.value
            return Node(value, mark, key_mark, node.value if unquoted else None)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.read(item, _mark(item.start_mark)) for item in node.value], mark, key_mark)
        return Node(dict(self.items(node)), mark, key_mark)

    def items(self, node: yaml.Node) -> Iterator[tuple[str, Node]]:
        first: dict[str, Mark] = {}
        for key, value in node.value:
            mark = _mark(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.problem(mark, "a key must be a word", None)
            elif key.value == "<<" and key.style is None:
                self.problem(mark, "merge keys (<<) are not supported", "write the keys out")
            elif key.value in first:
                reason = f"'{as_word(key.value)}' is set twice, first on line {first[key.value].line}"
                self.problem(mark, reason, "remove one")
            else:
                first[key.value] = mark
                yield key.value, self.read(value, mark)

    def compose(self, content: bytes) -> yaml.Node | None:
        """PyYAML's node tree, its errors in plain words."""
        loader = _Loader(_text(content))
        try:
            node = loader.first_document()
            second = loader.next_document()
        except yaml.MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark
            raise _Stop(None if at is None else _mark(at), *_plain_words(error)) from error
        finally:
            loader.dispose()
        if second is not None:
            self.problem(second, "a second document (---)", "keep one")
        return node

    def problem(self, mark: Mark, reason: str, fix: str | None) -> None:
        self.problems.append(UsageError(f"{self.name}:{mark.line}:{mark.column}: {reason}", fix))


def _text(content: bytes) -> str:
    """The file's text; raises _Stop if YAML may not hold it."""
    if len(content) > MAX_BYTES:
        raise _Stop(
            None, f"larger than {MAX_BYTES // 1_000_000} MB: not a configuration", "give the YAML file"
        )
    _refuse_binary(content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        reason = f"byte 0x{content[error.start]:02x} is not valid UTF-8"
        raise _Stop(_mark_at(before, len(before)), reason, "save the file as UTF-8") from error
    bad = _FORBIDDEN.search(text)
    if bad is not None:
        reason = f"the character U+{ord(bad.group()):04X} is not allowed in YAML"
        fix = f'remove it, or write "\\u{ord(bad.group()):04x}" in double quotes'
        raise _Stop(_mark_at(text, bad.start()), reason, fix)
    return text


def _refuse_binary(content: bytes) -> None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        raise _Stop(Mark(1, 1), "the file is UTF-16, UTF-32 or no text", "save the file as UTF-8")


def _plain_words(error: yaml.MarkedYAMLError) -> tuple[str, str | None]:
    """PyYAML's problem in plain words, and what to do about it."""
    problem = error.problem or "not valid YAML"
    if "'\\t'" in problem:
        return "a tab: YAML indents with spaces", "replace the tab by spaces"
    if problem.startswith("mapping values are not allowed"):
        return "a second ': ' on one line, or wrong indentation", "quote the value, or indent the line"
    if problem.startswith("could not find expected ':'"):
        return "a line without ': '", "write it as 'key: value'"
    if problem.startswith("expected <block end>"):
        return "wrong indentation", "line it up with the keys above"
    if problem.startswith("found undefined alias"):
        return f"the alias {problem.rpartition(' ')[2]} has no anchor", "write the value out"
    return f"not valid YAML: {problem}", "correct this line, or the one before it"


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _mark_at(text: str, position: int) -> Mark:
    return Mark(text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1)
