"""The group of processes that train together: joined with a deadline, agreed in, left in order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from rft_cli.training.channel import error_from_json, error_to_json

T = TypeVar("T")


def join(timeout_s: float) -> PartialState:
    """This process's place in the group; a collective that takes longer than `timeout_s` raises in each process.

    The first call decides: transformers makes a state of its own later, but keeps the group (and sets no deadline of
    its own on CPUs, where torch's 30 minutes would hold).
    """
    if dist.is_initialized():
        return PartialState()
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=timeout_s))


def leave() -> None:
    """Leave the others in order: without it an abort at exit was seen."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def agreed(work: Callable[[], T]) -> T:
    """What `work` returns here. Where it raises in any process, every process raises the first one's error.

    So nobody goes on into a collective that the others never reach. All processes must call it.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return work()
    found: list[T] = []
    own: Exception | None = None
    try:
        found.append(work())
    except Exception as error:
        own = error
    failure = None if own is None else error_to_json(own, dist.get_rank())
    failures: list[dict[str, Any] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(failures, failure)
    first = next((f for f in failures if f is not None), None)
    if first is None:
        return found[0]
    raise own or error_from_json(first)
