"""A reward model as the grader: a sequence-classification model whose one output is the reward.

The conversation with the completion as its last turn goes through the model's own chat template; without one, prompt
and completion go in as the pair that the tokenizer makes of them. The output is taken as it is: neither squashed nor
clipped, because PPO normalises returns and a reader can compare with other users of the same model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from rft_cli.config.schema import RewardModelConfig
from rft_cli.errors import UsageError
from rft_cli.grading.protocol import Feed, Grader
from rft_cli.grading.stats import GraderStats
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.models import context_length, not_loadable, weights_dtype
from rft_cli.training.rollouts.prompts import has_chat_template
from rft_cli.types import Grade, GradeError, GradeRequest, Message, spoken

BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}
"""Tokens, padding included, of one forward pass."""
STREAMED = 1_024


class RewardModelGrader(Grader):
    """The Grader protocol over a model in this process.

    `label` is the index of the output taken as the reward. A text that is longer than the model's context is a failed
    grade (`too_long`), and so is an output that is not finite (`bad_value`).
    """

    in_place = True

    def __init__(
        self,
        path: str,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        label: int,
    ) -> None:
        self.stats = GraderStats()
        self.signature = f"reward model {path}"
        self.sha256 = fingerprint(model)
        self.log_path: Path | None = None
        self._model = model
        self._tokenizer = tokenizer
        self._label = label
        self._context = context_length(model.config)

    @property
    def may_ask(self) -> bool:
        """It reads the prompt before the completion."""
        return True

    def close(self) -> None:
        """Nothing to close."""

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read."""
        feed = Feed.of(requests)
        while part := feed.take(STREAMED):
            yield self.grade(part)

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order; a pass has texts of similar length."""
        encoded = [self._encode(r) for r in requests]
        lengths = [len(e["input_ids"]) for e in encoded]
        grades: list[Grade | None] = [self._too_long(n) for n in lengths]
        fitting = sorted((n for n, g in enumerate(grades) if g is None), key=lambda n: lengths[n])
        for numbers in batches(fitting, lengths, BATCH_TOKENS[self._model.device.type]):
            started = perf_counter()
            rewards = self._rewards([encoded[n] for n in numbers])
            seconds = (perf_counter() - started) / len(numbers)
            for number, reward in zip(numbers, rewards, strict=True):
                grades[number] = _grade(reward, seconds)
        done = [g for g in grades if g is not None]
        self.stats.add(done)
        return done

    def _encode(self, request: GradeRequest) -> dict[str, list[int]]:
        """What the tokenizer makes of it: ids, and token types where the architecture has them."""
        prompt: str | Sequence[Message] = "" if request.prompt is None else request.prompt
        tokenizer: Any = self._tokenizer
        if has_chat_template(tokenizer):
            asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            answered = [*map(dict, asked), {"role": "assistant", "content": request.completion}]
            return dict(tokenizer.apply_chat_template(answered, tokenize=True, return_dict=True))
        text = prompt if isinstance(prompt, str) else "\n\n".join(map(spoken, prompt))
        return dict(tokenizer(text, request.completion))

    def _too_long(self, tokens: int) -> Grade | None:
        if tokens <= self._context:
            return None
        message = f"the reward model's context is {self._context} tokens, prompt and completion have {tokens}"
        return Grade("failed", error=GradeError("too_long", message))

    @torch.inference_mode()
    def _rewards(self, encoded: Sequence[dict[str, list[int]]]) -> list[float]:
        padded = self._tokenizer.pad(list(encoded), return_tensors="pt").to(self._model.device)
        output: Tensor = self._model(**padded).logits
        found: list[float] = output[:, self._label].float().tolist()
        return found


def batches(numbers: Sequence[int], lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Cut `numbers`, sorted by length, into batches of at most `most_tokens` tokens, padding included."""
    batch: list[int] = []
    for number in numbers:
        if batch and lengths[number] * (len(batch) + 1) > most_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _grade(reward: float, seconds: float) -> Grade:
    if math.isfinite(reward):
        return Grade("graded", reward=reward, seconds=seconds)
    error = GradeError("bad_value", f"the reward model gave {reward}, which is not finite")
    return Grade("failed", error=error, seconds=seconds)


def open_reward_model(path: str, config: RewardModelConfig) -> RewardModelGrader:
    """Load the model onto this process's device; UsageError where it can't be loaded, or has no output to take."""
    device = PartialState(cpu=not torch.cuda.is_available()).device
    # Frozen weights, like a base under LoRA.
    dtype = weights_dtype(config.dtype, True, device)
    path = str(Path(path).expanduser())
    quiet_libraries()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=config.trust_remote_code, padding_side="right"
        )
        model, report = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=dtype, trust_remote_code=config.trust_remote_code, output_loading_info=True
        )
    except Exception as error:
        fix = "give a directory with config.json and weights, or a hub id that is downloaded or reachable"
        raise not_loadable(f"reward model {path!r}", error, fix) from error
    _check_trained(path, report)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # A decoder reads its output at the last token that is not padding: model and tokenizer must pad alike.
    model.config.pad_token_id = tokenizer.pad_token_id
    label = _label(path, config.label, model.config)
    return RewardModelGrader(path, model.to(device).eval(), tokenizer, label)


def _check_trained(path: str, report: Any) -> None:
    """UsageError for a model without a trained head: it would get a random one, and rewards without meaning."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise UsageError(
            f"reward model {path!r} has no weights for {', '.join(missing[:3])}: it is no reward model",
            "name a sequence-classification model; a language model can judge instead: see docs/graders.md",
        )


def _label(path: str, wanted: str | None, config: Any) -> int:
    names = {int(k): str(v) for k, v in config.id2label.items()}
    if wanted is None and config.num_labels == 1:
        return 0
    known = ", ".join(names.values())
    if wanted is None:
        raise UsageError(
            f"reward model {path!r} has {config.num_labels} outputs ({known})",
            "say which one is the reward: --set grader.reward_model.label=NAME",
        )
    for number, name in names.items():
        if wanted == name or wanted == str(number):
            return number
    raise UsageError(f"reward model {path!r} has no output {wanted!r}", f"it has: {known}")


def fingerprint(model: Any) -> str:
    """SHA-256 over name, shape and sum of each weight: cheap, and different after any training."""
    found = hashlib.sha256()
    for name, weight in model.state_dict().items():
        total = weight.detach().double().sum().item() if weight.is_floating_point() else int(weight.sum())
        found.update(f"{name} {tuple(weight.shape)} {total!r}\n".encode())
    return found.hexdigest()
