"""What any test may use: a finished job, a warm start, the signals of a terminal, Hypothesis's number of examples.

And the fault table: what tests marked `fault(name)` survived, at the end of the run.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests.command import FULL
from tests.warm import warm_server

_BEGAN = pytest.StashKey[float]()
_TRACKIO = pytest.StashKey[tempfile.TemporaryDirectory[str]]()

_ANY_TIME = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("short", max_examples=60, derandomize=True, **_ANY_TIME)
settings.register_profile("full", max_examples=1000, **_ANY_TIME)
settings.load_profile("full" if FULL else "short")


@dataclass
class _Row:
    """One fault: how often it was survived and tried, tests left out on this machine, and seconds."""

    survived: int = 0
    tried: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def told(self, name: str) -> str:
        left_out = f" ({self.skipped} skipped)" if self.skipped else ""
        return f"| {name} | {self.survived} of {self.tried}{left_out} | {self.seconds:.0f} |"


def pytest_configure(config):
    # A shell's background jobs come with SIGINT ignored, nohup's with SIGHUP; what tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    # Read once, when trackio is imported; TRL imports it where it is installed.
    if "TRACKIO_DIR" not in os.environ:
        config.stash[_TRACKIO] = tempfile.TemporaryDirectory(prefix="trackio-")
        os.environ["TRACKIO_DIR"] = config.stash[_TRACKIO].name
    config.stash[_BEGAN] = time.monotonic()
    config.addinivalue_line(
        "markers",
        "fault(name): the row of the fault table that the test counts in, once, or as often as its property "
        "`fault_count` (survived, tried) says",
    )


def pytest_unconfigure(config):
    if _TRACKIO in config.stash:
        config.stash[_TRACKIO].cleanup()


def pytest_collection_modifyitems(items):
    for item in items:
        mark = item.get_closest_marker("fault")
        if mark is not None:
            item.user_properties.append(("fault", mark.args[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Coverage, which makes training half as long again, is paused in tests marked `untraced`."""
    if item.get_closest_marker("untraced") is None:
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def pytest_terminal_summary(terminalreporter, config):
    rows: dict[str, _Row] = defaultdict(_Row)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            properties = dict(getattr(report, "user_properties", ()))
            if "fault" not in properties:
                continue
            row = rows[properties["fault"]]
            if outcome == "skipped":
                row.skipped += 1
                continue
            survived, tried = properties.get("fault_count", (int(outcome == "passed"), 1))
            row.survived += survived
            row.tried += tried
            row.seconds += report.duration
    if not rows:
        return
    total = _Row(
        sum(row.survived for row in rows.values()),
        sum(row.tried for row in rows.values()),
        sum(row.skipped for row in rows.values()),
        time.monotonic() - config.stash[_BEGAN],
    )
    terminalreporter.section("faults survived")
    for line in (
        "| fault | survived | seconds |",
        "|---|---|---|",
        *(row.told(name) for name, row in rows.items()),
        total.told("**all, and the seconds of the suite**"),
    ):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def warm():
    """Starts command lines in forked children, without the seconds that imports take, and without coverage.

    Tests that run jobs in their own process measure the same lines.
    """
    from tests.faults import jobs  # here: most tests need neither

    return jobs.WarmJobs(warm_server(traced=False))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Copies a finished job's folder, in which the run `a` has trained two epochs of one step each; its Run.

    Where several processes run the tests, one of them makes the job for all.
    """
    from rft_cli.runs import Run
    from tests.faults import jobs

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    source = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not source.exists():
            draft = jobs.make_files(shared / "finished.draft", rows=4)
            done = jobs.rft_here(draft, *jobs.small_arguments("a"))
            assert done.code == 0, done.err
            draft.rename(source)

    def copy(folder):
        shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
        return jobs.moved(Run(folder / "runs" / "a"), shared / "finished.draft", folder)

    return copy


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; skipped where there is none. One a process: Playwright starts no second one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((found for name in names if (found := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield opened
        opened.close()
