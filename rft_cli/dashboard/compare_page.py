"""Two to five runs against the first of them: curves over each other, paired differences, completions side by side."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rft_cli.dashboard.context import context_of, open_run
from rft_cli.dashboard.live import SLOW_S
from rft_cli.dashboard.rendering import page, script_block, unchanged
from rft_cli.dashboard.state import digest, state_of
from rft_cli.errors import UsageError
from rft_cli.pages.figures import difference_scale, over_each_other
from rft_cli.view.comparing import FEWEST, MOST, compare_runs
from rft_cli.view.excerpt import read_common
from rft_cli.view.visible import visible


def show_comparison(request: Request) -> Response:
    """The runs that the address names: `/compare?run=A&run=B`."""
    names = list(dict.fromkeys(request.query_params.getlist("run")))
    if not FEWEST <= len(names) <= MOST:
        marked = {0: "no run is marked", 1: "one run is marked"}.get(
            len(names), f"{len(names)} runs are marked"
        )
        raise UsageError(
            marked,
            f"mark {FEWEST} to {MOST} in the list of runs; the uppermost is the one to compare with",
        )
    context = context_of(request)
    runs = [open_run(context.folder, name) for name in names]
    states = [state_of(run.path) for run in runs]
    etag = digest(["compare", *names, *states])
    same = unchanged(request, etag)
    if same is not None:
        return same
    overviews = [context.overviews.seen(run, state).overview for run, state in zip(runs, states, strict=True)]
    compared = compare_runs(overviews)
    shown = [visible(name, 60) for name in names]
    charts = over_each_other(overviews, shown)
    common = read_common(compared)
    return page(
        request,
        "compare_page.html",
        title=" against ".join([names[0], ", ".join(names[1:])]),
        etag=etag,
        every=SLOW_S,
        compared=compared,
        common=common,
        scale=difference_scale([row.difference for row in compared.differences]),
        charts=charts,
        data=script_block(
            {"several": True, "best": 0, "charts": charts, "rows": [row.to_json() for row in common]}
        ),
    )


ROUTES: list[BaseRoute] = [Route("/compare", show_comparison)]
