"""Put an export on the Hugging Face hub: only where it was asked for, with the token of the hub's own store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rft_cli.errors import RftError, RunFailed, UsageError

_NAME = re.compile(r"[A-Za-z0-9_]([\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
"""What the hub takes as either part of a repository's name."""


@dataclass(frozen=True, slots=True)
class Push:
    """Where an export goes: `repo` is ORG/NAME."""

    repo: str
    private: bool


def check_push(push: Push) -> None:
    """UsageError where the name is wrong, nobody is logged in, or the hub is out of reach: before anything is made."""
    from huggingface_hub import HfApi, get_token

    parts = push.repo.split("/")
    if (
        len(parts) != 2
        or not all(_NAME.fullmatch(part) for part in parts)
        or re.search(r"--|\.\.", push.repo)
    ):
        raise UsageError(
            f"--push {push.repo}: not a name on the hub", "give ORG/NAME, such as my-team/my-model"
        )
    if get_token() is None:
        raise UsageError(f"--push {push.repo}: you are not logged in to the hub", "hf auth login")
    with _explained(push, UsageError):
        HfApi().whoami()


def push_folder(push: Push, folder: Path, message: str) -> str:
    """Make the repository where there is none, put all files there in one commit; returns its address."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    adds = [CommitOperationAdd(path.relative_to(folder).as_posix(), str(path)) for path in files]
    with _explained(push, RunFailed, f"; the export itself is whole: {folder}"):
        address = api.create_repo(push.repo, private=push.private, exist_ok=True)
        api.create_commit(push.repo, adds, commit_message=message)
    return str(address)


@contextmanager
def _explained(push: Push, kind: type[RftError], after: str = "") -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise kind(f"--push {push.repo}: HF_HUB_OFFLINE is set{after}", "unset HF_HUB_OFFLINE") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 401:
            raise kind(
                f"--push {push.repo}: the hub does not know your token{after}", "hf auth login"
            ) from None
        if status == 403:
            raise kind(
                f"--push {push.repo}: your token may not write there{after}",
                "take a name of your own, or a token with write access: hf auth login",
            ) from None
        said = (error.server_message or str(error)).strip().splitlines()[0]
        raise kind(
            f"--push {push.repo}: the hub answered {status}: {said}{after}", "try again later"
        ) from None
    # Not reachable: the HTTP library's own errors, and the system's.
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise kind(
            f"--push {push.repo}: the hub can't be reached: {said}{after}", "try again later"
        ) from None
