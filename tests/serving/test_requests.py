"""A request to the front becomes the engine's: checked, and with the run's settings where it has none of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rft_cli.serving.engines import ENGINES
from rft_cli.serving.model import RequestDefaults, ServedModel
from rft_cli.serving.requests import Kind, Refused, for_engine, read_body

USER = {"role": "user", "content": "Hi"}


def served(count: int = 10, **defaults: Any) -> ServedModel:
    settings = {"temperature": 0.6, "top_p": 0.9, "max_tokens": 40, **defaults}
    return ServedModel(
        "run", Path("/m"), "float32", 100, RequestDefaults(**settings), count=lambda _: count, begin="<s>"
    )


def sent(
    body: dict[str, Any], kind: Kind = "chat", engine: str = "transformers", **more: Any
) -> dict[str, Any]:
    return for_engine(body, kind, served(**more), ENGINES[engine])


def test_a_request_gets_the_settings_of_the_run() -> None:
    assert sent({"model": "run", "messages": [USER]}) == {
        "model": "/m",
        "messages": [USER],
        "temperature": 0.6,
        "top_p": 0.9,
        "max_tokens": 40,
    }


def test_its_own_settings_win_as_far_as_the_context_has_room() -> None:
    body = {"messages": [USER], "temperature": 0, "max_completion_tokens": 500, "top_p": None}
    assert sent(body) == {
        "model": "/m", "messages": [USER], "temperature": 0, "top_p": 0.9, "max_tokens": 90
    }  # fmt: skip


def test_vllm_and_llama_cpp_get_the_public_name_and_what_their_clients_ask_for() -> None:
    body = {"messages": [USER], "n": 2, "response_format": {"type": "json_object"}}
    assert sent(body, engine="vllm").items() >= {"model": "run", "n": 2}.items()
    llama = sent({**body, "top_k": 5}, engine="llama.cpp")
    assert (llama["top_k"], llama["min_p"], llama["repeat_penalty"]) == (5, 0.0, 1.0)


def test_fields_that_change_nothing_are_kept_from_transformers() -> None:
    plain = {
        "n": 1,
        "user": "u",
        "stream_options": {"include_usage": True},
        "logprobs": False,
        "presence_penalty": 0,
    }
    assert sent({"messages": [USER], **plain}) == sent({"messages": [USER]})


def test_the_system_message_of_the_run_and_of_the_request() -> None:
    own = {"role": "system", "content": "Be kind."}
    assert sent({"messages": [USER]}, system="Be brief.")["messages"] == [
        {"role": "system", "content": "Be brief."}, USER
    ]  # fmt: skip
    assert sent({"messages": [own, USER]}, system="Be brief.")["messages"] == [own, USER]
    merged = sent({"messages": [own, USER]}, merges_system=True)["messages"]
    assert merged == [{"role": "user", "content": "Be kind.\n\nHi"}]


def test_texts_in_parts_are_one_text_and_template_variables_are_the_runs() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = {"messages": [{"role": "user", "content": parts}], "chat_template_kwargs": {"x": 1}}
    found = sent(body, template={"x": 0, "enable_thinking": False})
    assert found["messages"] == [{"role": "user", "content": "ab"}]
    assert found["chat_template_kwargs"] == {"x": 1, "enable_thinking": False}


def test_text_prompts_begin_once() -> None:
    assert sent({"prompt": "<s>Once"}, "text")["prompt"] == "Once"
    assert sent({"prompt": ["Once"]}, "text")["prompt"] == "Once"
    assert sent({"prompt": [1, 2]}, "text")["prompt"] == [1, 2]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "messages must be a list with at least one message"),
        ({"messages": []}, "messages must be a list with at least one message"),
        ({"messages": ["Hi"]}, "messages[0] must be an object with a role"),
        ({"messages": [{"role": "user"}]}, "messages[0] has no content"),
        ({"messages": [USER], "temperature": "hot"}, "temperature must be a number from 0 to 2"),
        ({"messages": [USER], "temperature": float("nan")}, "temperature must be a number from 0 to 2"),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens must be a whole number from 1"),
        ({"messages": [USER], "stop": 5}, "stop must be a text or a list of texts"),
        ({"messages": [USER], "stream": "yes"}, "stream must be true or false"),
        ({"messages": [USER], "n": 3}, "the engine transformers does not do n=3; vllm and llama.cpp may"),
    ],
)
def test_what_can_not_be_answered_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        sent(body)
    assert refused.value.status == 400
    assert refused.value.body["error"]["message"] == message


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        sent({"messages": [USER]}, count=100)
    assert refused.value.body["error"] == {
        "message": "the prompt has 100 tokens; the model's context is 100",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


@pytest.mark.parametrize(
    "content", [b"{nope", b"[1]", b"", b"\xff", b"[" * 100_000, b'{"a": NaN}', b'["\\ud800"]']
)
def test_a_body_that_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match="the request"):
        read_body(content)
