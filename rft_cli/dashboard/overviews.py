"""The overviews of the runs that were looked at last, read again when something in their directory has changed."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from rft_cli.dashboard.live import rest
from rft_cli.dashboard.state import state_of
from rft_cli.pages.figures import Rewards
from rft_cli.runs import Run
from rft_cli.view.completions import Split
from rft_cli.view.overview import Overview, read_overview, with_new_steps
from rft_cli.view.progress import RunProgress, progress_of
from rft_cli.view.reading import ReadProblems
from rft_cli.view.row_list import read_rows, rewards_of, sampled_ends

KEPT = 10
WHOLE_S = 60.0
"""Seconds after which a run whose steps alone have changed is read as a whole, for its diagnosis."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as its page shows it; `rewards` of each row before and after, for each split that was sampled."""

    overview: Overview
    rewards: Rewards
    progress: RunProgress | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """`slow`: the state but for metrics.jsonl. By the monotonic clock: `until` it is not read again for an open page,
    and at `whole` all of it is read."""

    state: str
    slow: str
    seen: Seen
    until: float
    whole: float


class Overviews:
    """Keeps the last few runs that were read. Threads may share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def is_resting(self, run: Path) -> bool:
        """Whether the run was read so lately that an open page can wait."""
        with self._lock:
            kept = self._kept.get(run)
        return kept is not None and time.monotonic() < kept.until

    def seen(self, run: Run, state: str) -> Seen:
        """The run in this state, as `state.state_of` gave it."""
        with self._lock:
            kept = self._kept.get(run.path)
        if kept is not None and kept.state == state:
            return kept.seen
        began, now = time.thread_time(), time.monotonic()
        slow = state_of(run.path, without=run.metrics_path.name)
        if kept is not None and kept.slow == slow and now < kept.whole:
            seen, whole = _read_steps(run, kept.seen), kept.whole
        else:
            seen, whole = _read(run), now + WHOLE_S
        until = time.monotonic() + rest(time.thread_time() - began)
        with self._lock:
            self._kept[run.path] = _Kept(state, slow, seen, until, whole)
            self._kept.move_to_end(run.path)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return seen


def _read_steps(run: Run, seen: Seen) -> Seen:
    """The same with new steps: nothing else has changed but what is made of them, which a minute's patience serves."""
    return replace(
        seen, overview=with_new_steps(seen.overview), progress=progress_of(run.path, seen.overview.info)
    )


def _read(run: Run) -> Seen:
    overview = read_overview(run)
    problems = ReadProblems()
    rewards: dict[Split, tuple[list[float], list[float]]] = {}
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        ends = sampled_ends(run.path, split, overview.entry.best_step)
        rows = read_rows(ends, problems)
        if rows:
            rewards[split] = rewards_of(rows)
    every = list(dict.fromkeys([*overview.problems, *problems.texts]))
    return Seen(replace(overview, problems=every), rewards, progress_of(run.path, overview.info))
