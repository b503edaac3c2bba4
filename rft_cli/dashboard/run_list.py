"""The list of all runs: sorted, filtered, live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rft_cli.dashboard.context import entries_of
from rft_cli.dashboard.jobs.jobs import jobs_of
from rft_cli.dashboard.live import QUICK_S
from rft_cli.dashboard.rendering import choose, page, unchanged
from rft_cli.dashboard.state import digest
from rft_cli.runs.find import read_info
from rft_cli.view.entries import Entry
from rft_cli.view.progress import RunProgress, progress_of

SORTS: Mapping[str, Callable[[Entry], str | float]] = {
    "created": lambda entry: entry.created,
    "name": lambda entry: entry.name.lower(),
    "status": lambda entry: entry.status,
    "model": lambda entry: entry.model.lower(),
    "before": lambda entry: -1e300 if entry.reward is None else entry.reward.before.mean,
    "after": lambda entry: -1e300 if entry.reward is None else entry.reward.after.mean,
    "difference": lambda entry: -1e300 if entry.reward is None else entry.reward.difference.mean,
    "seconds": lambda entry: -1.0 if entry.seconds is None else entry.seconds,
}
"""What the list is sorted by."""
DOWNWARD = ("created", "before", "after", "difference", "seconds")
"""What begins with its largest value; the others begin with their smallest."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What the address asks for: rows that have the text `q`, of this status, sorted; `turned`: the other way round."""

    q: str
    status: str
    sort: str
    turned: bool

    def address(self, sort: str) -> str:
        """The list sorted by this column; by its other end where it is sorted by it now."""
        turned = "1" if sort == self.sort and not self.turned else ""
        asked = {"q": self.q, "status": self.status, "sort": sort, "turned": turned}
        return "/?" + urlencode({name: value for name, value in asked.items() if value})


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the list; `progress` while it trains."""

    entry: Entry
    progress: RunProgress | None


def show_runs(request: Request) -> Response:
    """The runs of the folder that the filter leaves."""
    entries = entries_of(request)
    statuses = sorted({entry.status for entry in entries})
    asked = request.query_params
    query = ListQuery(
        q=asked.get("q", "")[:200],
        status=choose(asked.get("status"), lambda name: name in statuses, ""),
        sort=choose(asked.get("sort"), lambda name: name in SORTS, "created"),
        turned=asked.get("turned") == "1",
    )
    lines = [RunLine(entry, _progress(entry)) for entry in chosen(entries, query)]
    starting = [(job.record.name, job.state) for job in jobs_of(request).without_run()]
    etag = digest(["list", *lines, len(entries), *statuses, *starting])
    return unchanged(request, etag) or page(
        request,
        "runs.html",
        title="Runs",
        etag=etag,
        every=QUICK_S,
        lines=lines,
        total=len(entries),
        statuses=statuses,
        query=query,
    )


def chosen(entries: Sequence[Entry], query: ListQuery) -> list[Entry]:
    """The entries that the query leaves, in its order."""
    words = query.q.lower().split()
    found = [
        entry
        for entry in entries
        if (not query.status or entry.status == query.status)
        and all(word in f"{entry.name} {entry.model} {entry.algorithm}".lower() for word in words)
    ]
    # the list comes newest first: equal ones stay so
    downward = (query.sort in DOWNWARD) != query.turned
    return sorted(found, key=SORTS[query.sort], reverse=downward)


def _progress(entry: Entry) -> RunProgress | None:
    return progress_of(entry.path, read_info(entry.path)) if entry.status == "running" else None


ROUTES: list[BaseRoute] = [Route("/", show_runs, name="runs")]
