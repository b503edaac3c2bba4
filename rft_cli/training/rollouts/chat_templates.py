"""What a chat template does, found by rendering small conversations with it, which it may refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

_USER, _ANSWER = "Kiwi7431", "Plum5297"
"""Texts that occur in no chat template."""
_TAG = re.compile(r"<[A-Za-z][\w:-]*>")
_MARKUP = re.compile(r"</?[A-Za-z][\w:-]*>")
_EMPTY = re.compile(r"(\s*<([A-Za-z][\w:-]*)>\s*</\2>)*\s*")
_GENERIC = re.compile(r"</?(s|bos|eos|pad|unk|mask|cls|sep)>", re.IGNORECASE)
"""Special tokens that are HTML, or begin and end any text: they don't show that a conversation was rendered."""
_SIGN = re.compile(r"[^\w\s:]")


def template_text(tokenizer: Any, tools: bool = False) -> str:
    """The template itself; of several the one for conversations, with tools or without. Empty where there is none."""
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("tool_use" if tools and "tool_use" in found else "default")
    return found or ""


def variables_of(tokenizer: Any) -> set[str]:
    """The variables that the template, or one of several, reads."""
    import jinja2.meta
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # The `generation` block is transformers' own tag: it holds text and reads nothing.
    environment = ImmutableSandboxedEnvironment(extensions=[loopcontrols])
    names: set[str] = set()
    for text in {template_text(tokenizer), template_text(tokenizer, tools=True)}:
        bare = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", text)
        names |= jinja2.meta.find_undeclared_variables(environment.parse(bare))
    return names


def _alike(one: str, other: str) -> int:
    """How many letters two texts have in common at the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


class ChatTemplate:
    """A tokenizer's template with its variables: how it opens answers, and how to recognise its conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, Any]) -> None:
        self._tokenizer: Any = tokenizer
        self._variables = dict(variables)
        self._special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._begin = self._beginning()
        self.opening = self._opening()
        self.signs = self._signs()

    def render(
        self, conversation: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """The conversation as text, to be answered; continues a last assistant turn. Raises as the template does."""
        goes_on = conversation[-1]["role"] == "assistant"
        return str(
            self._tokenizer.apply_chat_template(
                [dict(message) for message in conversation],
                tools=None if tools is None else [dict(tool) for tool in tools],
                tokenize=False,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                **self._variables,
            )
        )

    def written(self, text: str) -> bool:
        """Whether the text is a conversation that this template has rendered already."""
        begins = self._begin is not None and text.lstrip().startswith(self._begin)
        return begins or self.sign_in(text) is not None

    def sign_in(self, text: str) -> str | None:
        """A token or heading of the template that the text contains."""
        return next((sign for sign in self.signs if sign in text), None)

    def _beginning(self) -> str | None:
        """The token with which the template begins a conversation, where it does."""
        begin = getattr(self._tokenizer, "bos_token", None)
        text = self._plain([{"role": "user", "content": _USER}])
        return str(begin) if begin and text is not None and text.startswith(begin) else None

    def _opening(self) -> str:
        """What the template writes of the answer itself, after the answer's heading: `<think>` and a line end, say.

        A block that it opens and closes at once, as for answers without thoughts, is none.
        """
        asked = [{"role": "user", "content": _USER}]
        plain, begun = self._plain(asked), self._plain(asked, begins=True)
        if plain is None or begun is None or not begun.startswith(plain):
            return ""
        written = begun[len(plain) :]
        again = [*asked, {"role": "assistant", "content": _ANSWER}, {"role": "user", "content": _USER}]
        # From an answer that is not the last one, where templates leave thoughts out.
        whole = self._plain(again)
        heading = "" if whole is None else whole.partition(_USER)[2].partition(_ANSWER)[0]
        tags = [tag for tag in _TAG.finditer(written) if tag[0] not in self._special]
        cut = tags[0].start() if tags else len(written)
        same = _alike(written[:cut], self._after(plain, heading))
        opening = written[same:] if same else written[cut:]
        # Completions are shown without special tokens.
        for token in self._special:
            opening = opening.replace(token, "")
        return "" if _EMPTY.fullmatch(opening) else opening

    @staticmethod
    def _after(plain: str, heading: str) -> str:
        """The heading without the end of the user's turn, which a conversation without an answer has too."""
        end = plain.rpartition(_USER)[2]
        return heading.removeprefix(end)

    def _signs(self) -> list[str]:
        """What a text rendered by this template contains: its special tokens, and headings like `[INST]`."""
        user, answer = {"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}
        text = self._plain([user, answer, user, answer]) or self._plain([user]) or ""
        found = {token for token in self._special if token in text and not _GENERIC.fullmatch(token)}
        between = text.split(_ANSWER)[1].split(_USER)[0] if text.count(_ANSWER) > 1 else ""
        after = text.partition(_USER)[2].partition(_ANSWER)[0]
        for heading in (between, after):
            last = heading.strip().rpartition("\n")[2]
            for token in self._special:
                last = last.replace(token, "")
            last = _MARKUP.sub("", last)
            if last.strip() and _SIGN.search(last) and not any(sign in last for sign in found):
                found.add(last.strip())
        return sorted(found)

    def _plain(self, conversation: list[dict[str, str]], begins: bool = False) -> str | None:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    conversation, tokenize=False, add_generation_prompt=begins, **self._variables
                )
            )
        except Exception:
            return None
