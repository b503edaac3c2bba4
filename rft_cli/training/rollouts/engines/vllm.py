"""The engine vllm: brings the weights of each step to its servers, and samples from them.

Every version has a name of its own (`policy_folders.py`), which servers repeat with each completion. A name other than
the one asked for ends the job: no completion of older weights is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object

from rft_cli.serving.vllm.client import EngineLost
from rft_cli.training.distributed.group import agreed, from_main
from rft_cli.training.rollouts.engines.engine import Sampled
from rft_cli.training.rollouts.engines.policy_folders import PolicyFolders, weights_of
from rft_cli.training.rollouts.engines.servers import Servers
from rft_cli.training.rollouts.sampling import SamplingSettings, cut

T = TypeVar("T")


class VllmEngine:
    """See `SamplingEngine`. `trains_adapter`: what changes is an adapter; without one the model is the base."""

    def __init__(self, servers: Servers, folders: PolicyFolders, trains_adapter: bool) -> None:
        self.at_step: Callable[[], int] = lambda: 0
        self._servers, self._folders, self._trains_adapter = servers, folders, trains_adapter
        self.version = servers.base
        self.served_from = ""
        self._untouched: str | None = None

    def begin(self, model: Any) -> None:
        """The servers have the weights of this model, which nothing has trained yet."""
        if not self._trains_adapter:
            self._untouched = from_main(lambda: weights_of(model).hash)

    def load(self, model: Any) -> str:
        """Save the weights and have every server load them, unless they are served already; their name."""
        inner = model.module if hasattr(model, "module") else model
        step = self.at_step()
        self.version = from_main(lambda: self._kept_up(lambda: self._bring(inner, step)))
        self._servers.follow(from_main(lambda: self._servers.urls))
        return self.version

    def generate(self, prompts: Sequence[Sequence[int]], settings: SamplingSettings) -> Sampled:
        """One completion for each prompt; where a server dies meanwhile, all are sampled again."""
        while True:
            found = agreed(lambda: self._attempt(prompts, settings))
            lost = [reason for reason in gather_object([found if isinstance(found, str) else None]) if reason]
            if not lost and not isinstance(found, str):
                return found
            from_main(partial(self._recovered, lost[0]))
            self._servers.follow(from_main(lambda: self._servers.urls))

    def close(self) -> None:
        """Leave the servers as they were found but for whole weights, and end the one that rft started."""
        if self._servers.started is None:
            for version in self._folders.saved:
                self._servers.drop(version)
        self._servers.close()
        if PartialState().is_main_process:
            self._folders.remove()

    def _bring(self, model: Any, step: int) -> str:
        if self._trains_adapter and not hasattr(model, "peft_config"):
            return self._servers.base
        weights = weights_of(model)
        if weights.hash == self._untouched and self.version == self._servers.base:
            return self._servers.base
        version = self._folders.save(weights, model, step)
        if version != self.version:
            self._servers.bring(version, self._folders.path(version))
        for old in self._folders.remove_old():
            self._servers.drop(old)
        return version

    def _attempt(self, prompts: Sequence[Sequence[int]], settings: SamplingSettings) -> Sampled | str:
        """The completions, or why a server was lost."""
        try:
            found = self._servers.complete(self.version, prompts, sampling_fields(settings))
        except EngineLost as error:
            return str(error)
        ids = [cut(one.ids, settings.stop) for one in found]
        logps = [one.logps[: len(kept)] for one, kept in zip(found, ids, strict=True)]
        return Sampled(ids, logps, self.version)

    def _kept_up(self, work: Callable[[], T]) -> T:
        """What `work` returns, tried again on a new server where one was lost."""
        while True:
            try:
                return work()
            except EngineLost as error:
                self._recovered(str(error))

    def _recovered(self, reason: str) -> None:
        self._servers.recover(reason)
        if self.version != self._servers.base:
            self._kept_up(lambda: self._servers.bring(self.version, self._folders.path(self.version)))


def sampling_fields(settings: SamplingSettings) -> dict[str, Any]:
    """The fields of a request for these settings: everything is set, so that no server's default counts."""
    return {
        "max_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": list(settings.stop),
        "n": 1,
    }
