"""Dropout and router jitter of a policy: off while it trains, back in the configuration that is saved.

With dropout, a pass that trains scores other log-probabilities than the pass that sampled, and PPO's ratio is noise.
Many models read their rates once, when they are built, and hand them to functions: so the configuration is changed
before the model is built, not its modules after.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PretrainedConfig

_RATE = re.compile("drop|jitter")
_OWN = "_rft_own_rates"

Rates = dict[tuple[str, ...], float]
"""Fields of a configuration by their path through nested ones, and what they say."""


def without_dropout(config: Any) -> Any:
    """A copy in which every rate of dropout, layer drop and jitter is 0, in nested configurations too."""
    changed = copy.deepcopy(config)
    _write(changed, _zeros(rates_of(changed)))
    return changed


def remember_rates(model: Any, config: Any) -> None:
    """Keep what the checkpoint's `config` says beside the model that was built without dropout, for `own_rates`."""
    # Of a multimodal checkpoint transformers may have built the text part alone.
    built = config if type(config) is type(model.config) else config.get_text_config()
    setattr(model, _OWN, rates_of(built))


@contextmanager
def own_rates(model: Any) -> Iterator[None]:
    """While open, the configuration of `model` has its checkpoint's rates: what is saved then is its own."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    own: Rates = getattr(inner, _OWN, {})
    _write(inner.config, own)
    try:
        yield
    finally:
        _write(inner.config, _zeros(own))


def rates_of(config: Any) -> Rates:
    """Every rate that is not 0."""
    found: Rates = {}
    for name, value in (config if isinstance(config, dict) else vars(config)).items():
        if isinstance(value, PretrainedConfig | dict):
            found |= {(name, *path): rate for path, rate in rates_of(value).items()}
        elif _RATE.search(str(name)) and type(value) in (int, float) and value != 0:
            found[name,] = value
    return found


def _zeros(rates: Rates) -> Rates:
    return {path: type(value)(0) for path, value in rates.items()}  # some fields take integers only


def _write(config: Any, rates: Rates) -> None:
    for path, value in rates.items():
        part = config
        for name in path[:-1]:
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        if isinstance(part, dict):
            part[path[-1]] = value
        else:
            setattr(part, path[-1], value)
