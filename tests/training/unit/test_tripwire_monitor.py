"""What a tripped wire does to a run: told once, written down with its step, and the end where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from rft_cli.config.training_sections import TripwireConfig
from rft_cli.errors import RunFailed
from rft_cli.events import Event, Note
from rft_cli.runs import Run
from rft_cli.runs.warnings import KeptWarnings
from rft_cli.training.hooks.tripwires import TripwireMonitor, Tripwires

SETTINGS = TripwireConfig(window=1, constant_reward=None)
FAR = {"reward": 0.5, "kl_per_token": 2.0}
NEAR = {"reward": 0.5, "kl_per_token": 0.5}
TEXT = (
    "KL (k1) to the reference is 2 nats a token: the policy is far from where it began, most often because its steps "
    "are too large; lower optim.learning_rate or raise ppo.kl_coef (tripwires.kl is 1)"
)


class Setting:
    """TripwireMonitor on a run of its own, with what it said and saved."""

    def __init__(self, folder: Path, action: str, rank: int = 0) -> None:
        self.run = Run.create(folder, "r", config_yaml="", info={})
        self.events: list[Event] = []
        self.emit = KeptWarnings(self.run, self.events.append)
        self.alarms = TripwireMonitor(Tripwires(SETTINGS, "ppo", 60), action, self.run, self.emit, rank)


def test_warn_tells_once_and_writes_it_down(tmp_path: Path) -> None:
    it = Setting(tmp_path, "warn")
    it.alarms.begin(0)
    for step, metrics in enumerate([NEAR, FAR, FAR, NEAR, FAR], 1):
        assert not it.alarms.observe(step, metrics)
        it.alarms.check()
    assert it.events == [Note(TEXT, "warning", n, "kl") for n in (2, 5)]
    assert it.run.info["warnings"] == [{"step": n, "tripwire": "kl", "text": TEXT} for n in (2, 5)]


def test_stop_asks_for_a_checkpoint_and_then_ends_the_job(tmp_path: Path) -> None:
    it = Setting(tmp_path, "stop")
    it.alarms.begin(0)
    assert not it.alarms.observe(1, NEAR)
    it.alarms.check()
    assert it.alarms.observe(2, FAR)
    with pytest.raises(RunFailed) as failure:
        it.alarms.check()
    assert failure.value.message == f"a tripwire ended the job: {TEXT}"
    assert failure.value.fix == (
        f"this one has no checkpoint, and `rft train --resume {it.run.path}` starts it over"
    )
    assert [w["step"] for w in it.run.info["warnings"]] == [2]


def test_none_watches_nothing(tmp_path: Path) -> None:
    it = Setting(tmp_path, "none")
    it.alarms.begin(0)
    assert not it.alarms.observe(1, FAR)
    it.alarms.check()
    assert (it.events, it.run.info["warnings"]) == ([], [])


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    it = Setting(tmp_path, "warn", rank=1)
    it.alarms.begin(0)
    it.alarms.observe(1, FAR)
    assert it.events == []
    assert "warnings" not in it.run.info


def test_a_resumed_job_drops_warnings_that_will_be_made_again_and_goes_on(tmp_path: Path) -> None:
    it = Setting(tmp_path, "warn")
    it.alarms.begin(0)
    it.alarms.observe(1, FAR)
    state = it.alarms.wires.state()
    for step, metrics in ((2, NEAR), (3, FAR)):
        it.alarms.observe(step, metrics)
    again = TripwireMonitor(Tripwires(SETTINGS, "ppo", 60), "warn", it.run, it.emit, 0)
    again.wires.load(state)
    again.begin(1)
    assert [w["step"] for w in it.run.info["warnings"]] == [1]
    for step, metrics in ((2, NEAR), (3, FAR)):
        again.observe(step, metrics)
    assert [w["step"] for w in it.run.info["warnings"]] == [1, 3]
