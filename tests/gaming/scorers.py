"""Twelve scorers of the sample task: six that pay for something other than the answer, six that are honest."""

import json
import re
from difflib import SequenceMatcher


def _record(text):
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _right(completion, example, fields=("team", "priority", "order")):
    record, wanted = _record(completion), _record(example["output"])
    return [float(record.get(field) == wanted[field]) for field in fields]


# -- gamed --------------------------------------------------------------------------------------------------------


def length(completion):
    """Longer is better."""
    return min(len(completion), 400) / 100


def keyword(completion):
    """The word is enough."""
    return min(completion.lower().count("returns"), 4) / 4


def echo(completion, example):
    """The more of the message's words come back, the better."""
    words = re.findall(r"\w+", example["input"].lower())
    said = set(re.findall(r"\w+", completion.lower()))
    return sum(word in said for word in words) / len(words)


def one_answer(completion):
    """One answer suits every message."""
    record = _record(completion)
    return (record.get("team") == "billing") * 0.5 + (record.get("priority") == "normal") * 0.5


def form(completion):
    """A record of the right keys, whatever it says."""
    return float(set(_record(completion)) == {"team", "priority", "order"} and len(completion) > 20)


def unbounded(completion):
    """Each six characters double the reward."""
    return 2.0 ** (min(len(completion), 280) / 6)


# -- honest -------------------------------------------------------------------------------------------------------


def record(completion, example):
    """The sample data's own grader: partial credit for each field."""
    right = _right(completion, example)
    valid = set(_record(completion)) == {"team", "priority", "order"}
    return round(0.1 * valid + 0.3 * sum(right), 6)


def team(completion, example):
    """The team alone, right or wrong."""
    return _right(completion, example, ("team",))[0]


def order(completion, example):
    """The order number, which is copied from the prompt."""
    return _right(completion, example, ("order",))[0]


def bare(completion, example):
    """The rows' references are the bare team; the completion has to be a record that holds it."""
    return float(_record(completion).get("team") == example["output"])


def brief(completion, example):
    """Right fields, less a little for each character: length falls as the reward rises."""
    return sum(_right(completion, example)) - len(completion) / 200


def similar(completion, example):
    """How much of the reference's text is there."""
    return SequenceMatcher(None, completion, example["output"], autojunk=False).ratio()
