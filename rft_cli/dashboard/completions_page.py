"""The completions of a run: rows to filter, order and search, a page at a time, and one row through the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rft_cli.config.suggest import counted
from rft_cli.dashboard.context import open_named
from rft_cli.dashboard.live import SLOW_S
from rft_cli.dashboard.rendering import choose, page, unchanged
from rft_cli.dashboard.state import SAMPLED, digest, state_of
from rft_cli.runs import Run
from rft_cli.view import rollout_pages, row_list
from rft_cli.view.completions import SPLITS, Split, Ungraded, files_of, ungraded
from rft_cli.view.entries import entry_of
from rft_cli.view.reading import ReadProblems
from rft_cli.view.rollout_pages import SampledGroup
from rft_cli.view.row_history import row_history
from rft_cli.view.row_list import RowSummary

PAGE = 50
"""Rows of a page."""
LONGEST = 20_000
"""Characters of a completion that are shown."""
KIND_NAMES = {
    "all": "all",
    "gained": "gained",
    "lost": "lost",
    "same": "same reward",
    "ungraded": "grader failed or skipped",
    "cut": "cut at the limit",
}
ORDER_NAMES = {
    "gain": "largest gain",
    "loss": "largest loss",
    "lowest": "lowest reward",
    "file": "as in the file",
}


@dataclass(frozen=True, slots=True)
class Query:
    """What the address asks for. `after`: the step that is compared with the base; `place`: where a page begins."""

    split: Split
    show: str
    order: str
    q: str
    after: int | None
    place: str
    row: int | None

    def address(self, **changed: Any) -> str:
        """The query of an address like this one but for what is changed."""
        asked = {name: getattr(self, name) for name in self.__dataclass_fields__} | changed
        return "?" + urlencode({name: value for name, value in asked.items() if value not in (None, "")})


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the list: rows, or groups of training. `said`: how many; `earlier`, `later`: places of other pages."""

    lines: Sequence[RowSummary] | Sequence[SampledGroup]
    said: str
    earlier: str | None = None
    later: str | None = None


def show_completions(request: Request) -> Response:
    """The list with the row that is asked for, else the first of the page."""
    run = open_named(request)
    problems = ReadProblems()
    entry = entry_of(run.path, run.info)
    state = digest(["completions", state_of(run.path, SAMPLED), entry.best_step, request.url.query])
    same = unchanged(request, state)
    if same is not None:
        return same
    splits = [split for split in SPLITS if files_of(run.path, split, entry.best_step)]
    query = _query(request.query_params, splits)
    steps = [sampled.step for sampled in files_of(run.path, query.split, entry.best_step)]
    query = replace(query, after=_after(query, steps, entry.best_step))
    listing = (_rollouts if query.split == "training" else _rows)(run, query, problems)
    chosen = query.row if query.row is not None else next((line.row for line in listing.lines), None)
    history = None
    if chosen is not None:
        history = row_history(run.path, query.split, chosen, entry.best_step, problems)
    return page(
        request,
        "completions_page.html",
        title=f"Completions of {entry.name}",
        etag=state,
        every=SLOW_S,
        entry=entry,
        splits=splits,
        steps=steps,
        query=query,
        kinds={name: KIND_NAMES[name] for name in _kinds(query.split)},
        orders=ORDER_NAMES,
        listing=listing,
        chosen=chosen,
        # of training the group that was chosen in the list comes first, as there
        shots=[] if history is None else list(history.completions)[:: -1 if query.split == "training" else 1],
        history=history,
        failures=_failures(run, entry.best_step, problems) if query.show == "ungraded" else None,
        problems=problems.texts,
        longest=LONGEST,
    )


def _query(asked: Mapping[str, str], splits: Sequence[Split]) -> Query:
    split = choose(asked.get("split"), lambda name: name in splits, splits[0] if splits else "validation")
    kinds = _kinds(split)
    return Query(
        split=cast(Split, split),
        show=choose(asked.get("show"), lambda name: name in kinds, "all"),
        order=choose(asked.get("order"), lambda name: name in ORDER_NAMES, "gain"),
        q=asked.get("q", "")[:1000],
        after=_number(asked.get("after")),
        place=asked.get("place", "")[:40],
        row=_number(asked.get("row")),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 13 else None


def _kinds(split: str) -> Sequence[str]:
    return list(rollout_pages.KINDS) if split == "training" else list(row_list.KINDS)


def _after(query: Query, steps: Sequence[int], best_step: int) -> int | None:
    """The step that is asked for, else the best one, or the last where the base is best; of training any batch."""
    if query.after in steps:
        return query.after
    if query.split == "training":
        return None
    return best_step if best_step in steps and best_step else max(steps, default=0)


def _rows(run: Run, query: Query, problems: ReadProblems) -> Listing:
    ends = row_list.sampled_ends(run.path, query.split, query.after or 0)
    every = row_list.read_rows(ends, problems, query.q)
    chosen = row_list.chosen_rows(every, query.show, query.order)
    start = min(_number(query.place) or 0, max(0, len(chosen) - 1)) // PAGE * PAGE
    return Listing(
        chosen[start : start + PAGE],
        f"{len(chosen):,} of {len(every):,} rows" if len(chosen) != len(every) else f"{len(every):,} rows",
        earlier=str(start - PAGE) if start else None,
        later=str(start + PAGE) if start + PAGE < len(chosen) else None,
    )


def _rollouts(run: Run, query: Query, problems: ReadProblems) -> Listing:
    wanted = rollout_pages.Wanted(query.show, query.q, query.after)
    found = rollout_pages.rollout_page(run.path, wanted, query.place, PAGE, problems)
    more = "more follow" if found.following else "the last ones" if query.place else "all"
    return Listing(
        found.groups,
        f"{counted(len(found.groups), 'prompt')}, {more}",
        "" if query.place else None,
        found.following,
    )


def _failures(run: Run, best_step: int, problems: ReadProblems) -> Ungraded:
    return ungraded(run.path, best_step, problems, most=0)


ROUTES: list[BaseRoute] = [Route("/runs/{name}/completions", show_completions)]
