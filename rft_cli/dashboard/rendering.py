"""From a template and values to a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from rft_cli import __version__
from rft_cli.dashboard.context import context_of
from rft_cli.dashboard.jobs.jobs import jobs_of
from rft_cli.pages.environment import make_environment
from rft_cli.pages.script_data import embedded

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

NAVIGATION: list[tuple[str, str]] = [("/", "Runs"), ("/start", "Start a job")]
"""Links in the bar: address, text."""


def page(
    request: Request,
    template: str,
    *,
    title: str,
    status: int = 200,
    etag: str | None = None,
    every: float = 0.0,
    **values: Any,
) -> Response:
    """The page that this template makes of the values.

    `etag`: what it is made of, in a short text. `every`: seconds after which it asks for news; 0: it never does.
    """
    text = (
        environment()
        .get_template(template)
        .render(
            title=title,
            navigation=NAVIGATION,
            here=request.url.path,
            folder=str(context_of(request).folder),
            version=__version__,
            etag=etag,
            every=every,
            jobs=jobs_of(request),
            **values,
        )
    )
    return HTMLResponse(text, status_code=status, headers={} if etag is None else _cached(f'"{etag}"'))


def unchanged(request: Request, etag: str) -> Response | None:
    """304 where the browser has the page of this ETag already."""
    return not_modified(f'"{etag}"') if request.headers.get("if-none-match") == f'"{etag}"' else None


def not_modified(etag: str) -> Response:
    """304: the page that the browser has under this ETag, with its quotation marks, is good."""
    return Response(status_code=304, headers=_cached(etag))


def _cached(etag: str) -> dict[str, str]:
    return {"etag": etag, "cache-control": "no-cache"}


def script_block(data: Mapping[str, Any]) -> Markup:
    """Data of a page for its scripts, safe inside of a `<script>` block."""
    from markupsafe import Markup

    return Markup(embedded(data))


def choose(asked: str | None, known: Callable[[str], bool], default: str) -> str:
    """What was asked for where it is known, else the default: an address that was typed is no reason for an error."""
    return asked if asked is not None and known(asked) else default


@cache
def environment() -> Environment:
    """Jinja with the templates of the dashboard, then those of the report."""
    made = make_environment("rft_cli.dashboard", "rft_cli.pages")
    made.filters["code_spans"] = _code_spans
    return made


def _code_spans(text: str) -> Markup:
    """The text with what stands in backticks as code."""
    from markupsafe import Markup

    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )
