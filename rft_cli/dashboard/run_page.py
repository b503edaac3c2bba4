"""The page of one run: result, curves, distribution of rewards, diagnosis, pilot, configuration, files; live."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rft_cli.dashboard.context import context_of, open_named
from rft_cli.dashboard.jobs.jobs import jobs_of
from rft_cli.dashboard.live import QUICK_S
from rft_cli.dashboard.rendering import not_modified, page, script_block, unchanged
from rft_cli.dashboard.state import digest, state_of
from rft_cli.pages.figures import difference_scale, drawn_charts, histograms, result_rows


def show_run(request: Request) -> Response:
    """The run that the path names, or 304 where the browser has it as it is, or a page that asks can wait."""
    run = open_named(request)
    state = state_of(run.path)
    actions = jobs_of(request).actions(run.path, run.info)
    # a press on Stop is seen at once, also where the run's files are not read anew yet
    can_do = digest([actions])[:8]
    etag = f"{digest(['run', state])}-{can_do}"
    same = unchanged(request, etag)
    if same is not None:
        return same
    overviews = context_of(request).overviews
    known = request.headers.get("if-none-match")
    if known is not None and known.endswith(f'{can_do}"') and overviews.is_resting(run.path):
        return not_modified(known)
    seen = overviews.seen(run, state)
    overview = seen.overview
    rows = result_rows(overview)
    charts = drawn_charts(overview.charts)
    return page(
        request,
        "run_page.html",
        title=overview.entry.name,
        etag=etag,
        every=QUICK_S,
        actions=actions,
        run=overview,
        progress=seen.progress,
        rows=rows,
        split=overview.split,
        scale=difference_scale([row.difference for row in rows]),
        histograms=histograms(seen.rewards),
        charts=charts,
        data=script_block({"several": False, "charts": charts}),
    )


def download_report(request: Request) -> Response:
    """The report of the run, made now, as one file to keep or to mail."""
    from rft_cli.pages.html_report import run_page

    run = open_named(request)
    text = run_page(context_of(request).overviews.seen(run, state_of(run.path)).overview)
    name = quote(f"{run.name}-report.html", safe="")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}"}
    return Response(text, media_type="text/html", headers=headers)


ROUTES: list[BaseRoute] = [
    Route("/runs/{name}", show_run, name="run"),
    Route("/runs/{name}/report.html", download_report),
]
