"""Train a tokenizer and a small causal language model from scratch on dialogues, on a CPU."""

import json
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from recipes.dialogue import Dialogue

SPECIAL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|system|>")
PAD, USER, ASSISTANT, END, SYSTEM = SPECIAL
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
RESPONSE_TEMPLATE = {
    "start_anchor": ASSISTANT,
    "fields": {"content": {"close": END, "content": "text", "content_args": {"strip": False}}},
}
"""How servers find the completion in what the model wrote; without it, transformers' takes that of Qwen3."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE that reads any UTF-8 text; each digit is a token, so that numbers can be copied.

    It splits text as SmolLM's does: llama.cpp has that built in.
    """
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=3,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
        padding_side="left",
        response_template=RESPONSE_TEMPLATE,
    )


@dataclass(frozen=True)
class Phase:
    """A stretch of training on one stream of dialogues, as a share of all steps."""

    share: float
    stream: Iterator[Dialogue]


@dataclass(frozen=True)
class Settings:
    """What the training loop needs to know."""

    steps: int
    batch_size: int = 64
    peak_learning_rate: float = 3e-3
    warmup_steps: int = 60
    prompt_weight: float = 0.15
    seed: int = 0
    log_every: int = 50


@dataclass(frozen=True)
class Batch:
    """Token ids, the weight of each token in the loss, and 1 where a token is no padding: all (B, T)."""

    ids: Tensor
    weights: Tensor
    mask: Tensor


def encode(tokenizer: PreTrainedTokenizerFast, dialogues: list[Dialogue]) -> list[tuple[list[int], int]]:
    """Token ids of each dialogue in the chat template, and how many of them are the prompt."""
    prompts = [f"{USER}{d.user}{END}{ASSISTANT}" for d in dialogues]
    completions = [f"{d.assistant}{END}" for d in dialogues]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    completion_ids = tokenizer(completions, add_special_tokens=False)["input_ids"]
    return [(p + c, len(p)) for p, c in zip(prompt_ids, completion_ids, strict=True)]


def batches(
    tokenizer: PreTrainedTokenizerFast, stream: Iterator[Dialogue], settings: Settings, rng: random.Random
) -> Iterator[Batch]:
    """Batches of dialogues of similar length, padded on the right."""
    while True:
        chunk = encode(tokenizer, list(islice(stream, settings.batch_size * 16)))
        chunk.sort(key=lambda item: len(item[0]))
        groups = [chunk[i : i + settings.batch_size] for i in range(0, len(chunk), settings.batch_size)]
        rng.shuffle(groups)
        for group in groups:
            yield _pad(group, int(tokenizer.pad_token_id), settings.prompt_weight)


def _pad(group: list[tuple[list[int], int]], pad_id: int, prompt_weight: float) -> Batch:
    width = max(len(ids) for ids, _ in group)
    ids = torch.full((len(group), width), pad_id)
    weights = torch.zeros(len(group), width)
    mask = torch.zeros(len(group), width, dtype=torch.long)
    for row, (tokens, prompt_length) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, :prompt_length] = prompt_weight
        weights[row, prompt_length : len(tokens)] = 1.0
        mask[row, : len(tokens)] = 1
    return Batch(ids, weights, mask)


def weighted_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean negative log-likelihood, each token with its weight."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none"
    )
    weights = batch.weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def train(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, phases: list[Phase], settings: Settings
) -> float:
    """AdamW with warm-up and a cosine to zero over all phases; returns the seconds it took."""
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    started = time.monotonic()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.peak_learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=settings.warmup_steps)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, max(1, settings.steps - settings.warmup_steps)
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [settings.warmup_steps])
    model.train()
    step = 0
    for phase in phases:
        source = batches(tokenizer, phase.stream, settings, rng)
        for _ in range(round(phase.share * settings.steps)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = weighted_loss(model, next(source))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            step += 1
            if step % settings.log_every == 0:
                print(
                    f"step {step} loss {loss.item():.4f} {time.monotonic() - started:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
    model.eval()
    return time.monotonic() - started


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write model and tokenizer so that the Auto classes of transformers load the folder."""
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out, save_jinja_files=False)
    config = out / "tokenizer_config.json"  # the class name that older readers know too
    fields = json.loads(config.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
