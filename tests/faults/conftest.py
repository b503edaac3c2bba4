"""The fault suite: short in `make test`, everything with RFT_FAULTS=full (`make faults`), with a table at the end."""

import os
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, settings

from tests.faults import jobs

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("short", max_examples=60, **_COMMON)
settings.register_profile("full", max_examples=1000, **_COMMON)
settings.load_profile("full" if os.environ.get("RFT_FAULTS") == "full" else "short")


@pytest.fixture(scope="session")
def warm():
    """Starts command lines in forked children, without the seconds that imports take."""
    server = jobs.WarmServer()
    yield server
    server.close()


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(name): the row of the fault table that the test counts in")


def pytest_collection_modifyitems(items):
    for item in items:
        mark = item.get_closest_marker("fault")
        if mark is not None:
            item.user_properties.append(("fault", mark.args[0]))


def pytest_terminal_summary(terminalreporter):
    """Each fault with how often it was survived."""
    counts = defaultdict(lambda: [0, 0, 0.0])
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "fault":
                    row = counts[value]
                    row[0] += outcome == "passed"
                    row[1] += 1
                    row[2] += report.duration
    if counts:
        terminalreporter.section("faults survived")
        for name, (passed, total, seconds) in counts.items():
            terminalreporter.write_line(f"| {name} | {passed} of {total} | {seconds:.0f} s |")
