"""Data sets of the hub, read through `datasets`: which commit, configuration and split a name means, and its rows."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rft_cli.config.hub_names import HubName, hash_of_name
from rft_cli.config.suggest import did_you_mean
from rft_cli.data.converted import Converted
from rft_cli.errors import RftError, UsageError

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
"""What a job's files are called as splits."""
_MAIN = ("default", "main", "all")
"""Default configurations, in this order."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
AT_A_TIME = 512


def hub_rows(path: str, name: HubName, role: str | None) -> Converted:
    """The rows that `name` means; `role` (train, validation, test) chooses a split where it says none.

    Raises UsageError if the hub has no such data set, configuration or split, or can't be reached.
    """
    with _quiet():
        try:
            pinned, data, notes = _load(path, name, role)
        except RftError:
            raise
        except Exception as error:
            # any error of the libraries: the data set or the connection is at fault
            raise _refusal(path, name, error) from error
    converted = Converted(iter(()), hash_of_name(str(pinned)), pinned=str(pinned), notes=notes)
    converted.lines = _lines(data, converted.notes)
    return converted


def _lines(data: Any, notes: list[str]) -> Iterator[bytes]:
    from rft_cli.data.arrow_rows import table_lines

    yield from table_lines(data.with_format("arrow").iter(AT_A_TIME), notes)


def _load(path: str, name: HubName, role: str | None) -> tuple[HubName, Any, list[str]]:
    import datasets

    commit = _commit(name)
    config, notes = _config(path, replace(name, revision=commit or name.revision))
    found = datasets.load_dataset_builder(name.repo, config, revision=commit or name.revision)
    found.download_and_prepare()
    # Offline, `datasets` takes any commit from its cache.
    cached = _COMMIT.search(str(found.cache_dir))
    if commit is not None and cached is not None and cached[0] != commit:
        raise UsageError(
            f"{path}: commit {commit} is not in the cache, and the hub is out of reach", "go online"
        )
    splits = list(found.info.splits or {})
    split = name.split or _split_of(path, splits, role)
    plain = split.partition("[")[0].partition("+")[0]
    if plain not in (*splits, "all"):
        raise _no_split(path, plain, splits)
    pinned = HubName(name.repo, found.config.name, commit or (cached[0] if cached else name.revision), split)
    return pinned, found.as_dataset(split=split), notes


def _commit(name: HubName) -> str | None:
    """The commit that the name means now; None if only the cache knows."""
    if name.revision is not None and _COMMIT.fullmatch(name.revision):
        return name.revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(name.repo, revision=name.revision).sha
    except OfflineModeIsEnabled:
        return None


def _config(path: str, name: HubName) -> tuple[str | None, list[str]]:
    """The configuration to take, and notes on it."""
    import datasets

    if name.config is None and datasets.config.HF_HUB_OFFLINE:
        # the cache has what it has
        return None, []
    known = datasets.get_dataset_config_names(name.repo, revision=name.revision)
    if name.config is not None:
        if known and name.config not in known:
            fix = did_you_mean(name.config, known) or f"it has: {', '.join(known)}"
            raise UsageError(f"{path}: {name.repo} has no configuration '{name.config}'", fix)
        return name.config, []
    if len(known) < 2:
        return None, []
    default = datasets.get_dataset_default_config_name(name.repo, revision=name.revision)
    chosen = default or next((word for word in _MAIN if word in known), None)
    if chosen is None:
        few = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        example = replace(name, config=known[0], revision=None)
        raise UsageError(f"{path}: {name.repo} has several configurations: {few}", f"name one: {example}")
    others = ", ".join(word for word in known if word != chosen)
    return chosen, [f"configuration '{chosen}' is taken; there also is: {others}"]


def _split_of(path: str, splits: Sequence[str], role: str | None) -> str:
    for word in _SPLITS.get(role or "", ()):
        if word in splits:
            return word
    if role is None and len(splits) == 1:
        return splits[0]
    raise _no_split(path, role, splits)


def _no_split(path: str, wanted: str | None, splits: Sequence[str]) -> UsageError:
    said = f"has no split '{wanted}'" if wanted else "has several splits"
    named = path.partition(":")[0]
    example = f"{named}:{splits[0]}" if splits else f"{named}:train"
    return UsageError(
        f"{path}: the data set {said}", f"it has: {', '.join(splits)}; name one, as in {example}"
    )


def _refusal(path: str, name: HubName, error: Exception) -> UsageError:
    """What went wrong, in one message."""
    from huggingface_hub import errors

    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)

    def has(*kinds: type) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    if has(errors.GatedRepoError):
        return UsageError(
            f"{path}: the data set {name.repo} is gated",
            f"ask for access at https://huggingface.co/datasets/{name.repo}, then `hf auth login`",
        )
    if has(errors.RevisionNotFoundError):
        return UsageError(
            f"{path}: {name.repo} has no revision '{name.revision}'", "name a branch, tag or commit"
        )
    if has(errors.RepositoryNotFoundError):
        return UsageError(
            f"{path}: there is no such file, and the hub has no data set {name.repo}",
            "check the name; a private data set needs `hf auth login`",
        )
    if (
        has(errors.OfflineModeIsEnabled, ConnectionError, TimeoutError)
        or "ConnectError" in type(chain[-1]).__name__
    ):
        return UsageError(
            f"{path}: there is no such file, and the hub can't be reached for a data set of that name",
            f"go online, or download it before: hf download --repo-type dataset {name.repo}",
        )
    if "scripts are no longer supported" in said:
        return UsageError(
            f"{path}: {name.repo} is read by a Python script of its own, which `datasets` runs no more",
            f"take the hub's Parquet copy of it: {replace(name, revision='refs/convert/parquet')}",
        )
    return UsageError(f"{path}: the data set can't be read: {said}")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and warnings of the libraries: rft reports what matters."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
