"""Scripts, styles and uPlot: the files of this package and those that the report uses too."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rft_cli.dashboard.rendering import unchanged

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SHARED = (
    "uplot/uPlot.iife.min.js",
    "uplot/uPlot.min.css",
    "report.css",
    "theme.js",
    "charts.js",
    "explorer.js",
)
OWN = ("dashboard.css", "dashboard.js", "icon.svg", "jobs.css", "start.js", "job.js")


def asset(request: Request) -> Response:
    """One of the known files."""
    name = request.path_params["file"]
    if name not in SHARED and name not in OWN:
        raise HTTPException(404)
    text, etag = _read(name)
    kind = TYPES[name.rpartition(".")[2]]
    return unchanged(request, etag) or Response(
        text, media_type=kind, headers={"etag": f'"{etag}"', "cache-control": "no-cache"}
    )


@cache
def _read(name: str) -> tuple[bytes, str]:
    package = "rft_cli.pages" if name in SHARED else "rft_cli.dashboard"
    text = files(package).joinpath("static", *name.split("/")).read_bytes()
    return text, hashlib.sha256(text).hexdigest()[:20]


ROUTES: list[BaseRoute] = [Route("/static/{file:path}", asset)]
