"""The grader's file: found, read once, checked without running it, hashed with the user's files that it imports."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rft_cli.config.paths import JSON_OR_YAML
from rft_cli.config.schema import GraderConfig
from rft_cli.config.scorers import split_target
from rft_cli.config.suggest import near_file
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.worker.messages import ScorerSource
from rft_cli.runs.files import sha256_of
from rft_cli.runs.model_hash import base_identity

KINDS = (
    "a grader is a Python file (scorer.py or scorer.py:function), an OpenAI grader spec (.json or .yaml), or a "
    "reward model: a directory, or a hub id such as org/name"
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MODEL_FILE = "reward-model.json"
_INLINE = "grader.spec"
_INLINE_FILE = "grader.json"


def is_spec(config: GraderConfig) -> bool:
    """Whether the grader is an OpenAI spec, in a file or in the configuration itself."""
    return config.spec is not None or (config.file is not None and config.file.endswith(JSON_OR_YAML))


def is_reward_model(config: GraderConfig) -> bool:
    """Whether the grader is a sequence-classification model: a directory of one, or what may be a hub id."""
    path = config.file
    if path is None or config.spec is not None or path.endswith((".py", *JSON_OR_YAML)):
        return False
    folder = Path(path).expanduser()
    return (folder / "config.json").is_file() or (not folder.exists() and bool(_HUB_ID.fullmatch(path)))


def by_file_name(source: ScorerSource) -> ScorerSource:
    """The same grader, with its file name alone in messages, so that they are the same wherever the job runs."""
    return replace(source, shown=Path(source.shown).name)


def read_sources(config: GraderConfig) -> list[ScorerSource]:
    """Read the files of all graders in the settings; raises UsageErrors with every problem of them."""
    sources: list[ScorerSource] = []
    problems: list[UsageError] = []
    for one, _ in config.each():
        try:
            if isinstance(config.path, list) and not split_target(str(one.path))[0].endswith(".py"):
                fix = "of other graders, a spec of type multi adds up several"
                raise UsageError(f"{one.path}: only Python scorers can be added up", fix)
            sources.append(read_source(one))
        except UsageError as error:
            problems += error.problems
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UsageErrors(problems)
    return sources


def sha256_of_all(sources: Sequence[ScorerSource]) -> str:
    """One hash for the files of a grader: the hash of its one file, or of the list of their hashes."""
    if len(sources) == 1:
        return sources[0].sha256
    return hashlib.sha256("\n".join(source.sha256 for source in sources).encode()).hexdigest()


def read_source(config: GraderConfig) -> ScorerSource:
    """Read one grader's file; raises UsageError where it is missing, or a scorer is not Python.

    An inline spec is given as the JSON file `grader.json` that it would be; specs are not checked here. The source of
    a reward model is a note that identifies it; its weights are neither read nor copied.
    """
    if config.spec is not None:
        return _inline(config)
    if is_reward_model(config):
        return _reward_model(config)
    if config.path is None:
        raise UsageError("no grader is set", "name a Python file: --reward-model scorer.py")
    assert isinstance(config.path, str), "several graders are read one by one"
    shown, function = (config.path, None) if is_spec(config) else split_target(config.path)
    path = Path(shown).expanduser()
    if path.is_dir():
        raise UsageError(
            f"{shown}: is neither a scorer nor a reward model (no config.json)",
            "name the Python file in it",
        )
    if path.suffix not in (".py", *JSON_OR_YAML):
        reason = "no such file" if not path.exists() else "is not a Python file"
        raise UsageError(f"{shown}: {reason}", KINDS)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{shown}: no such file", near_file(path, (".py", *JSON_OR_YAML))) from None
    except OSError as error:
        raise UsageError(f"{shown}: can't be read: {error.strerror or error}") from error
    if path.suffix == ".py":
        _check_syntax(content, shown)
    elif not content.strip():
        raise UsageError(f"{shown}: the file is empty", "write a grader spec: see docs/graders.md")
    return ScorerSource(os.path.abspath(path), shown, function, content, home=_home(config))


def _home(config: GraderConfig) -> str:
    """The folder that scorers run in; empty where it is gone."""
    if config.folder is not None:
        folder = os.path.abspath(os.path.expanduser(config.folder))
        if not os.path.isdir(folder):
            raise UsageError(
                f"grader.folder: there is no folder {folder}", "name the folder to import and read from"
            )
        return folder
    try:
        return os.getcwd()
    except OSError:
        return ""


def _inline(config: GraderConfig) -> ScorerSource:
    if config.path is not None:
        raise UsageError(
            f"a grader file ({config.path}) and an inline spec (grader.spec) are both set", "keep one of them"
        )
    content = (
        json.dumps(config.spec, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    )
    # No folder: there is no file, and so nothing beside it to import.
    return ScorerSource(_INLINE_FILE, _INLINE, None, content, home=_home(config))


def _reward_model(config: GraderConfig) -> ScorerSource:
    """A note that identifies the model without reading gigabytes; a directory's path is no part of it."""
    assert isinstance(config.path, str)
    note = {
        "hub_id": None if Path(config.path).expanduser().is_dir() else config.path,
        "identity": base_identity(config.path, None),
        **config.reward_model.model_dump(),
    }
    return ScorerSource(_MODEL_FILE, config.path, None, json.dumps(note, indent=2).encode() + b"\n")


def _check_syntax(content: bytes, shown: str) -> None:
    if not content.strip():
        raise UsageError(f"{shown}: the file is empty", "write a function score(completion, example)")
    with syntax_problems(shown):
        # Compiles, runs nothing.
        compile(content, shown, "exec", dont_inherit=True)


@contextmanager
def syntax_problems(shown: str) -> Iterator[None]:
    """Turn errors of Python's parser into UsageErrors. SyntaxWarnings are left to workers and their log."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SyntaxError as error:
        column = f":{error.offset}" if error.offset else ""
        raise UsageError(
            f"{shown}:{error.lineno or 1}{column}: {error.msg}", "correct the Python syntax"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{shown}: is not Python source: {error}") from None


def imported_files(scorer: Path, home: Path | None = None) -> dict[str, str]:
    """SHA-256 of every file that `scorer` imports from its folder or from `home`, or that those import.

    By the path inside the folder. Found by reading the source: imports by a computed name, and files read as data, are
    not found.
    """
    folders = [scorer.parent, *(() if home is None or home == scorer.parent else (home,))]
    found: dict[str, str] = {}
    waiting = [(scorer, scorer.parent)]
    while waiting:
        importing, inside = waiting.pop()
        for name in _imported_names(importing, inside):
            folder, files = next(
                ((each, files) for each in folders if (files := _files(each, name))), (inside, [])
            )
            for file in files:
                key = file.relative_to(folder).as_posix()
                if key not in found and file != scorer:
                    found[key] = sha256_of(file)
                    waiting.append((file, folder))
    return dict(sorted(found.items()))


def _imported_names(file: Path, folder: Path) -> list[str]:
    """Dotted names of what the file, which lies somewhere in `folder`, imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return []
    packages = file.parent.relative_to(folder).parts
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            outer = packages[: max(0, len(packages) - (node.level - 1))] if node.level else ()
            start = ".".join([*outer, *([node.module] if node.module else [])])
            names += [start, *(f"{start}.{alias.name}".lstrip(".") for alias in node.names)]
    return names


def _files(folder: Path, name: str) -> list[Path]:
    """The files in `folder` that importing the dotted `name` runs: packages on the way, then the module."""
    found, path = [], folder
    for part in [part for part in name.split(".") if part]:
        path = path / part
        found += [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
    return found
