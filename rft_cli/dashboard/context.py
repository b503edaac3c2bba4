"""What every page may use: the folder with the runs, the run that a path names, the fields of a form."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from rft_cli.dashboard.overviews import Overviews
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.view.entries import Entry, list_entries

LARGEST_FORM = 1_000_000
"""Bytes of a form."""


@dataclass(frozen=True, slots=True)
class Context:
    """`folder` is the folder with the runs, as it was given; `overviews` keeps what was read of them."""

    folder: Path
    overviews: Overviews


class NoSuchRun(UsageError):
    """The path names a run that is not there, was deleted, or can't be read: a page with status 404."""


def context_of(request: Request) -> Context:
    """The dashboard's context."""
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


def open_named(request: Request) -> Run:
    """The run that the path parameter `name` means. Raises NoSuchRun."""
    return open_run(context_of(request).folder, request.path_params["name"])


def open_run(folder: Path, name: str) -> Run:
    """The run `name` directly in the folder, nothing outside of it. Raises NoSuchRun."""
    path = folder / name
    if name in ("", ".", "..", "latest") or Path(name).name != name or "\0" in name or not path.is_dir():
        raise NoSuchRun(
            f"there is no run {name!r} in {folder}", "it may have been deleted: see the list of runs"
        )
    refused = _refused(folder, path)
    if refused is not None:
        raise NoSuchRun(refused, "the dashboard shows nothing outside of its folder: `rft show` does")
    try:
        return Run.open(path, folder)
    except UsageError as error:
        raise NoSuchRun(error.message, error.fix) from None


def entries_of(request: Request) -> list[Entry]:
    """The runs of the folder as the list shows them; one that leads out of it is unreadable."""
    folder = context_of(request).folder
    return list_entries(folder, lambda run: _refused(folder, run))


def _refused(folder: Path, run: Path) -> str | None:
    """Why the dashboard does not read this run; None where it does."""
    link = links_out(folder, run)
    return None if link is None else f"{link} is a link that leads out of {run if link != run else folder}"


def links_out(folder: Path, run: Path) -> Path | None:
    """The first link among the files of a run that are shown which leads out of the run; the run itself may be one."""
    inside = os.path.realpath(run)
    if os.path.dirname(inside) != os.path.realpath(folder):
        return run
    for shown in (run, run / "scorer", run / "validation", run / "rollouts"):
        try:
            with os.scandir(shown) as found:
                links = [entry.path for entry in found if entry.is_symlink()]
        except OSError:
            continue
        for link in links:
            if not os.path.realpath(link).startswith(inside + os.sep):
                return Path(link)
    return None


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form that was sent url-encoded; of a repeated name the last one."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise HTTPException(413, f"a form has at most {LARGEST_FORM:,} bytes")
    return dict(parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True))
