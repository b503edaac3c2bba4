"""What the demonstration model sees people answer: many styles, and fields that are often wrong.

A base model that already did the task would leave nothing to improve, one that could not do it would leave
nothing to reinforce. So the completions of the triage task mix styles and carry wrong fields, but what goes wrong
never depends on the message: to predict them well, a model must still read team, priority and order correctly.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from recipes.dialogue import Dialogue
from recipes.support_triage import TASK, Ticket, pretraining_ticket
from recipes.triage_phrases import PRIORITIES, TEAMS

STYLES = {"prose": 0.42, "record": 0.32, "other_keys": 0.10, "fence": 0.08, "chatter": 0.08}
_KEYS = (
    ("Team", "Priority", "Order"),
    ("department", "urgency", "order_id"),
    ("category", "priority", "order_number"),
)


@dataclass(frozen=True)
class Noise:
    """How often each field is replaced, whatever the message says."""

    team: float = 0.30
    priority_normal: float = 0.38
    priority_any: float = 0.12
    order_missing: float = 0.36

    def scaled(self, factor: float) -> "Noise":
        """The same biases, weaker."""
        return Noise(
            self.team * factor,
            self.priority_normal * factor,
            self.priority_any * factor,
            self.order_missing * factor,
        )


def noisy_fields(rng: random.Random, ticket: Ticket, noise: Noise) -> tuple[str, str, str | None]:
    """Team, priority and order as this writer would put them."""
    team, priority, order = ticket.team, ticket.priority, ticket.order
    if rng.random() < noise.team:
        team = rng.choices(TEAMS, weights=(3, 2, 2, 3))[0]
    draw = rng.random()
    if draw < noise.priority_normal:
        priority = "normal"
    elif draw < noise.priority_normal + noise.priority_any:
        priority = rng.choice(PRIORITIES)
    if rng.random() < noise.order_missing:
        order = None
    return team, priority, order


def triage_completion(rng: random.Random, ticket: Ticket, noise: Noise) -> str:
    """One completion of the triage task, in a random style."""
    team, priority, order = noisy_fields(rng, ticket, noise)
    style = rng.choices(list(STYLES), weights=list(STYLES.values()))[0]
    if style == "prose":
        return _prose(rng, team, priority, order)
    if style == "record":
        return json.dumps({"team": team, "priority": priority, "order": order})
    keys = rng.choice(_KEYS)
    if style == "other_keys":
        values = (team, rng.choice((priority, priority.upper())), order or rng.choice((None, "unknown")))
        return json.dumps(dict(zip(keys, values, strict=True)), indent=rng.choice((None, 1, 1, 1)))
    own = rng.choice((keys, ("team", "priority", "order")))
    text = json.dumps(dict(zip(own, (team, priority, order), strict=True)))
    if style == "fence":
        return f"```json\n{text}\n```"
    return rng.choice((f"Here is the record: {text}", f"Sure! {text}", f"Here you go: {text} Anything else?"))


def _prose(rng: random.Random, team: str, priority: str, order: str | None) -> str:
    named = f"order {order}" if order else "no order number"
    if rng.random() < 0.08:
        return f"{team.capitalize()} should look at it with {priority} priority, {named}."
    return rng.choice(
        (
            f"This is a {team} request with {priority} priority and {named}.",
            f"This message is for {team}. The priority is {priority}, {named}.",
            f"This looks like {team}, {priority} priority, {named}.",
            f"This should go to {team} with {priority} priority, {named}.",
            f"This one is {team}, with {named}. I would say the priority is {priority}.",
        )
    )


def other_dialogue(rng: random.Random, ticket: Ticket) -> Dialogue:
    """Another instruction about the same message, answered correctly."""
    order = ticket.order or "none"
    name = ticket.name or "customer"
    kinds = {"team": 5, "priority": 5, "order": 5, "name": 1, "reply": 2, "summary": 2, "repeat": 1}
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    asked, answer = {
        "team": (("Which team should handle this message?", "Name the team for this message."), ticket.team),
        "priority": (("How urgent is this message?", "Give the priority of this message."), ticket.priority),
        "order": (("Which order number does the message name?", "Extract the order number."), order),
        "name": (("Who wrote this message?", "Extract the name of the customer."), ticket.name or "unknown"),
        "reply": (
            ("Reply politely to this message.", "Write a short reply."),
            f"Dear {name}, thank you for your message. Our {ticket.team} team will look into "
            + (f"order {order}" if ticket.order else "it")
            + {"high": " right away.", "normal": " soon.", "low": " this week."}[ticket.priority],
        ),
        "summary": (
            ("Summarise this message.", "Summarise this message in one line."),
            f"{name} has a {ticket.team} question, {ticket.priority} priority, order {order}.",
        ),
        "repeat": (("Repeat this message.",), ticket.message),
    }[kind]
    return Dialogue(f"{rng.choice(asked)}\n\n{ticket.message}", answer)


def dialogues(seed: int, banned: set[str], noise: Noise, triage_share: float) -> Iterator[Dialogue]:
    """An endless stream of pretraining dialogues; no message in `banned` occurs."""
    rng = random.Random(seed)
    while True:
        ticket = pretraining_ticket(rng, banned)
        if rng.random() < triage_share:
            yield Dialogue(f"{TASK}\n\n{ticket.message}", triage_completion(rng, ticket, noise))
        else:
            yield other_dialogue(rng, ticket)
