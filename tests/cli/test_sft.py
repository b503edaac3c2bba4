"""`--algorithm sft` through the real command: it learns, warms reinforcement up, and says what it does not read."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rft_cli.runs import Run
from tests.cli.conftest import GOOD, write_jsonl

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_data"
CHEAP = ("--set", "grader.audit=none", "--set", "grader.workers=1")


def sample_rows(name, count):
    return [json.loads(line) for line in (SAMPLE / f"{name}.jsonl").read_text().splitlines()[:count]]


@pytest.fixture
def sample(tmp_path):
    """A part of the sample task: 16 rows to learn from, 16 to measure on."""
    write_jsonl(tmp_path / "train.jsonl", sample_rows("train", 16))
    write_jsonl(tmp_path / "val.jsonl", sample_rows("val", 16))
    (tmp_path / "scorer.py").write_text((SAMPLE / "scorer.py").read_text())
    return tmp_path


@pytest.mark.timeout(900)
def test_it_learns_and_reinforcement_goes_on_from_it(rft, sample):
    done = rft(
        "create", *GOOD, *CHEAP, "--algorithm", "sft", "--name", "taught", "--json", "--n-epochs", "3",
        "--set", "validation.every_epochs=3", "--set", "rollout.group_size=4", "--set", "pilot.prompts=8",
    )  # fmt: skip
    assert done.code == 0, done.err
    result, run = json.loads(done.out), Run(sample / "runs" / "taught")
    assert result["algorithm"] == "sft"
    assert result["validation"]["difference"]["ci95"][0] > 0.1
    assert result["training_loss"]["last"] < 0.5 * result["training_loss"]["first"]
    assert result["completions_sampled"] == 0
    assert result["grader"]["graded"] == 32
    lines = run.metrics()
    assert [line["rows"] for line in lines[-1:]] == [48]
    assert {"loss", "token_accuracy", "tokens", "learning_rate", "entropy", "grad_norm"} < lines[0].keys()
    assert "reward" not in lines[0]
    assert not any((run.path / "rollouts").iterdir())
    pilot = run.read_pilot()
    assert (pilot["prompts"], pilot["completions"], pilot["group_size"]) == (8, 8, 1)
    assert pilot["max_completion_tokens"] >= 64
    assert "8 completions of 8 prompts" in done.err
    assert "rollout.group_size: no effect with algorithm sft" in done.err
    assert "learning rate 1.0e-03: sft, full fine-tuning" in done.err
    assert f"--model {result['run']} --algorithm ppo --n-epochs auto" in result["next"]

    more = rft(
        "create", *GOOD, *CHEAP, "--model", "taught", "--name", "on", "--json", "--set", "optim.max_steps=2",
        "--set", "rollout.group_size=2", "--set", "rollout.prompts_per_batch=4", "--set", "ppo.passes=1",
        "--set", "pilot.prompts=0", "--set", "rollout.max_completion_tokens=40",
    )  # fmt: skip
    assert more.code == 0, more.err
    after = json.loads(more.out)["validation"]
    assert after["before"]["mean"] == pytest.approx(result["validation"]["after"]["mean"], abs=0.15)


@pytest.mark.timeout(900)
def test_an_adapter_on_an_adapter_and_its_export(rft, sample):
    """The second adapter is trained on the first one's model, merged; what is exported holds both."""
    small = (
        "--set",
        "pilot.prompts=0",
        "--set",
        "rollout.max_completion_tokens=40",
        "--n-epochs",
        "1",
        *CHEAP,
    )
    lora = ("--set", "lora.enabled=true", "--set", "lora.r=4", "--learning-rate", "0.01")
    done = rft("create", *GOOD, *small, *lora, "--algorithm", "sft", "--name", "taught", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["best_step"] > 0
    checkpoint = Run(sample / "runs" / "taught").best_checkpoint()
    assert (checkpoint / "adapter_model.safetensors").is_file()
    rl = (
        "--set",
        "rollout.group_size=2",
        "--set",
        "rollout.prompts_per_batch=4",
        "--set",
        "optim.max_steps=4",
    )
    more = rft("create", *GOOD, *small, *lora, *rl, "--model", "taught", "--name", "on", "--json")
    assert more.code == 0, more.err
    out = rft("export", "runs/taught", "--to", "merged")
    assert out.code == 0, out.err
    card = Path("merged/README.md").read_text()
    assert "taught the references of its rows" in card
    assert "supervised-fine-tuning" in card
    base = load_file(ROOT / "rft_cli" / "builtin" / "tiny" / "model.safetensors")
    merged = load_file("merged/model.safetensors")
    assert any(not base[name].float().equal(merged[name].float()) for name in base.keys() & merged.keys())


def test_rows_without_references_are_named_before_anything_begins(rft, files):
    rows = [json.loads(line) for line in Path("train.jsonl").read_text().splitlines()]
    del rows[1]["output"]
    rows[4]["output"] = " "
    write_jsonl(Path("train.jsonl"), rows)
    done = rft("create", *GOOD, "--algorithm", "sft")
    assert done.code == 2
    assert (
        "error: train.jsonl: 2 of 6 rows have no reference, and algorithm sft teaches references: lines 2, 5"
        in done.err
    )
    assert "--set data.columns.output=KEY" in done.err
    assert not Path("runs").exists()
    checked = rft("validate", *GOOD, "--set", "algorithm=sft")
    assert checked.code == 2
    assert "lines 2, 5" in checked.err


def test_a_reference_longer_than_the_context_is_named(rft, files):
    rows = [json.loads(line) for line in Path("train.jsonl").read_text().splitlines()]
    rows[3]["output"] = "billing " * 2000
    write_jsonl(Path("train.jsonl"), rows)
    done = rft("create", *GOOD, "--algorithm", "sft", *CHEAP)
    assert done.code == 2
    assert "error: train.jsonl:4: prompt and reference have " in done.err
    assert "the model's context is" in done.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("sft.batch_size=5", "num_processes=2"), "a step of 5 rows can't be divided into 2 equal parts"),
        (("sft.batch_size=8", "optim.micro_batch_size=3"), "3 does not divide the 8 rows"),
    ],
)
def test_batches_that_do_not_divide(rft, files, settings, message):
    done = rft("create", *GOOD, "--algorithm", "sft", *(word for s in settings for word in ("--set", s)))
    assert done.code == 2
    assert message in done.err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_learn_what_one_does(rft, files):
    """Six rows in steps of four: the second step of a pass has two rows, one a process."""
    job = (
        "create", *GOOD, *CHEAP, "--algorithm", "sft", "--n-epochs", "2", "--set", "sft.batch_size=4", "--set",
        "pilot.prompts=0", "--set", "rollout.max_completion_tokens=8", "--set", "optim.micro_batch_size=1",
    )  # fmt: skip
    for processes in ("1", "2"):
        done = rft(*job, "--name", f"of-{processes}", "--num-processes", processes)
        assert done.code == 0, done.err
    one, two = (Run(files / "runs" / f"of-{processes}").metrics() for processes in (1, 2))
    assert len(one) == len(two) == 4
    for mine, other in zip(one, two, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert (mine["tokens"], mine["rows"]) == (other["tokens"], other["rows"])


def test_settings_of_a_length_are_known_when_it_goes_on(rft, files):
    job = (
        "create", *GOOD, *CHEAP, "--algorithm", "sft", "--name", "a", "--set", "optim.max_steps=2",
        "--set", "pilot.prompts=0", "--set", "rollout.max_completion_tokens=8",
    )  # fmt: skip
    assert rft(*job).code == 0
    run = Run(files / "runs" / "a")
    assert [line["step"] for line in run.metrics()] == [1, 2]
    shorter = rft("train", "--resume", "a", "--set", "optim.max_steps=1")
    assert shorter.code == 2
    assert "trains for 2 steps: it can't be made shorter" in shorter.err
    longer = rft("train", "--resume", "a", "--set", "optim.max_steps=3")
    assert longer.code == 0, longer.err
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    other = rft(
        "train", "--resume", "a", "--set", "sft.batch_size=2", "--set", "optim.max_steps=4", "--force"
    )
    assert other.code == 2
    assert "sft.batch_size: auto -> 2 (it decides how many rows a step has" in other.err
