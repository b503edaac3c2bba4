"""Notes on how a job's prompts are rendered, made before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.config import RunConfig
from rft_cli.config.suggest import counted, did_you_mean
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.events import Note
from rft_cli.training.rollouts.chat_templates import ChatTemplate, variables_of
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import Example

_GIVEN = frozenset(
    {"messages", "tools", "add_generation_prompt", "continue_final_message", "tokenize", "chat_template"}
)
"""Variables that rft or transformers set."""
_HELPERS = frozenset({"raise_exception", "strftime_now"})
"""Functions that transformers passes to templates."""


_Rows = tuple[Sequence[Example], str]
"""Rows, and what holds for them."""


def prompt_notes(encoder: PromptEncoder, examples: Sequence[Example], config: RunConfig) -> list[Note]:
    """How these prompts are rendered, where that is not obvious; UsageErrors for settings without effect."""
    _check_settings(encoder, config)
    template = encoder.template
    notes = _notes(_text_rows(encoder, examples))
    if template is None:
        tools = [example for example in examples if example.tools]
        missing = "the model has no chat template: the definitions of tools do not reach it"
        return [*notes, *_notes([(tools, missing)], "warning")]
    if template.opening:
        text = f"the chat template begins every answer with {template.opening!r}: graders get it with the completion"
        notes.append(Note(text))
    merged = _merged_rows(encoder, examples)
    ignored = _rows_with_ignored_tools(encoder, examples)
    return [
        *notes,
        *_notes([(merged, "the system message is put into the user's first message")]),
        *_notes(_with_signs(template, encoder, examples), "warning"),
        *_notes([(ignored, "the chat template ignores the definitions of tools")], "warning"),
    ]


def _notes(found: Sequence[_Rows], level: str = "info") -> list[Note]:
    notes = []
    for rows, text in found:
        if rows:
            more = f" (and {counted(len(rows) - 1, 'more row')})" if len(rows) > 1 else ""
            notes.append(Note(f"{rows[0].source}{more}: {text}", level))
    return notes


def _text_rows(encoder: PromptEncoder, examples: Sequence[Example]) -> list[_Rows]:
    if encoder.template is None:
        return []
    taken = [example for example in examples if encoder.is_text(example)]
    what = "the prompt is text and stays as it is"
    if any(encoder.template.written(example.prompt) for example in taken if isinstance(example.prompt, str)):
        what = "the prompt has the chat template's own tokens: it stays as it is (data.prompt=chat wraps it)"
    lost = [example for example in taken if example.system is not None]
    tools = [example for example in taken if example.tools]
    return [
        (taken, what),
        (lost, "data.system is not put before a prompt that stays as it is"),
        (tools, "the definitions of tools are not put into a prompt that stays as it is"),
    ]


def _merged_rows(encoder: PromptEncoder, examples: Sequence[Example]) -> list[Example]:
    def is_merged(example: Example) -> bool:
        return not encoder.is_text(example) and len(encoder.messages(example)) < len(example.conversation())

    return [example for example in examples if is_merged(example)]


def _with_signs(template: ChatTemplate, encoder: PromptEncoder, examples: Sequence[Example]) -> list[_Rows]:
    """Messages that hold tokens of the template, which read as the end of a turn or the beginning of another."""
    found, sign = list[Example](), None
    for example in examples:
        if encoder.is_text(example):
            continue
        held = next(
            filter(None, (template.sign_in(turn["content"]) for turn in example.conversation())), None
        )
        if held is not None:
            found.append(example)
            sign = sign or held
    text = f"a message holds {sign!r}, which the chat template writes itself: the model reads it as the template's"
    whole = all(isinstance(example.prompt, str) for example in found)
    return [(found, f"{text} (data.prompt=text takes the prompt as it is)" if whole else text)]


def _rows_with_ignored_tools(encoder: PromptEncoder, examples: Sequence[Example]) -> list[Example]:
    """The rows whose tools change nothing: all of them or none, judged by the first one."""
    rows = [example for example in examples if example.tools and not encoder.is_text(example)]
    if not rows or encoder.render(rows[0]).text != encoder.render(rows[0], with_tools=False).text:
        return []
    return rows


def _check_settings(encoder: PromptEncoder, config: RunConfig) -> None:
    """UsageErrors for settings without effect on this model's template, or on a model without one."""
    key, given, model = "model.chat_template_kwargs", config.model.chat_template_kwargs, config.model.path
    if encoder.template is None:
        if given:
            raise UsageError(f"{key}: {model} has no chat template", "leave it out, or take a chat model")
        if config.data.prompt == "chat":
            raise UsageError(f"data.prompt: chat: {model} has no chat template", "leave it at auto")
        return
    reads = variables_of(encoder.tokenizer)
    known = sorted(name for name in reads - _GIVEN - _HELPERS if not name.endswith("_token"))
    problems = []
    for name in given:
        if name in _GIVEN | _HELPERS:
            problems.append(UsageError(f"{key}.{name}: rft gives it itself", "leave it out"))
        elif name not in reads:
            fix = did_you_mean(name, known) or f"it reads {', '.join(known) or 'no variable of its own'}"
            problems.append(UsageError(f"{key}.{name}: the chat template of {model} does not read it", fix))
    if problems:
        raise problems[0] if len(problems) == 1 else UsageErrors(problems)
