"""A chat template as text around each message, found by rendering it; and the same for Ollama.

Ollama does not run the template in a GGUF file: it has templates of its own, in Go's language. Most chat templates put
fixed text around every message; those can be written in both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Messages = Sequence[Mapping[str, str]]
Render = Callable[[Messages, bool], str]
"""Messages, and whether the assistant's next message begins after them."""

SYSTEM, USER, ASSISTANT, AGAIN = "Zqsys", "Zqone", "Zqtwo", "Zqthree"


@dataclass(frozen=True, slots=True)
class Turns:
    """What stands before and after each role's message. `opening`: in front of a conversation that has no system
    message; `reply`: where the assistant's next message begins."""

    around: Mapping[str, tuple[str, str]]
    opening: str
    reply: str

    def render(self, messages: Messages, reply: bool) -> str:
        """The conversation as the template would write it."""
        has_system = any(message["role"] == "system" for message in messages)
        parts = ["" if has_system else self.opening]
        for message in messages:
            before, after = self.around[message["role"]]
            parts += [before, message["content"], after]
        return "".join(parts) + (self.reply if reply else "")


def find_turns(render: Render, begin: str) -> Turns | None:
    """The template's fixed texts; None where it does more than put text around messages.

    `begin`: the token that the engine itself puts in front of every prompt, "" where it puts none.
    """
    user, system = {"role": "user", "content": USER}, {"role": "system", "content": SYSTEM}
    assistant, again = {"role": "assistant", "content": ASSISTANT}, {"role": "user", "content": AGAIN}
    try:
        one, reply = render([user], False), render([user], True)
        two, long = render([user, assistant], False), render([user, assistant, again], False)
        whole = render([system, user], False)
        head, after_user = one.split(USER)
        between = two.split(USER)[1].split(ASSISTANT)[0]
        after_assistant = two.split(ASSISTANT)[1]
        next_user = long.split(ASSISTANT)[1].split(AGAIN)[0]
        before_system, rest = whole.split(SYSTEM)
        after_system = rest.split(USER)[0]
    # A template may refuse a role, and raise anything.
    except Exception:
        return None
    before_user = next_user.removeprefix(after_assistant)
    if not (head.endswith(before_user) and after_system.endswith(before_user)):
        return None
    opening = head.removesuffix(before_user).removeprefix(begin)
    found = Turns(
        around={
            "system": (before_system.removeprefix(begin), after_system.removesuffix(before_user)),
            "user": (before_user, after_user),
            "assistant": (between.removeprefix(after_user), after_assistant),
        },
        opening=opening,
        reply=reply.removeprefix(one),
    )
    tried: list[Messages] = [
        [user],
        [system, user],
        [user, assistant, again],
        [system, user, assistant, again, assistant, user],
    ]
    same = all(begin + found.render(m, r) == render(m, r) for m in tried for r in (True, False))
    return found if same else None


def ollama_template(turns: Turns) -> str:
    """The same in Go's template language, each fixed text as a quoted string."""
    parts = ["{{- range .Messages }}"]
    if turns.opening:
        parts.insert(0, "{{- if not .System }}" + _quoted(turns.opening) + "{{ end }}")
    for number, (role, (before, after)) in enumerate(turns.around.items()):
        word = "if" if number == 0 else "else if"
        parts.append(
            f'{{{{- {word} eq .Role "{role}" }}}}{_quoted(before)}{{{{ .Content }}}}{_quoted(after)}'
        )
    parts += ["{{- end }}", "{{- end }}" + _quoted(turns.reply)]
    return "\n".join(parts)


def _quoted(text: str) -> str:
    """A fixed text as Go's template language has it; JSON's quotes are Go's too."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""
