"""What the gate does with a verdict, and where there is no pilot."""

from __future__ import annotations

import pytest

from rft_cli.config import RunConfig
from rft_cli.errors import GateNotMet
from rft_cli.events import Event, Note
from rft_cli.report.pilot_gate import Verdict
from rft_cli.training.auto import Chosen
from rft_cli.training.pilot import Seen, _left_out, gate, limit_of
from rft_cli.training.rollouts.waves import Room
from rft_cli.types import Grade, Sample

NOTHING = Verdict("nothing", "nothing to learn", ("wait", "see"))
LITTLE = Verdict("little", "little to learn", ("take harder rows",))
SAMPLE = Sample(0, "row-0", "prompt", "text", 3, False, Grade("graded", 0.0))
FIX = "likeliest first:\n(1) wait\n(2) see"


def told(verdict: Verdict, setting: str, stops: bool = True) -> list[Event]:
    events: list[Event] = []
    config = RunConfig.model_validate({"pilot": {"gate": setting}})
    gate(Seen({}, verdict, [SAMPLE], Chosen(64)), config, events.append, stops)
    return events


def test_stop_ends_the_job_with_what_helps() -> None:
    with pytest.raises(GateNotMet) as raised:
        told(NOTHING, "stop")
    assert raised.value.message == (
        "nothing to learn\n  reward 0, 3 tokens: text\nnothing was trained, and no run is kept"
    )
    assert raised.value.fix == f"{FIX}\nto train all the same: --set pilot.gate=warn"


@pytest.mark.parametrize(("setting", "stops"), [("warn", True), ("stop", False)])
def test_a_warning_where_it_does_not_stop(setting: str, stops: bool) -> None:
    assert told(NOTHING, setting, stops) == [
        Note(f"nothing to learn\n  reward 0, 3 tokens: text\n{FIX}", "warning")
    ]


def test_little_to_learn_is_a_warning_and_none_says_nothing() -> None:
    assert told(LITTLE, "stop") == [Note("little to learn\ntake harder rows", "warning")]
    assert told(LITTLE, "none") == told(NOTHING, "none") == told(Verdict("ok"), "stop") == []


def test_no_pilot_where_no_process_holds_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _left_out(RunConfig()) is None
    assert _left_out(RunConfig.model_validate({"pilot": {"prompts": 0}})) == "no pilot: pilot.prompts is 0"
    for kind in ("FSDP", "DEEPSPEED"):
        with monkeypatch.context() as environment:
            environment.setenv(f"ACCELERATE_USE_{kind}", "true")
            assert "spread over the processes" in (_left_out(RunConfig()) or "")


def test_the_limit_without_a_pilot_and_with_that_of_a_run() -> None:
    room, own = Room(1000, 100), RunConfig.model_validate({"rollout": {"max_completion_tokens": 40}})
    assert limit_of(RunConfig(), room, None).value == 512
    assert limit_of(RunConfig(), room, {"max_completion_tokens": 88}).value == 88
    assert limit_of(RunConfig(), Room(150, 100), {"max_completion_tokens": 88}).value == 50
    assert limit_of(own, room, {"max_completion_tokens": 88}).value == 40
