"""From an example's prompt to token ids: the same way in training, the pilot, validation and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset as HfDataset
from transformers import PreTrainedTokenizerBase

from rft_cli.config import RunConfig
from rft_cli.config.schema import DataConfig, ModelConfig
from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError
from rft_cli.training.rollouts.chat_templates import ChatTemplate
from rft_cli.types import Example, Message, spoken


def has_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    return getattr(tokenizer, "chat_template", None) is not None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as text. `bare`: it has its special tokens already, the tokenizer adds none."""

    text: str
    bare: bool


class PromptEncoder:
    """The prompts of a job for its model: as text, as token ids, and the beginning of their answers.

    A chat model gets a conversation in its template, and unchanged a text that has the template's tokens already
    (`data.prompt` says otherwise). A base model gets the messages' texts with blank lines between them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: ModelConfig, data: DataConfig) -> None:
        self.tokenizer = tokenizer
        self._prompt, self._merges = data.prompt, model.system_role == "user"
        self.template = (
            ChatTemplate(tokenizer, model.chat_template_kwargs) if has_chat_template(tokenizer) else None
        )

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, config: RunConfig) -> PromptEncoder:
        """The encoder of this configuration."""
        return cls(tokenizer, config.model, config.data)

    def is_text(self, example: Example) -> bool:
        """Whether the prompt is text that stays as it is."""
        if not isinstance(example.prompt, str):
            return False
        if self.template is None:
            return example.system is None
        return self._prompt == "text" or (self._prompt == "auto" and self.template.written(example.prompt))

    def begun(self, example: Example) -> str:
        """The beginning of the answer that the prompt contains: the row's, or what the template opens.

        Graders get it with the completion. A prompt that is plain text has none: its answer has no known beginning.
        """
        if self.is_text(example):
            return ""
        return example.prefix or ("" if self.template is None else self.template.opening)

    def messages(self, example: Example) -> Sequence[Message]:
        """The conversation that the template renders."""
        turns = example.conversation()
        return merged(turns) if self._merges else turns

    def render(self, example: Example, with_tools: bool = True) -> Rendered:
        """The prompt as text; raises what the template raises."""
        if self.is_text(example):
            assert isinstance(example.prompt, str)
            return Rendered(example.prompt, self._has_its_tokens(example.prompt))
        if self.template is None:
            return Rendered(_plain(self.messages(example)), False)
        return Rendered(
            self.template.render(self.messages(example), example.tools if with_tools else None), True
        )

    def encode(self, examples: Sequence[Example]) -> list[list[int]]:
        """Token ids of every prompt, ready to be answered. Raises UsageError for what the template refuses."""
        rendered = self._rendered(examples)
        ids: list[list[int]] = [[] for _ in rendered]
        for bare in (True, False):
            places = [place for place, one in enumerate(rendered) if one.bare == bare]
            texts: Any = [rendered[place].text for place in places]
            if not texts:
                continue
            found = self.tokenizer(text=texts, add_special_tokens=not bare)["input_ids"]
            for place, row in zip(places, found, strict=True):
                ids[place] = list(row)
        return ids

    def _has_its_tokens(self, text: str) -> bool:
        begin: Any = self.tokenizer.bos_token
        rendered = self.template is not None and self.template.written(text)
        return rendered or bool(begin and text.startswith(begin))

    def _rendered(self, examples: Sequence[Example]) -> list[Rendered]:
        found, refused = [], list[tuple[Example, Exception]]()
        for example in examples:
            try:
                found.append(self.render(example))
            # A template may raise anything.
            except Exception as error:
                refused.append((example, error))
        if refused:
            raise self._refusal(refused)
        return found

    def _refusal(self, refused: Sequence[tuple[Example, Exception]]) -> UsageError:
        """The UsageError for rows that the chat template refuses, with its message on the first one."""
        example, first = refused[0]
        said = (str(first).strip() or type(first).__name__).splitlines()[0]
        turns = self.messages(example)
        roles = ", ".join(dict.fromkeys(message["role"] for message in turns))
        more = f" (and {counted(len(refused) - 1, 'more row')})" if len(refused) > 1 else ""
        fix = "change these rows' messages, or take another model"
        if turns[0]["role"] == "system":
            fix = "put a system message's text into the user's: --set model.system_role=user; or take another model"
        return UsageError(
            f"{example.source}{more}: the model's chat template refuses a prompt of {roles}: {said}", fix
        )


def merged(turns: Sequence[Message]) -> list[Message]:
    """The conversation with its system messages' texts at the beginning of the first user's message."""
    system = [turn["content"] for turn in turns if turn["role"] == "system"]
    rest = [turn for turn in turns if turn["role"] != "system"]
    if not system:
        return rest
    first = next(place for place, turn in enumerate(rest) if turn["role"] == "user")
    joined: Any = {**rest[first], "content": "\n\n".join([*system, rest[first]["content"]])}
    return [*rest[:first], joined, *rest[first + 1 :]]


def _plain(turns: Sequence[Message]) -> str:
    """A conversation for a base model: the beginning of an answer is on a line of its own."""
    begun = turns[-1] if turns[-1]["role"] == "assistant" else None
    asked = turns if begun is None else turns[:-1]
    return "\n\n".join(map(spoken, asked)) + "\n" + ("" if begun is None else begun["content"])


def training_rows(examples: Sequence[Example]) -> HfDataset:
    """TRL gets a prompt's text and a row number; rft makes the token ids, and the grader gets the row itself, so that
    Arrow never touches its values."""
    return HfDataset.from_dict(
        {"prompt": [e.prompt_text() for e in examples], "row": list(range(len(examples)))}
    )
