"""What sft learns of a row: behind the prompt of the rollouts the reference and one end, and these alone count."""

import json

import pytest
import torch

from rft_cli.config.schema import ModelConfig, RunConfig
from rft_cli.data.dataset import read_examples
from rft_cli.data.demonstrations import demonstration_of
from rft_cli.errors import UsageErrors
from rft_cli.training import build
from rft_cli.training.hf_args import Resolved
from rft_cli.training.models import load_policy, load_tokenizer
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.sft.reference_rows import IGNORED, behind, completion_ids, end_of, reference_rows
from rft_cli.types import Example, Source

SAMPLE = "sample_data/train.jsonl"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(ModelConfig())


def example(prompt, **fields):
    return Example("1", prompt, fields, Source("f", 1))


def encode(tokenizer, examples):
    return PromptEncoder.of(tokenizer, RunConfig()).encode(examples)


def taught(tokenizer, examples, context=1024):
    encoder = PromptEncoder.of(tokenizer, RunConfig())
    return reference_rows(encoder, examples, encoder.encode(examples), {}, context)


def test_a_row_is_the_rollouts_prompt_then_the_reference_then_one_end(tokenizer):
    examples = read_examples(SAMPLE).examples[:8]
    rows = taught(tokenizer, examples)
    for place, one in enumerate(examples):
        rendered = tokenizer.apply_chat_template(one.prompt, add_generation_prompt=True, return_dict=True)
        assert list(rows.prompts[place]) == rendered["input_ids"]
        said = rows.completions[place]
        assert said[-1] == tokenizer.eos_token_id == end_of(tokenizer)
        assert said.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(said[:-1]) == one.fields["output"]


def test_labels_leave_the_prompt_out(tokenizer):
    rows = taught(tokenizer, read_examples(SAMPLE).examples[:3])
    for place, row in enumerate(rows.dataset()):
        prompt, said = list(rows.prompts[place]), list(rows.completions[place])
        assert row["input_ids"] == prompt + said
        assert row["labels"] == [IGNORED] * len(prompt) + said


def test_the_loss_is_the_mean_over_completion_tokens_alone(tokenizer, tmp_path):
    """By the trainer's own collator and loss, against log-probabilities of the plain model."""
    config = RunConfig.model_validate({"algorithm": "sft", "sft": {"batch_size": 3}})
    rows = taught(tokenizer, read_examples(SAMPLE).examples[:3])
    model = load_policy(_source(), config.model, torch.float32)
    resolved = Resolved(
        lora=False, learning_rate=1e-3, critic="none", critic_learning_rate=0.0, n_epochs=1, max_steps=1,
        validate_every=1, prompts_per_batch=3, max_completion_tokens=64, micro_batch_size=3,
        gradient_checkpointing=False, critic_warmup=0, world_size=1, minibatches=1,
    )  # fmt: skip
    total, count = 0.0, 0
    with torch.no_grad():
        for prompt, said in zip(rows.prompts, rows.completions, strict=True):
            ids = torch.tensor([[*prompt, *said]])
            logps = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            total -= float(logps.gather(1, torch.tensor(said)[:, None]).sum())
            count += len(said)
    trainer = build.build_sft(config, resolved, tokenizer, model, str(tmp_path), rows.dataset())
    batch = next(iter(trainer.get_train_dataloader()))
    assert int((batch["labels"] != IGNORED).sum()) == count
    loss = trainer.compute_loss(trainer.model, dict(batch))
    assert float(loss.detach()) == pytest.approx(total / count, rel=1e-4)


def _source():
    from rft_cli.runs.model_source import find_model

    return find_model("builtin/tiny")


def test_an_end_that_the_reference_has_already_is_not_said_twice(tokenizer):
    end = tokenizer.decode([end_of(tokenizer)])
    (prompt,) = encode(tokenizer, [example("hello")])
    assert completion_ids(tokenizer, prompt, f"yes{end}", end_of(tokenizer)) == completion_ids(
        tokenizer, prompt, "yes", end_of(tokenizer)
    )


def test_without_a_chat_template_the_text_stands_behind_the_prompt(tokenizer):
    plain = load_tokenizer(ModelConfig())
    plain.chat_template = None
    examples = [example("Question: what?\nAnswer:", output=" billing")]
    rows = taught(plain, examples)
    assert list(rows.prompts[0]) == encode(plain, examples)[0]
    assert plain.decode([*rows.prompts[0], *rows.completions[0][:-1]]) == "Question: what?\nAnswer: billing"
    assert rows.completions[0][-1] == plain.eos_token_id


@pytest.mark.parametrize(
    ("begun", "reference", "said"),
    [
        ("<think>\n", "<think>\nwhy\n</think>\n4", "why\n</think>\n4"),
        ("<think>\n", "<think>why</think>\n4", "why</think>\n4"),
        ("<think>", "<think>why</think>4", "why</think>4"),
        ("", "<think>why</think>4", "<think>why</think>4"),
        ("<think>\n", "4", "4"),
        ("It is", "It is 4", " 4"),
    ],
)
def test_what_the_prompt_has_begun_is_not_taught_again(begun, reference, said):
    assert behind(begun, reference) == said


def test_what_the_template_opens_is_not_taught_again(tokenizer):
    opening = load_tokenizer(ModelConfig())
    opening.chat_template = (
        str(tokenizer.chat_template) + "{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    (row,) = taught(opening, [example("hello", output="<think>\nwhy</think>4")]).completions
    assert tokenizer.decode(row[:-1]) == "why</think>4"


def test_references_longer_than_the_context_are_named(tokenizer):
    examples = [
        example("short", output="x"),
        Example("2", "long", {"output": "word " * 60}, Source("t.jsonl", 7)),
    ]
    with pytest.raises(UsageErrors) as error:
        taught(tokenizer, examples, context=40)
    (problem,) = error.value.problems
    assert problem.message.startswith("t.jsonl:7: prompt and reference have ")
    assert problem.message.endswith("tokens; the model's context is 40")


def turn(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("fields", "columns", "said"),
    [
        ({"output": "right"}, {}, "right"),
        ({"answer": "2 + 2 = 4\n#### 4"}, {}, "2 + 2 = 4\n#### 4"),
        ({"completion": "right", "answer": "label"}, {}, "right"),
        ({"completion": turn("right")}, {}, "right"),
        (
            {"messages": [{"role": "user", "content": "q"}, *turn("right")], "reference_answer": "A"},
            {},
            "right",
        ),
        ({"messages": [{"role": "user", "content": "q"}], "reference_answer": "A"}, {}, "A"),
        (
            {"reward_model": {"ground_truth": "29"}, "extra_info": {"answer": "20 + 9\n#### 29"}},
            {},
            "20 + 9\n#### 29",
        ),
        ({"reward_model": {"ground_truth": "29"}}, {}, "29"),
        ({"ideal": "mine", "completion": "other"}, {"output": "ideal"}, "mine"),
        ({"output": {"a": 1}}, {}, '{"a": 1}'),
        ({"output": 7}, {}, "7"),
        ({"output": "  "}, {}, None),
        ({"completion": [{"role": "user", "content": "no"}]}, {}, None),
        ({"completion": [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]}, {}, "a"),
        ({}, {}, None),
    ],
)
def test_what_a_row_teaches(fields, columns, said):
    assert (
        demonstration_of(
            example([{"role": "user", "content": "q"}], **json.loads(json.dumps(fields))), columns
        )
        == said
    )
