"""A request to the front: what is wrong with it, and what the engine gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from rft_cli.serving.engines import Engine, own_fields
from rft_cli.serving.model import RequestDefaults, ServedModel

Kind = Literal["chat", "text"]

_LIMITS = ("max_completion_tokens", "max_tokens")
_UNSEEN = ("user", "metadata", "store", "service_tier", "stream_options", "parallel_tool_calls", "prediction",
           "reasoning_effort", "safety_identifier", "prompt_cache_key", "verbosity")  # fmt: skip
"""Fields that change nothing in a completion here. transformers refuses those that it does not know."""
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "presence_penalty": (0,), "logprobs": (False, 0), "top_logprobs": (0,),
    "echo": (False,), "response_format": ({"type": "text"},), "tool_choice": ("auto",), "suffix": ("",),
    "modalities": (["text"],),
}  # fmt: skip
"""Fields that transformers ignores, with the values that ask for nothing."""

_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "stream": ((bool,), "true or false"), "seed": ((int,), "a whole number"), "tools": ((list,), "a list"),
    "stop": ((str, list), "a text or a list of texts"), "chat_template_kwargs": ((dict,), "an object"),
    "logit_bias": ((dict,), "an object"), "frequency_penalty": ((int, float), "a number"),
}  # fmt: skip


class Refused(Exception):
    """A request that can't be answered: an HTTP status, and the error in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def read_body(content: bytes) -> dict[str, Any]:
    """The JSON object of a request; Refused where it is none."""
    try:
        body = json.loads(content, parse_constant=_no_number)
        # A lone half of a surrogate pair is JSON, and no text.
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the request is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused(400, "the request must be a JSON object")
    return body


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number")


def for_engine(body: Mapping[str, Any], kind: Kind, model: ServedModel, engine: Engine) -> dict[str, Any]:
    """The request as the engine gets it: checked, with the run's settings where it has none of its own.

    Raises Refused for what can't be answered.
    """
    sent = {name: value for name, value in body.items() if value is not None}
    for name, (types, words) in _TYPES.items():
        if name in sent and not isinstance(sent[name], types):
            raise Refused(400, f"{name} must be {words}", param=name)
    stops = sent.get("stop")
    if isinstance(stops, list) and not all(isinstance(text, str) for text in stops):
        raise Refused(400, "stop must be a text or a list of texts", param="stop")
    if not -(2**63) <= sent.get("seed", 0) < 2**63:
        raise Refused(400, "seed must be a whole number of 64 bits", param="seed")
    if kind == "chat":
        sent["messages"] = _with_system(_messages(sent), model.defaults)
        if model.defaults.template:
            sent["chat_template_kwargs"] = {**model.defaults.template, **sent.get("chat_template_kwargs", {})}
    else:
        sent["prompt"] = _prompt(sent, model)
    for name, lowest, highest in (("temperature", 0, 2), ("top_p", 0, 1)):
        default = getattr(model.defaults, name)
        if default is not None:
            sent.setdefault(name, default)
        if name in sent:
            _check_number(sent, name, lowest, highest)
    if engine.name == "transformers":
        sent = _without_plain(sent)
    _limit_length(sent, model, engine)
    return {**own_fields(engine, sent), "model": engine.name_of(model)}


def _messages(body: Mapping[str, Any]) -> list[Any]:
    found = body.get("messages")
    if not isinstance(found, list) or not found:
        raise Refused(400, "messages must be a list with at least one message", param="messages")
    for number, message in enumerate(found):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Refused(400, f"messages[{number}] must be an object with a role", param="messages")
        content = message.get("content")
        if not isinstance(content, (str, list)) and not (content is None and message.get("tool_calls")):
            raise Refused(400, f"messages[{number}] has no content", param="messages")
    return [_plain_text(message) for message in found]


def _plain_text(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its content as one text, where it is a list of texts: many chat templates take no list."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    found = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) < len(parts):
        return message
    return {**message, "content": "".join(texts)}


def _with_system(messages: list[Any], defaults: RequestDefaults) -> list[Any]:
    """The messages after the run's system message, where they have none, and as `model.system_role` says."""
    roles = [message["role"] for message in messages]
    if defaults.system is not None and "system" not in roles and "developer" not in roles:
        messages = [{"role": "system", "content": defaults.system}, *messages]
    return merge_system(messages) if defaults.merges_system else messages


def merge_system(messages: list[Any]) -> list[Any]:
    """The messages with the system's texts before the first user's, for chat templates without a system role."""
    if not all(isinstance(message.get("content"), str) for message in messages):
        return messages
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    first = next((place for place, message in enumerate(rest) if message["role"] == "user"), None)
    if not system or first is None:
        return messages
    joined = {**rest[first], "content": "\n\n".join([*system, rest[first]["content"]])}
    return [*rest[:first], joined, *rest[first + 1 :]]


def _prompt(body: Mapping[str, Any], model: ServedModel) -> Any:
    """The prompt; a beginning that the tokenizer writes itself is taken off, so that it does not stand there twice."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return prompt.removeprefix(model.begin) if model.begin else prompt
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return prompt
    raise Refused(400, "prompt must be a text, or a list of token ids", param="prompt")


def _check_number(body: Mapping[str, Any], name: str, lowest: float, highest: float) -> None:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= highest:
        raise Refused(400, f"{name} must be a number from {lowest} to {highest}", param=name)


def _without_plain(body: dict[str, Any]) -> dict[str, Any]:
    """The request without fields that ask for nothing; Refused for one that transformers would ignore silently."""
    for name, plain in _PLAIN.items():
        if name in body and body[name] not in plain:
            raise Refused(
                400,
                f"the engine transformers does not do {name}={json.dumps(body[name])[:60]}; vllm and llama.cpp may",
                "unsupported_parameter",
                name,
            )
    return {name: value for name, value in body.items() if name not in (*_PLAIN, *_UNSEEN)}


def _limit_length(body: dict[str, Any], model: ServedModel, engine: Engine) -> None:
    """Set the most tokens of the completion: asked for, else the run's, and no more than the context has room for."""
    asked = [body.pop(name) for name in _LIMITS if name in body]
    for value in asked:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Refused(400, "max_tokens must be a whole number from 1", param="max_tokens")
    wanted = asked[0] if asked else model.defaults.max_tokens
    if not engine.checks_length and model.count is not None:
        try:
            used = model.count(body)
        # A chat template may raise anything.
        except Exception as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Refused(400, f"the model's chat template refuses these messages: {said}") from None
        left = model.context - used
        if left < 1:
            raise Refused(
                400,
                f"the prompt has {used} tokens; the model's context is {model.context}",
                "context_length_exceeded",
                "messages" if "messages" in body else "prompt",
            )
        wanted = left if wanted is None else min(wanted, left)
    if wanted is not None:
        body["max_tokens"] = wanted
