"""The list of all runs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rft_cli.dashboard.context import context_of
from rft_cli.dashboard.rendering import page
from rft_cli.view.entries import list_entries


def show_runs(request: Request) -> Response:
    """The runs of the folder, newest first."""
    entries = list_entries(context_of(request).folder)
    return page(request, "runs.html", title="Runs", entries=entries)


ROUTES: list[BaseRoute] = [Route("/", show_runs)]
