"""Files that are either the old or the new content, never half of one: write beside, fsync, rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonlines


def fsync_path(path: Path) -> None:
    """Flush a file, or a directory's list of names, to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_DRAFT = re.compile(r"\..+\.\d+-[0-9a-f]{8}")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` in one step; a reader sees the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        raise
    fsync_path(path.parent)


def drafts(folder: Path) -> list[Path]:
    """Temporary files of `write_atomic` in `folder`, also those of killed processes."""
    return [path for path in folder.glob(".*") if _DRAFT.fullmatch(path.name) and path.is_file()]


def json_line(row: Mapping[str, Any]) -> str:
    """One line of strict JSON: NaN and infinity become null, lone surrogates are escaped."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(row), ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(finite(row), ensure_ascii=True)
    return text + "\n"


def finite(value: Any) -> Any:
    """The same JSON value with every non-finite number replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one JSON line, whole or not at all; an incomplete line left by a crash is ended first."""
    data = json_line(row).encode("utf-8")
    with path.open("ab+", buffering=0) as file:
        before = file.tell()
        if before > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        try:
            # a disk that fills up may take a part of it
            while data:
                data = data[file.write(data) :]
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `path` by these JSON lines, atomically."""
    write_atomic(path, "".join(map(json_line, rows)))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file that rft wrote; skips incomplete lines; a missing file has none."""
    try:
        file = path.open(encoding="utf-8", errors="replace", newline="\n")
    except FileNotFoundError:
        return
    # Where orjson is installed, jsonlines would take it, which refuses the half surrogates that a model may write.
    with file, jsonlines.Reader(file, loads=json.loads) as reader:
        yield from reader.iter(type=dict, skip_invalid=True, skip_empty=True)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
