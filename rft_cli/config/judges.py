"""The settings of `grader.judge`: URLs, model names, prices, and their problems.

Nothing here repeats a value that may be a secret: a key pasted in place of a variable's name, or a URL with a password.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from rft_cli.config.schema import JudgeConfig

NONE = "none"
"""The word for no key and for no cache."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens: `input` those read, `output` those written."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class JudgeProblem:
    """A setting of `grader.judge` that can't be used: its name without the section, what is wrong, what to do."""

    key: str
    message: str
    fix: str


def url_problem(url: str) -> str | None:
    """Why `url` is not an endpoint, or None. The text never repeats the URL, which may hold a password."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port != 0
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        return "must begin with http:// or https:// and name a host"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "must hold no user name, password, query or fragment: settings are stored"
    return None


def asked_model(judge: JudgeConfig, named: str) -> str:
    """The model that is asked where a spec names `named`."""
    names = _model_map(judge)
    return names.get(named) or names.get("") or named


def price_table(judge: JudgeConfig) -> Mapping[str, Price]:
    """The price of each model that has one. ValueError for an entry that can't be read."""
    return dict(map(_price, judge.prices))


def judge_problems(judge: JudgeConfig) -> Iterator[JudgeProblem]:
    """Everything that is wrong with the section."""
    wrong_url = None if judge.base_url is None else url_problem(judge.base_url)
    if wrong_url is not None:
        fix = "write the address alone, for example http://127.0.0.1:8000/v1"
        yield JudgeProblem("base_url", wrong_url, fix)
    if not _VARIABLE.fullmatch(judge.api_key_env):
        fix = "write a name such as OPENAI_API_KEY, and put the key into that variable; or none"
        yield JudgeProblem("api_key_env", "must be the name of an environment variable, not the key", fix)
    lone = [entry for entry in _entries(judge) if "=" not in entry]
    if len(lone) > 1 or any(not part.strip() for entry in _entries(judge) for part in entry.split("=", 1)):
        fix = "write one NAME for all, or NAMED=ASKED for each model"
        yield JudgeProblem("model", "must be one model's name, or pairs of names", fix)
    for entry in judge.prices:
        try:
            _price(entry)
        except ValueError:
            fix = "write MODEL=INPUT/OUTPUT in US dollars for a million tokens, for example gpt-4o=2.5/10"
            yield JudgeProblem("prices", f"'{entry}' is not a price", fix)
    if judge.max_cost is not None and not judge.prices:
        fix = "set grader.judge.prices, or limit grader.judge.max_tokens instead"
        yield JudgeProblem("max_cost", "can't be kept without prices", fix)


def _entries(judge: JudgeConfig) -> list[str]:
    if judge.model is None:
        return []
    return [judge.model] if isinstance(judge.model, str) else judge.model


def _model_map(judge: JudgeConfig) -> dict[str, str]:
    """The model to ask for each named model; the empty name means all."""
    pairs = [entry.partition("=") for entry in _entries(judge)]
    return {
        named.strip() if equals else "": (asked if equals else named).strip()
        for named, equals, asked in pairs
    }


def _price(entry: str) -> tuple[str, Price]:
    model, equals, both = entry.rpartition("=")
    read, slash, written = both.partition("/")
    price = Price(float(read), float(written))
    if not model.strip() or not equals or not slash:
        raise ValueError(entry)
    if not all(math.isfinite(part) and part >= 0 for part in (price.input, price.output)):
        raise ValueError(entry)
    return model.strip(), price
