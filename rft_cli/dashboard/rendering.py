"""From a template and values to a page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from rft_cli import __version__
from rft_cli.dashboard.context import context_of
from rft_cli.pages.environment import make_environment

if TYPE_CHECKING:
    from jinja2 import Environment

NAVIGATION: list[tuple[str, str]] = [("/", "Runs"), ("/start", "Start a job")]
"""Links in the bar: address, text."""


def page(
    request: Request,
    template: str,
    *,
    title: str,
    status: int = 200,
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """The page that this template makes of the values."""
    text = (
        environment()
        .get_template(template)
        .render(
            title=title,
            navigation=NAVIGATION,
            here=request.url.path,
            folder=str(context_of(request).folder),
            version=__version__,
            jobs=request.app.state.jobs,
            **values,
        )
    )
    sent = dict(headers or {})
    if etag is not None:
        sent |= {"etag": f'"{etag}"', "cache-control": "no-cache"}
    return HTMLResponse(text, status_code=status, headers=sent)


def unchanged(request: Request, etag: str) -> Response | None:
    """304 where the browser has the page of this ETag already."""
    if request.headers.get("if-none-match") == f'"{etag}"':
        return Response(status_code=304, headers={"etag": f'"{etag}"', "cache-control": "no-cache"})
    return None


@cache
def environment() -> Environment:
    """Jinja with the templates of the dashboard, then those of the report."""
    made = make_environment("rft_cli.dashboard", "rft_cli.pages")
    made.filters["code_spans"] = _code_spans
    return made


def _code_spans(text: str) -> Markup:
    """The text with what stands in backticks as code."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )
