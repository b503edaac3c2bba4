"""Checks that a judge can be asked, before a model loads.

A list of models that names the judge's model is enough, and is free. Anything else proves little: keys may not be
allowed to list, servers may lack the list or answer 500, and many list only some models. Then one request of 16 tokens
decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import openai

from rft_cli.config.suggest import did_you_mean
from rft_cli.errors import UsageError
from rft_cli.grading.judge.client import JudgeClient, NoCompletion, is_out_of_quota
from rft_cli.grading.judge.endpoint import Reply

_LENGTH_WORDS = ("max_tokens", "max_completion_tokens", "output limit")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Wording:
    """What messages call the endpoint, and the settings that name its address, its key and the model."""

    subject: str
    address: str
    key: str
    model: str


JUDGE = Wording(
    "the judge at",
    "grader.judge.base_url (or OPENAI_BASE_URL)",
    "grader.judge.api_key_env",
    "grader.judge.model",
)


async def check_model(client: JudgeClient, model: str, words: Wording = JUDGE) -> Reply | None:
    """The reply to the small request, None where none was paid for. UsageError if the model can't be asked."""
    reach = f"start the server, or set {words.address} to its address"
    listed: list[str] = []
    try:
        listed = await client.models()
    except openai.APIConnectionError as error:
        if not isinstance(error, openai.APITimeoutError):
            said = client.failure(error).message
            raise UsageError(
                f"{words.subject} {client.endpoint.url} is out of reach: {said}", reach
            ) from None
    except Exception:
        # The list proves nothing.
        pass
    if model in listed:
        return None
    messages = [{"role": "user", "content": "Say ok."}]
    try:
        return await client.ask(
            {"model": model, "messages": messages, "max_completion_tokens": 16}, retries=1
        )
    except Exception as error:
        if isinstance(error, openai.APIStatusError) and _met_a_limit(error):
            return None
        raise _problem(error, client, model, listed, words) from None


def _met_a_limit(error: openai.APIStatusError) -> bool:
    """Whether the error shows that the endpoint knows the model."""
    if error.status_code == 429:
        return not is_out_of_quota(error.response)
    return error.status_code in (400, 422) and any(word in error.response.text for word in _LENGTH_WORDS)


def _problem(
    error: Exception, client: JudgeClient, model: str, listed: list[str], words: Wording
) -> UsageError:
    """Why the model can't be asked."""
    where, said = f"{words.subject} {client.endpoint.url}", client.failure(error).message
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    if status in (401, 403):
        fix = f"check the key in {client.endpoint.key_env}"
        if client.endpoint.key is None:
            fix = f"name its variable in {words.key}"
        return UsageError(f"{where} takes no requests with this key: {said}", fix)
    if isinstance(error.__cause__, NoCompletion):
        fix = f"check {words.address.partition(' ')[0]}; it often ends in /v1"
        return UsageError(f"{where} is not an OpenAI-compatible endpoint: {said}", fix)
    if status in (400, 404, 422):
        known = "check that the address ends as it should (/v1)"
        if listed:
            known = did_you_mean(model, listed) or f"it lists: {', '.join(listed[:_SHOWN])}"
        fix = f"{known}; {words.model} names the model to ask"
        return UsageError(f"{where} does not answer for the model '{model}': {said}", fix)
    fix = f"start the server, or set {words.address} to its address"
    return UsageError(f"{where} does not answer: {said}", fix)
