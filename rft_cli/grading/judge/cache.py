"""What judges wrote, on disk, by a hash of the question: the same question is paid for once.

One small JSON file an entry. Writers rename a finished file into place, so processes can share a folder; a file that
can't be read counts as missing. No entry holds a question or an API key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rft_cli.config.judges import NONE
from rft_cli.errors import UsageError

SCHEMA = 1
"""Part of every key: raised when the meaning of questions or entries changes."""


def cache_folder(setting: str, env: Mapping[str, str]) -> Path | None:
    """The folder of `grader.judge.cache`; None for no cache."""
    if setting.lower() == NONE:
        return None
    if setting.lower() != "auto":
        return Path(setting).expanduser()
    home = env.get("XDG_CACHE_HOME", "")
    # The XDG specification ignores a relative path.
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return base / "rft" / "judge"


def question_key(question: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of everything that the judge's text depends on, as canonical JSON."""
    text = json.dumps({"schema": SCHEMA, **question}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class JudgeCache:
    """What judges wrote, by key, in a folder that only its owner can read; UsageError if it can't be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "no permission to write")
        except OSError as error:
            raise UsageError(
                f"grader.judge.cache: {folder} can't be used: {error.strerror}",
                "name another folder, or none",
            ) from None

    def read(self, key: str) -> str | None:
        """What the judge wrote, or None where there is no entry that can be read."""
        try:
            entry = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        text = entry.get("text") if isinstance(entry, dict) and entry.get("key") == key else None
        return text if isinstance(text, str) else None

    def write(self, key: str, text: str) -> None:
        """Keep what the judge wrote. Errors of the disk are ignored: the grade counts without the entry."""
        path = self._path(key)
        draft = path.with_name(f".{key}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # No fsync, unlike a run's files: an entry that a power cut tears is asked for again.
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"key": key, "text": text}, file)
            os.replace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
