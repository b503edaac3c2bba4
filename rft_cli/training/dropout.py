"""Turns dropout and router noise off while a policy trains, as in evaluation.

With either, a pass that trains scores other log-probabilities than the pass that sampled, and PPO's ratio is noise.
Many models read their dropout rates once, when they are built, and hand them to functions: so the configuration is
changed before the model is built, and restored where it is saved. A router's jitter is different: PhiMoE's decides
which experts count in evaluation too, so routers that have one stay in evaluation mode.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from transformers import PretrainedConfig

_OWN = "_rft_own_rates"

Rates = dict[tuple[str, ...], float]
"""Fields of a configuration by their path through nested ones, and their values."""


def without_dropout(config: Any) -> Any:
    """A copy in which every rate of dropout and layer drop is 0, in nested configurations too."""
    changed = copy.deepcopy(config)
    _write(changed, _zeros(rates_of(changed)))
    return changed


def remember_rates(model: Any, config: Any) -> None:
    """Store the rates of the checkpoint's `config` on the model that was built without dropout, for `own_rates`."""
    # Of a multimodal checkpoint transformers may have built the text part alone.
    built = config if type(config) is type(model.config) else config.get_text_config()
    setattr(model, _OWN, rates_of(built))


def quiet_routers(model: Any) -> None:
    """Keep the modules that have a jitter in evaluation mode, whatever the model around them is set to."""
    for module in model.modules():
        if any("jitter" in name for name in vars(module)):
            module.eval()
            module.train = partial(_stay, module)


def _stay(module: Any, mode: bool = True) -> Any:
    return module


@contextmanager
def own_rates(model: Any) -> Iterator[None]:
    """While open, the configuration of `model` has its checkpoint's rates, to be saved with them."""
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
        elif "drop" in str(name) and type(value) in (int, float) and value != 0:
            found[name,] = value
    return found


def _zeros(rates: Rates) -> Rates:
    # Some fields take integers only.
    return {path: type(value)(0) for path, value in rates.items()}


def _write(config: Any, rates: Rates) -> None:
    for path, value in rates.items():
        part = config
        for name in path[:-1]:
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        if isinstance(part, dict):
            part[path[-1]] = value
        else:
            setattr(part, path[-1], value)
