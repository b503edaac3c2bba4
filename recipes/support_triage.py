"""Support messages with a known triage record: the sample task of rft.

`make_ticket` draws one message from a pool of phrases together with the record that a support team would want
for it. The sample data uses it with fixed seeds, the pretraining text of the demonstration model with others.
"""

import json
import random
import re
from dataclasses import dataclass, replace

from recipes.triage_held_out import HELD_OUT
from recipes.triage_phrases import PRIORITIES, SHARED, TEAMS, Pool

TASK = "Triage this support message. Reply with JSON: team, priority, order."
MAX_WORDS = 34
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_QUESTIONS = ("Can", "Could", "Does", "Has", "How", "Is ", "What", "When", "Where", "Why")
_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ren",
    "ta",
    "vo",
    "sel",
    "dra",
    "ni",
    "bu",
    "fen",
    "gor",
    "hal",
    "ju",
    "pax",
    "zi",
)


@dataclass(frozen=True)
class Ticket:
    """A message and what is true of it."""

    message: str
    team: str
    priority: str
    order: str | None
    name: str | None

    def record(self) -> str:
        """The reference completion."""
        return json.dumps({"team": self.team, "priority": self.priority, "order": self.order})

    def row(self) -> dict[str, str]:
        """The line of the sample data."""
        return {"task": TASK, "input": self.message, "output": self.record()}


def choose(rng: random.Random, template: str) -> str:
    """Resolve every `[a|b]` of the template by a fair draw."""
    while match := _CHOICE.search(template):
        template = template[: match.start()] + rng.choice(match[1].split("|")) + template[match.end() :]
    return template


def invented(rng: random.Random) -> str:
    """A name that nobody has: keeps the model from depending on names it has seen."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()


def mixed_pool(rng: random.Random) -> Pool:
    """Shared and held-out phrases, part by part; the issue or the cue is always a held-out one."""
    parts = ("cues", "order_inline", "order_sentences", "openers", "sign_offs")
    held = {part: rng.random() < 0.5 for part in parts}
    pool = replace(HELD_OUT, **{part: getattr(SHARED, part) for part, is_held in held.items() if not is_held})
    return replace(pool, issues=SHARED.issues) if held["cues"] and rng.random() < 0.5 else pool


def make_ticket(
    rng: random.Random, pool: Pool, team: str, priority: str, *, with_order: bool, invent: float = 0.0
) -> Ticket:
    """Draw a message for the given labels; `invent` is the share of made-up names and brands."""
    while True:
        ticket = _draw(rng, pool, team, priority, with_order, invent)
        if len(ticket.message.split()) <= MAX_WORDS:
            return ticket


def _draw(
    rng: random.Random, pool: Pool, team: str, priority: str, with_order: bool, invent: float
) -> Ticket:
    order = f"{rng.randint(10000, 99999)}" if with_order else None
    name = invented(rng) if rng.random() < invent else rng.choice(pool.names)
    issue = choose(rng, rng.choice(pool.issues[team]))
    if issue.startswith(_QUESTIONS):
        issue = issue[:-1] + "?"
    parts = _with_order(rng, pool, issue, order)
    gadget = rng.choice(pool.gadgets)
    good = rng.choice((*pool.goods, gadget))
    if rng.random() < invent:
        gadget, good = invented(rng).lower(), invented(rng).lower()
    elif rng.random() < invent:
        brand = invented(rng)
        gadget, good = f"{brand} {gadget}", f"{brand} {good}"
    cue = choose(rng, rng.choice(pool.cues[priority]))
    if cue:
        parts.insert(rng.choice((0, 1, len(parts), len(parts))), cue)
    opener = rng.choice(pool.openers)
    if opener.endswith(", ") and not parts[0].startswith(("I ", "I'")):
        parts[0] = parts[0][0].lower() + parts[0][1:]
    signed = "{name}" not in opener and rng.choice((True, False))
    text = opener + " ".join([*parts, rng.choice(pool.sign_offs) if signed else ""])
    for slot, value in (("{p}", good), ("{g}", gadget), ("{name}", name), ("{n}", order or "")):
        text = text.replace(slot, value)
    text = text.replace("{d}", str(rng.randint(2, 29)))
    text = re.sub(r" +([.?,])", r"\1", re.sub(r" {2,}", " ", text)).strip()
    return Ticket(text, team, priority, order, name if name in text else None)


def _with_order(rng: random.Random, pool: Pool, issue: str, order: str | None) -> list[str]:
    """The issue and, when there is an order, its number in the sentence or in one of its own."""
    inline = "{of}" in issue or "{ref}" in issue
    mention = ""
    if order and inline and rng.random() < 0.55:
        mention = choose(rng, rng.choice(pool.order_inline))
        if "{of}" in issue and rng.random() < 0.5:
            mention = rng.choice((" for order {n}", " from order {n}", " of order #{n}"))
    sentence = issue.replace("{of}", mention).replace("{ref}", mention)
    if not order or mention:
        return [sentence]
    own = choose(rng, rng.choice(pool.order_sentences))
    return [sentence, own] if rng.random() < 0.8 else [own, sentence]


def balanced_tickets(seed: int, count: int, *, held_out: bool, taken: set[str]) -> list[Ticket]:
    """`count` tickets, labels in equal shares, one in five without an order; nothing of `taken` occurs."""
    rng = random.Random(seed)
    labels = [(team, priority) for team in TEAMS for priority in PRIORITIES]
    tickets: list[Ticket] = []
    while len(tickets) < count:
        team, priority = labels[len(tickets) % len(labels)]
        pool = mixed_pool(rng) if held_out else SHARED
        ticket = make_ticket(rng, pool, team, priority, with_order=len(tickets) % 5 != 4)
        if taken.isdisjoint({ticket.message, ticket.order or ticket.message}):
            taken.update({ticket.message, *([ticket.order] if ticket.order else [])})
            tickets.append(ticket)
    rng.shuffle(tickets)
    return tickets


def sample_splits() -> dict[str, list[Ticket]]:
    """The rows of `sample_data/`, always the same."""
    taken: set[str] = set()
    return {
        "train": balanced_tickets(11, 48, held_out=False, taken=taken),
        "val": balanced_tickets(12, 200, held_out=True, taken=taken),
        "test": balanced_tickets(13, 240, held_out=True, taken=taken),
    }


def pretraining_ticket(rng: random.Random, banned: set[str]) -> Ticket:
    """A random ticket of the shared phrases whose message is in no file of the sample data."""
    while True:
        ticket = make_ticket(
            rng, SHARED, rng.choice(TEAMS), rng.choice(PRIORITIES), with_order=rng.random() < 0.8, invent=0.25
        )
        if ticket.message not in banned:
            return ticket


def inputs(splits: dict[str, list[Ticket]] | None = None) -> set[str]:
    """Every message of the sample data: what the pretraining text must not contain."""
    return {ticket.message for tickets in (splits or sample_splits()).values() for ticket in tickets}
