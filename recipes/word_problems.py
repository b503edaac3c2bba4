"""Short word problems with a worked solution: a second task, to check that rft is not tuned to the first one.

Rows have GSM8K's format: {"question": …, "answer": "12 + 7 = 19\\n#### 19"}. One or two additions or subtractions,
all numbers from 0 to 99.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from recipes.dialogue import Dialogue

STYLES = {"worked": 0.38, "worked_unmarked": 0.17, "sentence": 0.35, "short": 0.10}
LARGEST_CHANGE = 12
_NAMES = (
    "Ana",
    "Bill",
    "Cora",
    "Dan",
    "Eva",
    "Finn",
    "Gina",
    "Hal",
    "Ida",
    "Jack",
    "Kim",
    "Leo",
    "Mona",
    "Ned",
    "Olga",
)
_THINGS = (
    "apples",
    "pens",
    "books",
    "coins",
    "cards",
    "shells",
    "stamps",
    "eggs",
    "balls",
    "cups",
    "stones",
    "pears",
)
# Each clause is (sentence with the amount as {a}, sign of the change).
_STARTS = (
    "{N} has {a} {t}.",
    "{N} owns {a} {t}.",
    "There are {a} {t} in {N}'s box.",
    "{N} starts with {a} {t}.",
)
_GAINS = (
    "{N} buys {a} more.",
    "A friend brings {a} {t}.",
    "{N} finds {a} {t}.",
    "{N} gets {a} more from {M}.",
    "Then {M} adds {a} {t}.",
)
_LOSSES = (
    "{N} gives {a} to {M}.",
    "{N} loses {a} {t}.",
    "{M} takes {a} {t} away.",
    "{N} sells {a} of them.",
    "Then {a} {t} break.",
)
_QUESTIONS = (
    "How many {t} are there now?",
    "How many {t} are left in the end?",
    "How many {t} does {N} have now?",
)


@dataclass(frozen=True)
class Problem:
    """A question, its first number and the signed changes."""

    question: str
    start: int
    changes: tuple[int, ...]

    @property
    def result(self) -> int:
        """The number that is asked for."""
        return self.start + sum(self.changes)

    def row(self) -> dict[str, str]:
        """The line of the data file."""
        return {
            "question": self.question,
            "answer": f"{working(self.start, self.changes)}\n#### {self.result}",
        }


def working(start: int, changes: tuple[int, ...]) -> str:
    """The calculation, one line a step."""
    lines: list[str] = []
    for change in changes:
        after = start + change
        lines.append(f"{start} {'+' if change >= 0 else '-'} {abs(change)} = {after}")
        start = after
    return "\n".join(lines)


def make_problem(rng: random.Random) -> Problem:
    """A random problem, two in five with two steps."""
    name, other = rng.sample(_NAMES, 2)
    thing = rng.choice(_THINGS)
    start = rng.randint(5, 40)
    sentences = [rng.choice(_STARTS).replace("{a}", str(start))]
    changes: list[int] = []
    for _ in range(rng.choices((1, 2), (3, 2))[0]):
        total = start + sum(changes)
        gain = rng.random() < 0.5 or total < 3
        amount = (
            rng.randint(2, min(LARGEST_CHANGE, 99 - total))
            if gain and total < 97
            else rng.randint(1, min(LARGEST_CHANGE, total))
        )
        gain = gain and total < 97
        sentences.append(rng.choice(_GAINS if gain else _LOSSES).replace("{a}", str(amount)))
        changes.append(amount if gain else -amount)
    text = " ".join([*sentences, rng.choice(_QUESTIONS)])
    return Problem(
        text.replace("{N}", name).replace("{M}", other).replace("{t}", thing), start, tuple(changes)
    )


def splits() -> dict[str, list[Problem]]:
    """Training, validation and test problems, always the same; no question occurs twice."""
    rng = random.Random(21)
    seen: set[str] = set()
    problems: list[Problem] = []
    while len(problems) < 504:
        problem = make_problem(rng)
        if problem.question not in seen:
            seen.add(problem.question)
            problems.append(problem)
    return {"train": problems[:64], "val": problems[64:264], "test": problems[264:]}


def noisy(rng: random.Random, problem: Problem, noise: float) -> tuple[int, ...]:
    """The changes as a careless writer reads them: sometimes a sign is wrong, sometimes an amount is off."""
    changes = list(problem.changes)
    if rng.random() < noise:
        index = rng.randrange(len(changes))
        changes[index] = rng.choice((-changes[index], changes[index] + rng.choice((-2, -1, 1, 2, 10))))
    totals = list(itertools.accumulate(changes, initial=problem.start))
    return tuple(changes) if min(totals) >= 0 and max(totals) <= 99 else problem.changes


def completion(rng: random.Random, problem: Problem, noise: float) -> str:
    """A completion in a random style; at low noise mostly the worked one: calculating is learned first."""
    changes = noisy(rng, problem, 0.3 * noise)
    result = problem.start + sum(changes)
    style = rng.choices(list(STYLES), weights=list(STYLES.values()))[0] if rng.random() < noise else "worked"
    if style == "worked":
        return f"{working(problem.start, changes)}\n#### {result}"
    if style == "worked_unmarked":
        return f"{working(problem.start, changes)}\n{rng.choice(('The answer is', 'So it is'))} {result}."
    if style == "sentence":
        return f"{rng.choice(('The answer is', 'The result is'))} {result}."
    return f"#### {result}"


def dialogues(seed: int, banned: set[str], noise: float) -> Iterator[Dialogue]:
    """An endless stream of pretraining dialogues, noise from 0 to 1; no question in `banned` occurs."""
    rng = random.Random(seed)
    while True:
        problem = make_problem(rng)
        if problem.question in banned:
            continue
        if rng.random() < 0.25:  # bare sums: practice in calculating
            yield Dialogue(
                f"Calculate:\n{working(problem.start, problem.changes).split('=')[0]}=",
                str(problem.start + problem.changes[0]),
            )
        else:
            yield Dialogue(problem.question, completion(rng, problem, noise))
