"""What the gate does with a verdict, and where there is no pilot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rft_cli.config import RunConfig
from rft_cli.errors import GateNotMet
from rft_cli.events import Event, Note
from rft_cli.job import Job
from rft_cli.report.pilot_gate import PilotVerdict
from rft_cli.runs import Run
from rft_cli.stopping import Stop
from rft_cli.training.auto import Chosen, LengthLimits
from rft_cli.training.context import JobContext
from rft_cli.training.pilot import (
    PilotResult,
    _forward_seconds,
    check_gate,
    why_no_pilot,
    with_pilot,
)
from rft_cli.training.resolve import Resolution, limit_of
from rft_cli.types import Grade, Sample
from tests.training.toys import qwen3
from tests.training.unit.test_hf_args import RESOLVED

NOTHING = PilotVerdict("nothing", "nothing to learn", ("wait", "see"))
LITTLE = PilotVerdict("little", "little to learn", ("take harder rows",))
SAMPLE = Sample(0, "row-0", "prompt", "text", 3, False, Grade("graded", 0.0))
FIX = "likeliest first:\n(1) wait\n(2) see"


def told(verdict: PilotVerdict, setting: str, stops: bool = True) -> list[Event]:
    events: list[Event] = []
    config = RunConfig.model_validate({"pilot": {"gate": setting}})
    check_gate(PilotResult({}, verdict, [SAMPLE], Chosen(64)), config, events.append, stops)
    return events


def test_stop_ends_the_job_with_what_helps() -> None:
    with pytest.raises(GateNotMet) as raised:
        told(NOTHING, "stop")
    assert raised.value.message == (
        "nothing to learn\n  reward 0, 3 tokens: text\nnothing was trained, and no run is kept"
    )
    assert raised.value.fix == f"{FIX}\nto train all the same: --set pilot.gate=warn"


def test_a_run_that_goes_on_is_kept_and_told_how_to() -> None:
    config, seen = RunConfig(), PilotResult({}, NOTHING, [SAMPLE], Chosen(64))
    with pytest.raises(GateNotMet) as raised:
        check_gate(seen, config, lambda _: None, stops=True, kept=Run(Path("runs/job")))
    assert raised.value.message.endswith("\nnothing was trained, and runs/job stays")
    again = "rft train --resume runs/job --force --set pilot.gate=warn"
    assert raised.value.fix == f"{FIX}\nto train all the same: {again}"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_micro_batch_divides_the_share(tmp_path: Path, processes: int) -> None:
    run = Run(tmp_path)
    run.write_pilot({"max_completion_tokens": 8, "micro_batch_size": 12})
    resolved = replace(RESOLVED, prompts_per_batch=6, minibatches=1, world_size=processes, micro_batch_size=1)
    config, nothing = RunConfig.model_validate({"rollout": {"group_size": 4}}), Any
    job = Job(config, nothing, nothing, None)

    def resumed() -> int:
        """The micro-batch with which the job goes on."""
        context = JobContext(job, nothing, LengthLimits(100, 10), nothing, lambda _: None, Stop())
        return with_pilot(context, run, None, Resolution(resolved, []), resume=True).micro_batch_size

    assert resumed() == 12
    run.write_pilot({"max_completion_tokens": 8, "micro_batch_size": 9})
    assert resumed() == {1: 8, 2: 6}[processes]


def test_the_pass_that_is_timed_has_no_logits_and_many_rows() -> None:
    model, seen = qwen3(), []
    model.lm_head.register_forward_hook(lambda *_: seen.append("head"))

    def refuse(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        seen.append(given["input_ids"].shape)
        if len(given["input_ids"]) > 20:
            raise torch.OutOfMemoryError("out of memory")

    model.model.register_forward_pre_hook(refuse, with_kwargs=True)
    assert _forward_seconds(model, 10) > 0
    assert seen == [(32, 10), (16, 10)]
    seen.clear()
    _forward_seconds(model, 2048 // 20)
    assert seen == [(32, 102), (16, 102)]
    seen.clear()
    _forward_seconds(model, 1000)
    assert seen == [(4, 1000)]


@pytest.mark.parametrize(("setting", "stops"), [("warn", True), ("stop", False)])
def test_a_warning_where_it_does_not_stop(setting: str, stops: bool) -> None:
    assert told(NOTHING, setting, stops) == [
        Note(f"nothing to learn\n  reward 0, 3 tokens: text\n{FIX}", "warning")
    ]


def test_little_to_learn_is_a_warning_and_none_says_nothing() -> None:
    assert told(LITTLE, "stop") == [Note("little to learn\ntake harder rows", "warning")]
    assert told(LITTLE, "none") == told(NOTHING, "none") == told(PilotVerdict("ok"), "stop") == []


def test_no_pilot_where_no_process_holds_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_no_pilot(RunConfig()) is None
    assert why_no_pilot(RunConfig.model_validate({"pilot": {"prompts": 0}})) == "no pilot: pilot.prompts is 0"
    for kind in ("FSDP", "DEEPSPEED"):
        with monkeypatch.context() as environment:
            environment.setenv(f"ACCELERATE_USE_{kind}", "true")
            assert "spread over the processes" in (why_no_pilot(RunConfig()) or "")


def test_the_limit_without_a_pilot_and_with_that_of_a_run() -> None:
    room, own = LengthLimits(1000, 100), RunConfig.model_validate({"rollout": {"max_completion_tokens": 40}})
    assert limit_of(RunConfig(), room, None).value == 512
    assert limit_of(RunConfig(), room, {"max_completion_tokens": 88}).value == 88
    assert limit_of(RunConfig(), LengthLimits(150, 100), {"max_completion_tokens": 88}).value == 50
    assert limit_of(own, room, {"max_completion_tokens": 88}).value == 40
