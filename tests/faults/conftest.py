"""The fault suite: short in `make test`, everything with RFT_FAULTS=full (`make faults`)."""

import pytest
from hypothesis import HealthCheck, settings

from tests.faults import jobs

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("short", max_examples=60, **_COMMON)
settings.register_profile("full", max_examples=1000, **_COMMON)
settings.load_profile("full" if jobs.FULL else "short")


@pytest.fixture(scope="session")
def warm():
    """Starts command lines in forked children, without the seconds that imports take."""
    server = jobs.WarmServer()
    yield server
    server.close()
