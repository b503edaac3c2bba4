"""The application: its routes, the guard before them, and a page for each error."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from rft_cli.dashboard import assets, compare_page, completions_page, run_list, run_page
from rft_cli.dashboard.access import Guard
from rft_cli.dashboard.context import Context, NoSuchRun
from rft_cli.dashboard.jobs import pages as job_pages
from rft_cli.dashboard.jobs.jobs import Jobs
from rft_cli.dashboard.overviews import Overviews
from rft_cli.dashboard.rendering import page
from rft_cli.errors import RftError


def pages() -> list[BaseRoute]:
    """Every route; the first that fits a path is taken."""
    shown = (run_list, run_page, completions_page, compare_page, job_pages)
    return [*assets.ROUTES, *(route for module in shown for route in module.ROUTES)]


def create_app(folder: Path, *, token: str, once: str, port: int) -> ASGIApp:
    """The dashboard of the runs in `folder`; `token`, `once` and `port` as in `access.Guard`."""
    app = Starlette(
        routes=pages(),
        exception_handlers={
            RftError: _wrong,
            HTTPException: _http_error,
            Exception: _bug,
        },
    )
    app.state.context = Context(folder, Overviews())
    app.state.jobs = Jobs(Path.cwd(), folder)
    # Around all, so that it hardens also the page of an internal error.
    return Guard(app, token=token, once=once, port=port)


async def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, RftError)
    status = 404 if isinstance(error, NoSuchRun) else 400
    return page(request, "message.html", title="Not shown", status=status, problems=error.problems)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = "there is no such page" if error.status_code == 404 else error.detail
    return page(
        request,
        "message.html",
        title="No such page" if error.status_code == 404 else "Not possible",
        status=error.status_code,
        problems=[RftError(said, "go back to the list of runs")],
    )


async def _bug(request: Request, error: Exception) -> Response:
    said = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
    print(
        f"internal error: {request.url.path!r}: {reason!r} (RFT_DEBUG=1 shows the traceback)", file=sys.stderr
    )
    if os.environ.get("RFT_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    problem = RftError(f"internal error: {reason}", "this is a bug of rft; the other pages go on")
    return page(request, "message.html", title="Internal error", status=500, problems=[problem])
