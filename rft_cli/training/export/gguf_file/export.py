"""The GGUF part of an export: the file and Ollama's Modelfile, written, read back and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft_cli.config.schema import ModelConfig
from rft_cli.runs.exports import ExportPlan
from rft_cli.training.export.cast import fingerprints
from rft_cli.training.export.compare import GreedyCompletions, distance
from rft_cli.training.export.gguf_file.architectures import architecture_of
from rft_cli.training.export.gguf_file.modelfile import FILE, Limits, modelfile
from rft_cli.training.export.gguf_file.reload import HARD_TEXTS, read_model, tokenizer_faults
from rft_cli.training.export.gguf_file.turns import find_turns
from rft_cli.training.export.gguf_file.vocabulary import vocabulary_of
from rft_cli.training.export.gguf_file.writer import Content, Sampling, round_as_stored, write_gguf
from rft_cli.training.export.verify import Verified, mismatch, placed, said

GGUF_TOLERANCE = 1e-5
"""Largest difference of two logits, over the largest logit, of the file's weights and the same in memory."""

Ask = Callable[[Any], GreedyCompletions]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a GGUF export needs to know: `prompts` are rendered texts, `type` says how matrices are stored."""

    plan: ExportPlan
    model: ModelConfig
    tokenizer: Any
    prompts: Sequence[str]
    sampling: Sampling
    limits: Limits
    stop: Sequence[int]
    type: str


def gguf_name(type: str) -> str:
    """The file's name: the hub and llama.cpp's tools read the type from it."""
    return f"model-{type.upper()}.gguf"


def export_gguf(asked: Asked, merged: Any, checkpoint: GreedyCompletions, ask: Ask, draft: Path) -> Verified:
    """Write `merged`, whole weights in float32, and compare the file with it; raises RunFailed where they differ.

    `checkpoint`: the answers of these weights. `merged` has the file's rounded ones afterwards.
    """
    vocabulary = vocabulary_of(asked.tokenizer, merged.config.vocab_size, asked.stop)
    name = f"{asked.plan.run.name} step {asked.plan.step}"
    file = draft / gguf_name(asked.type)
    write_gguf(file, merged, Content(name, vocabulary, asked.sampling, asked.type))
    (draft / FILE).write_text(_modelfile(asked, file.name, vocabulary.adds_begin), encoding="utf-8")
    faults = tokenizer_faults(file, vocabulary, asked.tokenizer, [*asked.prompts, *HARD_TEXTS])
    if faults:
        raise mismatch(asked.plan, "; ".join(faults))
    expected = checkpoint
    if asked.type != "f32":
        round_as_stored(merged, asked.type)
        expected = ask(merged)
    read, faults = read_model(file, asked.model, merged.config)
    if faults:
        raise mismatch(asked.plan, "; ".join(faults))
    if not architecture_of(merged.config).norm_offset:
        mine, theirs = fingerprints(merged), fingerprints(read)
        changed = [weight for weight, bits in mine.items() if theirs.get(weight) != bits]
        if changed:
            raise mismatch(asked.plan, f"{len(changed)} of its weights differ, the first is {changed[0]}")
    answers = ask(placed(read))
    apart = distance(expected, answers)
    if not apart.relative <= GGUF_TOLERANCE:
        raise mismatch(
            asked.plan, f"reloaded, it answers otherwise: {said(apart)} (allowed {GGUF_TOLERANCE:.0e})"
        )
    return Verified(
        prompts=apart.prompts,
        completions_equal=apart.equal,
        max_logit_difference=apart.absolute,
        relative_difference=apart.relative,
        tolerance=GGUF_TOLERANCE,
        compared_with="the checkpoint" if asked.type == "f32" else f"the checkpoint, stored as {asked.type}",
        from_float32=None if asked.type == "f32" else distance(checkpoint, answers),
    )


def _modelfile(asked: Asked, gguf: str, adds_begin: bool) -> str:
    tokenizer = asked.tokenizer
    chat = tokenizer.chat_template is not None

    def render(messages: Any, reply: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=reply, **asked.model.chat_template_kwargs
            )
        )

    begin = str(tokenizer.bos_token) if adds_begin else ""
    turns = find_turns(render, begin) if chat else None
    ends = [str(tokenizer.convert_ids_to_tokens(end)) for end in asked.stop]
    return modelfile(gguf, turns, chat, asked.sampling, asked.limits, ends)
