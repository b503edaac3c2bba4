"""JSON text → the same tree that YAML files become, in which every value knows its line and column."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from json.decoder import scanstring  # type: ignore[attr-defined]  # public, missing in typeshed
from pathlib import Path
from typing import Any

from rft_cli.config.yaml_tree import MAX_BYTES, Mark, Node, read_yaml
from rft_cli.errors import UsageError

MAX_DEPTH = 100
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def read_tree(content: bytes, name: str, problems: list[UsageError]) -> Node | None:
    """The value of a JSON file, or of a YAML file, as its name says; problems as in `read_json`."""
    read = read_json if Path(name).suffix == ".json" else read_yaml
    return read(content, name, problems)


def read_json(content: bytes, name: str, problems: list[UsageError]) -> Node | None:
    """The file's value; adds what is wrong to `problems`, and gives None if the file can't be read."""
    if len(content) > MAX_BYTES:
        problems.append(UsageError(f"{name}: larger than {MAX_BYTES // 1_000_000} MB: not a grader or a job"))
        return None
    try:
        text = content.decode("utf-8-sig")
        json.loads(text, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        problems.append(UsageError(f"{name}: byte {error.start + 1} is not valid UTF-8", "save it as UTF-8"))
    except json.JSONDecodeError as error:
        where = f"{name}:{error.lineno}:{error.colno}"
        problems.append(UsageError(f"{where}: not valid JSON: {error.msg}", "correct the JSON syntax"))
    except ValueError as error:
        problems.append(UsageError(f"{name}: not valid JSON: {error}", "write a finite number"))
    except RecursionError:
        problems.append(UsageError(f"{name}: nested too deep to read"))
    else:
        try:
            return _Marker(text, name, problems).read(_SPACE.match(text).end(), None, 0)[0]  # type: ignore[union-attr]
        except RecursionError:
            problems.append(UsageError(f"{name}: nested deeper than {MAX_DEPTH} levels"))
    return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


class _Marker:
    """Walks through a text that is known to be valid JSON."""

    def __init__(self, text: str, name: str, problems: list[UsageError]) -> None:
        self.text = text
        self.name = name
        self.problems = problems
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def mark(self, position: int) -> Mark:
        line = bisect_right(self.lines, position)
        return Mark(line, position - self.lines[line - 1] + 1)

    def skip(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        return position if match is None else match.end()

    def read(self, position: int, key_mark: Mark | None, depth: int) -> tuple[Node, int]:
        """The value at `position`, and where it ends."""
        if depth > MAX_DEPTH:
            raise RecursionError
        mark = self.mark(position)
        first = self.text[position]
        value: Any
        if first == "{":
            value, end = self.members(position, depth)
        elif first == "[":
            value, end = self.items(position, depth)
        else:
            value, end = _DECODER.raw_decode(self.text, position)
        word = None if first in '{["' else self.text[position:end]
        return Node(value, mark, key_mark or mark, word), end

    def members(self, position: int, depth: int) -> tuple[dict[str, Node], int]:
        found: dict[str, Node] = {}
        position = self.skip(position + 1)
        while self.text[position] != "}":
            key_mark = self.mark(position)
            key, end = scanstring(self.text, position + 1)
            node, end = self.read(self.skip(self.skip(end) + 1), key_mark, depth + 1)
            if key in found:
                place = f"{self.name}:{key_mark.line}:{key_mark.column}"
                first = found[key].key_mark.line
                self.problems.append(
                    UsageError(f"{place}: '{key}' is set twice, first on line {first}", "remove one")
                )
            else:
                found[key] = node
            position = self.after(end)
        return found, position + 1

    def items(self, position: int, depth: int) -> tuple[list[Node], int]:
        found: list[Node] = []
        position = self.skip(position + 1)
        while self.text[position] != "]":
            node, end = self.read(position, None, depth + 1)
            found.append(node)
            position = self.after(end)
        return found, position + 1

    def after(self, end: int) -> int:
        """The place of the next member, or of the closing bracket."""
        position = self.skip(end)
        return self.skip(position + 1) if self.text[position] == "," else position
