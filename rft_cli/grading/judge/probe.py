"""Whether a judge can be asked at all, before a model loads.

The list of models costs nothing, and where it names the judge's model all is well. Anything else proves little: keys
may be barred from the list, servers may lack it or answer 500, and many list only a part. Then one request of 16
tokens decides, because it needs just what grading needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from rft_cli.config.suggest import did_you_mean
from rft_cli.errors import UsageError
from rft_cli.grading.judge.bounds import Most
from rft_cli.grading.judge.client import JudgeClient, Question
from rft_cli.grading.judge.endpoint import Endpoint
from rft_cli.grading.judge.faults import Fault
from rft_cli.grading.judge.reply import Reply

_LIST_S = 10.0
_LENGTH_WORDS = ("max_tokens", "max_completion_tokens", "output limit")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Checked:
    """The small request was answered; `most`: the tokens it could take."""

    reply: Reply
    most: Most


async def check_model(
    client: JudgeClient, endpoint: Endpoint, model: str, timeout_s: float
) -> Checked | None:
    """What the small request came to, None where the list was enough. UsageError if the model can't be asked."""
    listed = await client.models(min(timeout_s, _LIST_S))
    if isinstance(listed, Fault):
        if listed.kind != "judge_timeout":
            raise UsageError(f"the judge at {endpoint.url} is out of reach: {listed.message}", _REACH)
        listed = []
    if model in listed:
        return None
    question = Question(model, [{"role": "user", "content": "Say ok."}], {"max_completion_tokens": 16}, None)
    outcome = await client.ask(question, retries=1)
    if isinstance(outcome, Reply):
        return Checked(outcome, question.most())
    problem = _problem(outcome, endpoint, model, listed)
    if problem is not None:
        raise problem
    return None


_REACH = "start the server, or set grader.judge.base_url (or OPENAI_BASE_URL) to its address"


def _problem(fault: Fault, endpoint: Endpoint, model: str, listed: list[str]) -> UsageError | None:
    """Why the model can't be asked; None where the fault shows that it can."""
    where = f"the judge at {endpoint.url}"
    if fault.status in (401, 403):
        has_key = endpoint.key is not None
        fix = (
            f"check the key in {endpoint.key_env}"
            if has_key
            else "name its variable in grader.judge.api_key_env"
        )
        return UsageError(f"{where} takes no requests with this key: {fault.message}", fix)
    if fault.status == 200:
        return UsageError(
            f"{where} is no OpenAI-compatible endpoint: {fault.message}",
            "check grader.judge.base_url; it often ends in /v1",
        )
    if fault.status == 429 and fault.retry:
        return None
    if fault.status in (400, 422) and any(word in fault.body for word in _LENGTH_WORDS):
        return None
    if fault.status in (400, 404, 422):
        near = did_you_mean(model, listed)
        known = (
            f"it lists: {', '.join(listed[:_SHOWN])}"
            if listed
            else "check that base_url ends as it should (/v1)"
        )
        fix = f"{near or known}; grader.judge.model names the model to ask"
        return UsageError(f"{where} does not answer for the model '{model}': {fault.message}", fix)
    return UsageError(f"{where} does not answer: {fault.message}", _REACH)
