"""A sequence-classification model as the grader: real models with a chat template, without one, and broken ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
)

from rft_cli.config.schema import RewardModelConfig
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.model_source import BUILTIN
from rft_cli.training.reward_model import batches, fingerprint, open_reward_model
from rft_cli.types import GradeRequest
from tests.command import ROOT, rft
from tests.faults.jobs import rft_here

TEXTS = ["yes", "no, and here is a longer reason why not", "", "émile → 東京"]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it so?"}]


def random_head(model: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model.score.weight.data.normal_()
    return model


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """builtin/tiny with a reward head, as `AutoModelForSequenceClassification` saves it."""
    folder = tmp_path_factory.mktemp("chat")
    model = AutoModelForSequenceClassification.from_pretrained(BUILTIN / "tiny", num_labels=1)
    random_head(model).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUILTIN / "tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of two named outputs with a vocabulary of letters: prompt and completion go in as a pair."""
    folder = tmp_path_factory.mktemp("pair")
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz?.,"]
    words = [*letters, *(f"##{letter}" for letter in letters[5:31])]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = BertForSequenceClassification(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return folder


def requests(prompt: Any, texts: Sequence[str] = TEXTS) -> list[GradeRequest]:
    return [GradeRequest(text, {}, prompt=prompt) for text in texts]


def alone(folder: Path, ids: list[int]) -> torch.Tensor:
    """The outputs for one text, unpadded, by the library itself."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0]
    return found


def test_a_chat_model_scores_the_conversation_with_its_answer(chat_model: Path) -> None:
    grader = open_reward_model(str(chat_model), RewardModelConfig())
    grades = grader.grade(requests(CHAT))
    tokenizer: Any = AutoTokenizer.from_pretrained(chat_model)
    for text, grade in zip(TEXTS, grades, strict=True):
        turns = [*CHAT, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
        assert grade.reward == pytest.approx(alone(chat_model, ids).item(), abs=1e-4)
    assert len({g.reward for g in grades}) == len(TEXTS)
    assert grader.stats.graded == len(TEXTS)
    assert grader.signature == f"reward model {chat_model}"


def test_a_plain_prompt_is_a_user_turn(chat_model: Path) -> None:
    grader = open_reward_model(str(chat_model), RewardModelConfig())
    plain, turn = (
        grader.grade(requests(p, ["so"]))[0].reward
        for p in ("Is it?", [{"role": "user", "content": "Is it?"}])
    )
    assert plain == turn


def test_a_model_without_a_template_takes_prompt_and_completion_as_a_pair(pair_model: Path) -> None:
    grader = open_reward_model(str(pair_model), RewardModelConfig(label="good"))
    tokenizer: Any = AutoTokenizer.from_pretrained(pair_model)
    grades = grader.grade(requests("is it so?", ["yes", "no, it is not."]))
    for text, grade in zip(["yes", "no, it is not."], grades, strict=True):
        inputs = tokenizer("is it so?", text, return_tensors="pt")
        model = AutoModelForSequenceClassification.from_pretrained(pair_model).eval()
        with torch.no_grad():
            expected = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"],
                token_type_ids=inputs["token_type_ids"],
            ).logits[0, 1]  # fmt: skip
        assert grade.reward == pytest.approx(expected.item(), abs=1e-4)


def test_the_order_of_the_requests_is_kept_however_they_are_batched(
    chat_model: Path, monkeypatch: Any
) -> None:
    texts = [f"{'word ' * (n * 7 % 23)}{n}" for n in range(30)]
    grader = open_reward_model(str(chat_model), RewardModelConfig())
    whole = [g.reward for g in grader.grade(requests(CHAT, texts))]
    monkeypatch.setattr("rft_cli.training.reward_model.BATCH_TOKENS", {"cpu": 100})
    assert [g.reward for g in grader.grade(requests(CHAT, texts))] == pytest.approx(whole, abs=1e-4)
    monkeypatch.setattr("rft_cli.training.reward_model.STREAMED", 7)
    parts = list(grader.stream(iter(requests(CHAT, texts))))
    assert [len(p) for p in parts] == [7, 7, 7, 7, 2]
    assert [g.reward for p in parts for g in p] == pytest.approx(whole, abs=1e-4)


def test_batches_hold_no_more_tokens_than_allowed_padding_included() -> None:
    assert list(batches([0, 1, 2, 3, 4], [1, 2, 5, 6, 30], 12)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], [], 12)) == []


def test_a_text_over_the_context_is_a_failed_grade_of_its_own(chat_model: Path) -> None:
    grader = open_reward_model(str(chat_model), RewardModelConfig())
    short, long = grader.grade(requests(CHAT, ["yes", "yes " * 3000]))
    assert short.status == "graded"
    assert long.error is not None
    assert long.error.kind == "too_long"
    assert "the reward model's context is" in long.error.message
    assert grader.stats.failures == {"too_long": 1}


def test_an_output_that_is_not_finite_is_a_failed_grade(chat_model: Path) -> None:
    grader = open_reward_model(str(chat_model), RewardModelConfig())
    grader._model.score.weight.data.fill_(float("inf"))
    (grade,) = grader.grade(requests(CHAT, ["yes"]))
    assert grade.error is not None
    assert grade.error.kind == "bad_value"


def test_which_output_is_the_reward_must_be_said(pair_model: Path) -> None:
    with pytest.raises(UsageError, match=r"has 2 outputs \(bad, good\)") as caught:
        open_reward_model(str(pair_model), RewardModelConfig())
    assert caught.value.fix == "say which one is the reward: --set grader.reward_model.label=NAME"
    with pytest.raises(UsageError, match="has no output 'great'"):
        open_reward_model(str(pair_model), RewardModelConfig(label="great"))
    assert open_reward_model(str(pair_model), RewardModelConfig(label="1"))._label == 1


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no weights for score\.weight: it is no reward model"):
        open_reward_model(str(BUILTIN / "tiny"), RewardModelConfig())
    with pytest.raises(UsageError, match="can't be loaded"):
        open_reward_model(str(tmp_path), RewardModelConfig())


def test_the_fingerprint_is_of_the_weights(chat_model: Path) -> None:
    one, again = (open_reward_model(str(chat_model), RewardModelConfig()) for _ in range(2))
    assert one.sha256 == again.sha256
    again._model.score.weight.data[0, 0] += 1
    assert fingerprint(again._model) != one.sha256


def test_a_job_with_a_reward_model_as_its_grader(chat_model: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"Say {n}.", "answer": str(n)}) for n in range(8)]
    train, val = tmp_path / "train.jsonl", tmp_path / "val.jsonl"
    train.write_text("\n".join(rows[:4]), encoding="utf-8")
    val.write_text("\n".join(rows[4:]), encoding="utf-8")
    done = rft_here(
        tmp_path, "create", "-t", str(train), "-v", str(val), "--reward-model", str(chat_model), "--n-epochs", "1",
        "--output-dir", str(tmp_path), "--name", "job", "--set", "rollout.max_completion_tokens=8", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    run = Run.open(tmp_path / "job")
    sample = run.read_samples("step-000000")[0]
    grader = open_reward_model(str(chat_model), RewardModelConfig())
    asked = [{"role": "user", "content": "Say 4."}]
    (again,) = grader.grade([GradeRequest(sample.completion, {}, prompt=asked)])
    assert again.reward == pytest.approx(sample.grade.reward, abs=1e-3)
    note = json.loads((tmp_path / "job" / "scorer" / "reward-model.json").read_text(encoding="utf-8"))
    assert (note["hub_id"], note["identity"][:7]) == (None, "sha256 ")
    resume = ("train", "--resume", str(run.path), "--n-epochs", "2")
    moved = shutil.copytree(chat_model, tmp_path / "moved")
    with (moved / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        last = weights.read(1)
        weights.seek(-1, os.SEEK_END)
        weights.write(bytes([last[0] ^ 1]))
    refused = rft_here(tmp_path, *resume, "--reward-model", str(moved))
    assert refused.code == 2
    assert f"  grader.path: {chat_model.name} -> moved\n" in refused.err
    with (moved / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(last)
    assert rft_here(tmp_path, *resume, "--reward-model", str(moved)).code == 0


def test_a_hub_id_that_is_not_there_is_told_before_anything_else(tmp_path: Path) -> None:
    data = ROOT / "sample_data" / "train.jsonl"
    done = rft("validate", "--reward-model", "org/no-such-model", "-t", data, folder=tmp_path)
    assert done.code == 2
    assert "reward model 'org/no-such-model' can't be loaded" in done.err


def test_rft_grade_asks_what_the_row_asked(chat_model: Path, tmp_path: Path) -> None:
    rows = [
        {"task": "Be brief.", "input": "Is it so?", "output": "yes", "completion": "no"},
        {"messages": CHAT, "completion": "no"},
    ]
    graded = []
    for number, row in enumerate(rows):  # two formats: a file each
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps(row), encoding="utf-8")
        done = rft_here(tmp_path, "grade", "--reward-model", chat_model, file)
        assert done.code == 0, done.err
        # The summary alone: nothing of what loads.
        assert done.err.splitlines()[0].startswith(f"reward model {chat_model}: 1 row")
        assert len(done.err.splitlines()) == 4
        graded.append(json.loads(done.out)["grade"]["reward"])
    grader = open_reward_model(str(chat_model), RewardModelConfig())
    asked = "Be brief.\n\nIs it so?"
    assert graded == pytest.approx(
        [grader.grade(requests(prompt, ["no"]))[0].reward for prompt in (asked, CHAT)], abs=1e-4
    )
    assert graded[0] != graded[1]
    (tmp_path / "none.jsonl").write_text('{"completion": "no"}', encoding="utf-8")
    done = rft_here(tmp_path, "grade", "--reward-model", chat_model, "none.jsonl")
    assert done.code == 2
    assert "none.jsonl:1" in done.err
