"""Names of data sets on the hub, as opposed to files."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

_FILES = (
    *(
        ".jsonl",
        ".ndjson",
        ".jsonlines",
        ".json",
        ".csv",
        ".tsv",
        ".parquet",
        ".arrow",
        ".txt",
        ".yaml",
        ".yml",
    ),
    *(".gz", ".bz2", ".xz", ".zst", ".zip"),
)
"""How names of files end, whether the file is there or not."""
_NAME = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:/(?P<config>[\w.+=-]+))?(?:@(?P<revision>\w[\w./-]*))?(?::(?P<split>\w.*))?"
)


@dataclass(frozen=True, slots=True)
class HubName:
    """A data set of the hub: `REPO[/CONFIG][@REVISION][:SPLIT]`, None for what is not said."""

    repo: str
    config: str | None = None
    revision: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        parts = {"": self.repo, "/": self.config, "@": self.revision, ":": self.split}
        return "".join(f"{sign}{part}" for sign, part in parts.items() if part)


def hub_name(path: str, folder: str = "") -> HubName | None:
    """The data set that `path` names; None if it names a file in `folder`, there or not."""
    found = _NAME.fullmatch(path)
    if found is None or found["repo"].startswith("~"):
        return None
    bare = re.split("[:@]", path, maxsplit=1)[0]
    there = any(os.path.exists(os.path.join(folder, name)) for name in (path, bare))
    return None if there or bare.lower().endswith(_FILES) else HubName(**found.groupdict())


def hash_of_name(name: str) -> str:
    """The hash of rows whose commit, configuration and split are all named."""
    return hashlib.sha256(name.encode()).hexdigest()
