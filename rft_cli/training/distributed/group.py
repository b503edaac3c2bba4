"""The group of processes that train together: how to join, agree and leave."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from rft_cli.stopping import Stop
from rft_cli.training.distributed.channel import error_from_json, error_to_json

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
    """Leave the group; without this, processes were seen to abort at exit."""
    if _are_several():
        dist.destroy_process_group()


def stop_asked(stop: Stop) -> int | None:
    """The signal that any process was asked to stop by; all processes call this together and get the same."""
    if not _are_several():
        return stop.number
    number = torch.tensor(stop.number or 0, device=PartialState().device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number) or None


def from_main(work: Callable[[], T]) -> T:
    """What `work` returns in process 0, which alone calls it, for all; what it raises is raised in all.

    All processes must call this.
    """
    if not _are_several():
        return work()
    own: Exception | None = None
    shared: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            shared[0] = work()
        except Exception as error:
            own, shared[1] = error, error_to_json(error, 0)
    broadcast_object_list(shared)
    if shared[1] is not None:
        raise own or error_from_json(shared[1])
    return cast(T, shared[0])


def agreed(work: Callable[[], T]) -> T:
    """What `work` returns here. Where it raises in any process, every process raises the first one's error.

    So no process waits in a collective that the others never reach. All processes must call it.
    """
    if not _are_several():
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


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized()
