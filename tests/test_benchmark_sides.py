"""What benchmarks are built of: sides that work in turn, their clocks, their memory, and the search over a grid."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import footprint, side, time_to_reward, trl_env, workload
from benchmarks.rounds import Over, Reach, Rounds
from benchmarks.side import Side, SideFailed
from benchmarks.time_to_reward import Cell, Reached
from rft_cli.config import RunConfig

ECHO = """
from benchmarks.side import Channel
channel = Channel()
channel.say(ready=True)
print("a library prints")
while request := channel.hear():
    if request == "die":
        raise SystemExit("out of luck")
    channel.say(heard=request)
"""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(side, "BUILD", tmp_path)
    monkeypatch.setattr(workload, "BUILD", tmp_path)
    return tmp_path


def test_a_side_answers_in_turn_and_what_libraries_print_goes_to_the_log(build):
    with Side("echo", [sys.executable, "-c", ECHO]) as process:
        assert process.hello == {"ready": True}
        assert process.ask("round") == {"heard": "round"}
        assert process.ask("memory") == {"heard": "memory"}
    assert "a library prints" in (build / "logs" / "echo.log").read_text()


def test_a_side_that_ends_says_why(build):
    with (
        Side("echo", [sys.executable, "-c", ECHO]) as process,
        pytest.raises(SideFailed, match="out of luck"),
    ):
        process.ask("die")


class Parent:
    """A channel whose requests are written out beforehand."""

    def __init__(self, *requests: str) -> None:
        self._requests = list(requests)
        self.said: list[dict] = []

    def hear(self) -> str:
        return self._requests.pop(0) if self._requests else ""

    def say(self, **answer) -> None:
        self.said.append(answer)


def test_a_round_is_so_many_steps_and_the_end_of_requests_ends_training():
    parent = Parent("tokens", "round", "round")
    rounds = Rounds(parent, steps=3, also={"tokens": lambda: {"tokens": 7}})
    rounds.on_train_begin()
    for _ in range(5):
        rounds.on_step_end()
    with pytest.raises(Over):  # the sixth step ends the second round, and nothing more is asked for
        rounds.on_step_end()
    assert parent.said[0] == {"tokens": 7}
    assert [list(answer) for answer in parent.said[1:]] == [["seconds", "cpu"]] * 2


def run_until_over(reach: Reach) -> int:
    steps = 0
    try:
        reach.on_train_begin()
        for _ in range(100):
            steps += 1
            reach.on_step_end()
    except Over:
        return steps
    raise AssertionError("never over")


def test_training_stops_at_the_first_validation_that_is_good_enough():
    rewards = iter([0.2, 0.5, 0.8, 0.9])
    reach = Reach(lambda: next(rewards), every=4, target=0.8, cap=1e9)
    assert run_until_over(reach) == 8
    assert reach.reached
    assert [(steps, reward) for steps, _, reward in reach.curve] == [(0, 0.2), (4, 0.5), (8, 0.8)]


def test_training_stops_at_the_cap(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("benchmarks.rounds.now", lambda: float(next(ticks)))  # each look takes a second
    reach = Reach(lambda: 0.1, every=1, target=0.8, cap=3.0)
    assert run_until_over(reach) == 3
    assert not reach.reached


@pytest.mark.skipif(not footprint.RESET.exists(), reason="the kernel counts resident memory on Linux only")
def test_footprint_is_the_peak_after_loading():
    import torch

    model = torch.nn.Linear(1000, 1000)
    seen = footprint.Footprint(model)
    block = torch.ones(50_000_000)
    del block
    found = seen.read()
    assert seen.parameters == 1_001_000
    assert 190e6 < found["peak"] - found["loaded"] < 260e6


def test_settings_are_a_configuration(build):
    text = workload.settings(
        workload.first_rows(4), seed=3, model={"path": "m"}, lora={"enabled": True}, data={"overlap": "drop"}
    )
    config = RunConfig.model_validate(json.loads(text))
    assert (config.seed, config.model.path, config.lora.enabled) == (3, "m", True)
    assert config.data.overlap == "drop"
    assert config.data.train == str(build / "train-4.jsonl")
    assert len((build / "train-4.jsonl").read_text().splitlines()) == 4


def test_too_few_sample_rows_are_refused(build):
    with pytest.raises(ValueError, match="48 training rows, not 49"):
        workload.first_rows(49)


def test_an_environment_that_cannot_be_made_says_what_pip_said():
    program = "import sys; print('looking', file=sys.stderr); sys.exit('no matching distribution')"
    with pytest.raises(
        trl_env.NotInstalled, match=r"TRL 1\.12\.0 can't be installed: no matching distribution"
    ):
        trl_env._run([sys.executable, "-c", program])


A, B, C = Cell(1e-4, 64), Cell(2e-4, 64), Cell(4e-4, 64)
SECONDS = {
    ("rft", A): (50, 50, 50), ("rft", B): (20, 30, 40), ("rft", C): (10, 90, 90),
    ("trl", A): (300, 300, 300), ("trl", B): (100, 300, 110), ("trl", C): (120, 80, 100),
}  # fmt: skip


class Measured(time_to_reward.Runs):
    """Runs whose times are written out above; 300 seconds are the cap."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Path("python"))
        self.measured: list[tuple[str, Cell, int]] = []

    def _measure(self, side, cell, seed):
        self.measured.append((side, cell, seed))
        seconds = SECONDS[side, cell][seed]
        return Reached(seconds < 300, float(seconds), 1280, 0.5 if seconds == 300 else 0.81)


def test_each_side_gets_the_cell_with_the_lowest_mean_of_its_two_best(tmp_path, monkeypatch):
    monkeypatch.setattr(time_to_reward, "CAP", 300.0)
    runs = Measured(tmp_path / "runs.json")
    best = time_to_reward.search(runs, [A, B, C], (0, 1, 2))
    assert best == {"rft": B, "trl": C}
    assert len(runs.measured) == 6 + 8  # the grid with one seed, two cells of each side with two more
    row = time_to_reward.verdict("t", runs, best, (0, 1, 2))
    assert row.ratio == pytest.approx(30 / 100)
    assert row.ok
    assert "20 s, 30 s, 40 s at rate 0.0002, batch 64" in row.detail


def test_a_search_that_was_cut_off_goes_on(tmp_path):
    time_to_reward.search(Measured(tmp_path / "runs.json"), [A, B, C], (0,))
    again = Measured(tmp_path / "runs.json")
    time_to_reward.search(again, [A, B, C], (0, 1, 2))
    assert len(again.measured) == 8


def test_a_side_of_ours_that_never_gets_there_fails(tmp_path):
    runs = Measured(tmp_path / "runs.json")
    assert time_to_reward.verdict("t", runs, {"rft": A, "trl": A}, (0,)).ok  # theirs: the cap counts
    monkey = {**SECONDS, ("rft", A): (300, 300, 300)}
    runs = Measured(tmp_path / "others.json")
    runs._measure = lambda side, cell, seed: Reached(monkey[side, cell][seed] < 300, 300.0, 1280, 0.5)
    assert time_to_reward.verdict("t", runs, {"rft": A, "trl": A}, (0,)).ok is False
