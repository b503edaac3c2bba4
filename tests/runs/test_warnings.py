"""Warnings of a job are kept in run.json, once each, in the order in which they came."""

from __future__ import annotations

from pathlib import Path

from rft_cli.events import Event, Note, Stepped
from rft_cli.runs import Run
from rft_cli.runs.warnings import KeptWarnings, texts


def test_each_warning_is_kept_once_with_its_step(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "r", config_yaml="", info={"warnings": [{"step": 0, "text": "overlap"}]})
    shown: list[Event] = []
    tell = KeptWarnings(run, shown.append)
    events = [
        Note("not a warning"),
        Note("overlap", "warning"),
        Stepped(3, 9, 0.5, {}),
        Note("cut", "warning"),
        Stepped(4, 9, 0.6, {}),
        Note("cut", "warning"),
        *(Note("KL is 2", "warning", step, "kl") for step in (4, 4, 7)),
    ]
    for event in events:
        tell(event)
    assert shown == events
    assert run.info["warnings"] == [
        {"step": 0, "text": "overlap"},
        {"step": 3, "text": "cut"},
        {"step": 4, "tripwire": "kl", "text": "KL is 2"},
        {"step": 7, "tripwire": "kl", "text": "KL is 2"},
    ]
    assert texts(run) == ["overlap", "cut", "step 4: KL is 2", "step 7: KL is 2"]
    for step in (8, 9, 10):
        tell(Note("the guard fell", "warning", step, "guard"))
    assert texts(run)[4:] == ["step 8: the guard fell", "step 10: the guard fell"]
    assert len(run.info["warnings"]) == 7
