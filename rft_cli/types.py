"""The records that pass between layers: plain, frozen, torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

MOST_COMPONENTS = 100
"""Names of components that are averaged and shown: a scorer may invent new ones without end. Rows keep all."""
GradeStatus = Literal["graded", "skipped", "failed"]


class Message(TypedDict):
    """One turn of a conversation, in the form every chat template takes."""

    role: str
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    reasoning_content: NotRequired[str]


def spoken(message: Message) -> str:
    """A message as text: its content and its tool calls."""
    calls = message.get("tool_calls")
    if not calls:
        return message["content"]
    text = json.dumps(calls, ensure_ascii=False)
    return f"{message['content']}\n\n{text}" if message["content"] else text


@dataclass(frozen=True, slots=True)
class Source:
    """The place of a row: `file` as the user named it, `line` counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Example:
    """One data row: what the model is asked, and everything the grader may look at.

    `prompt` is a conversation, or a plain string for `{prompt: "text"}` rows. A conversation that ends with an
    assistant turn is the beginning of the completion (`prefix`). `fields` is the JSON row as it stood in the file,
    types unchanged; the grader gets it as `example` or `item`. `tools` are definitions for the chat template.
    `system` goes before a plain string once that becomes a user's message.
    """

    id: str
    prompt: str | Sequence[Message]
    fields: Mapping[str, Any]
    source: Source
    tools: Sequence[Mapping[str, Any]] | None = None
    system: str | None = None

    @property
    def prefix(self) -> str:
        """The beginning of the completion that the prompt ends with; mostly empty."""
        last = None if isinstance(self.prompt, str) else self.prompt[-1]
        return last["content"] if last is not None and last["role"] == "assistant" else ""

    def conversation(self) -> Sequence[Message]:
        """The prompt as messages: a plain string is a user's message, after `system`."""
        if not isinstance(self.prompt, str):
            return self.prompt
        user = Message(role="user", content=self.prompt)
        return [user] if self.system is None else [Message(role="system", content=self.system), user]

    def asked(self) -> str | Sequence[Message]:
        """What was asked, without the beginning of the completion: what reward models get."""
        if self.prefix:
            return self.prompt[:-1]
        return self.prompt if self.system is None else self.conversation()

    def prompt_text(self) -> str:
        """The prompt as one string, for overlap checks and for people."""
        if isinstance(self.prompt, str) and self.system is None:
            return self.prompt
        return "\n\n".join(map(spoken, self.conversation()))


@dataclass(frozen=True, slots=True)
class GradeError:
    """Why a grade failed: `kind` is one of raised, timeout, died, bad_value; `trace` is for people."""

    kind: str
    message: str
    trace: str = ""


class TokenUse(NamedTuple):
    """Tokens that a judge read and wrote."""

    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader said of one completion.

    graded: `reward` is a finite number (0 included). skipped: the scorer returned None. failed: `error` says why.
    A skipped or failed grade has no reward: it is masked out, never counted as 0. `usage` has each judge model that was
    asked for it: no tokens where the verdict came from the cache, None if the endpoint does not say.
    """

    status: GradeStatus
    reward: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    error: GradeError | None = None
    seconds: float = 0.0
    usage: Mapping[str, TokenUse | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The `grade` object that `rft grade` adds to a line."""
        error = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        return {
            "status": self.status,
            "reward": self.reward,
            "components": dict(self.components),
            "error": error,
        }


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """One completion to grade: its text, the data row, what is known of its generation, and what was asked.

    `prompt` is None if nobody looked; `token_ids` are the completion's, None where there were none.
    `place` is the row's, where it is known.
    """

    completion: str
    fields: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | Sequence[Message] | None = None
    token_ids: Sequence[int] | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over rows with its 95 % interval (bootstrap over rows); `n` rows had a graded completion."""

    mean: float
    ci95: tuple[float, float]
    n: int

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "ci95": list(self.ci95), "n": self.n}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same rows before and after: `difference` is the paired one."""

    before: Estimate
    after: Estimate
    difference: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "difference": self.difference.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion of one row, graded: what validation files and reports are made of.

    `row` is the index into the data file's examples, `tokens` the completion length with EOS, `truncated` says
    that it hit the length limit before EOS. `guard` is the second grader's grade, None where there is none. `version`:
    the weights that an engine sampled from, None where the trainer's own model did.
    """

    row: int
    example_id: str
    prompt: str
    completion: str
    tokens: int
    truncated: bool
    grade: Grade
    guard: Grade | None = None
    version: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of a rollouts or validation file. Its grade also has `seconds`, and a failed one its traceback."""
        return {
            "row": self.row,
            "id": self.example_id,
            "prompt": self.prompt,
            "completion": self.completion,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "grade": _stored(self.grade),
            **({} if self.guard is None else {"guard": _stored(self.guard)}),
            **({} if self.version is None else {"version": self.version}),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Sample:
        guard = row.get("guard")
        return cls(
            row=row["row"],
            example_id=row["id"],
            prompt=row["prompt"],
            completion=row["completion"],
            tokens=row["tokens"],
            truncated=row["truncated"],
            grade=_read(row["grade"]),
            guard=None if guard is None else _read(guard),
            version=row.get("version"),
        )


def _stored(grade: Grade) -> dict[str, Any]:
    stored = {**grade.to_json(), "seconds": grade.seconds}
    if grade.error is not None:
        stored["error"]["trace"] = grade.error.trace
    return stored


def _read(grade: Mapping[str, Any]) -> Grade:
    error = grade.get("error")
    return Grade(
        status=grade["status"],
        reward=grade["reward"],
        components=grade["components"],
        error=None if error is None else GradeError(error["kind"], error["message"], error.get("trace", "")),
        seconds=grade.get("seconds", 0.0),
    )
