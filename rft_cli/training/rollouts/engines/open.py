"""Opens the engine that a job's settings name: starts vLLM or checks the servers that run, and closes it in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rft_cli.config import RunConfig
from rft_cli.config.engines import endpoints
from rft_cli.config.judges import NONE
from rft_cli.config.launcher import sharding_in
from rft_cli.errors import RunFailed, UsageError
from rft_cli.events import Note, OnEvent
from rft_cli.runs import Run
from rft_cli.runs.model_source import find_model
from rft_cli.serving.vllm.checks import check_server, same_place
from rft_cli.serving.vllm.client import VllmClient
from rft_cli.serving.vllm.process import EngineNeeds, StartedVllm, program
from rft_cli.stopping import Stop, interruption
from rft_cli.training.auto import LengthLimits, generous_limit
from rft_cli.training.distributed.group import from_main
from rft_cli.training.generation_config import blank_generation_config
from rft_cli.training.rollouts.engines.causes import (
    CLEARLY,
    ROUNDING,
    Distances,
    bound_of,
    distance,
    likely_cause,
)
from rft_cli.training.rollouts.engines.policy_folders import PolicyFolders
from rft_cli.training.rollouts.engines.servers import EngineGone, Servers
from rft_cli.training.rollouts.engines.vllm import VllmEngine
from rft_cli.training.rollouts.sampling import SamplingSettings

FOLDER = "engine"
"""In a run's directory, while it trains: the weights that the engine loads."""
LOG = "engine.log"


@dataclass(frozen=True, slots=True)
class EngineJob:
    """What of a job decides which engine it gets. `compute`: the type of its matrix products."""

    config: RunConfig
    lora: bool
    compute: str
    device: str
    limits: LengthLimits
    run: Run
    emit: OnEvent
    stop: Stop

    @property
    def room(self) -> int:
        """The most tokens that a completion can get."""
        most = self.config.rollout.max_completion_tokens
        # The pilot's limit, or what may follow from it: twice the length of what it sees.
        wanted = 2 * generous_limit(self.device) if isinstance(most, str) else most
        return min(wanted, self.limits.room)

    def needs(self, place: str, revision: str | None) -> EngineNeeds:
        """What a server must have; `place`: where it finds the base model."""
        config = self.config
        return EngineNeeds(
            place=place,
            dtype=self.compute,
            context=self.limits.longest_prompt + self.room,
            rank=config.lora.r if self.lora else None,
            on_cpu=self.device == "cpu",
            revision=revision,
            trust_remote_code=config.model.trust_remote_code,
            seed=config.seed,
        )


def uses_engine(config: RunConfig) -> bool:
    """Whether a server samples this job's completions."""
    return config.rollout.engine == "vllm" and not config.teaches


def check_endpoints(job: EngineJob) -> None:
    """UsageError, before the model loads, where no server can be started, or one that runs can't do the job."""
    sharding = sharding_in(os.environ)
    if sharding is not None:
        raise UsageError(
            f"rollout.engine: vllm needs the weights whole in process 0, and {sharding.name} spreads them",
            "train with DDP, or with rollout.engine=transformers",
        )
    from_main(lambda: _checked(job))


def _checked(job: EngineJob) -> None:
    if not endpoints(job.config.rollout):
        program(job.config.rollout.vllm)
    for url in endpoints(job.config.rollout):
        client = _connect(job.config, url)
        check_server(client, job.needs("", None))
        client.close()


@contextmanager
def opened_engine(job: EngineJob, model: Any, tokenizer: Any) -> Iterator[VllmEngine]:
    """The engine with the base model's weights, ready to sample; all processes of the job call this.

    `model`: the base as it was loaded.
    """
    folders = PolicyFolders(job.run.path / FOLDER)
    servers = Servers(
        [], lambda url: _connect(job.config, url), base="", whole=not job.lora, on_note=job.emit
    )
    engine = VllmEngine(servers, folders, job.lora)
    try:
        urls, engine.version, place = from_main(lambda: _ready(job, servers, folders, model, tokenizer))
        servers.base = engine.version
        servers.follow(urls)
        engine.begin(model)
        engine.served_from = place
        yield engine
    finally:
        engine.close()


def _ready(
    job: EngineJob, servers: Servers, folders: PolicyFolders, model: Any, tokenizer: Any
) -> tuple[list[str], str, str]:
    """Servers that answer: their addresses, the base model's name in requests, and where they loaded it from."""
    where = endpoints(job.config.rollout)
    if where:
        servers.follow(where)
        job.emit(Note(f"rollouts by vLLM at {', '.join(where)}"))
    else:
        _start(job, servers, folders, model, tokenizer)
    found = [check_server(client, job.needs("", None)) for client in servers.clients]
    names = {served.name for served in found}
    if len(names) > 1:
        raise UsageError(
            f"rollout.endpoint: the servers name their model differently: {', '.join(sorted(names))}",
            "start all with the same --served-model-name",
        )
    return servers.urls, found[0].name, found[0].root


def _start(job: EngineJob, servers: Servers, folders: PolicyFolders, model: Any, tokenizer: Any) -> None:
    if job.device == "cpu" and not job.lora and model.config.get_text_config().tie_word_embeddings:
        # Seen with vLLM 0.32: its packed copy of the tied layer is not made anew when weights are reloaded.
        raise UsageError(
            f"rollout.engine: vLLM on a CPU keeps the old output layer of {job.config.model.path}, which is tied to "
            "the embeddings, so that the weights of full fine-tuning would arrive in part",
            "train with LoRA: lora.enabled=true",
        )
    source = find_model(job.config.model.path, job.config.model.revision)
    place, revision = source.base, source.revision
    if source.adapters or source.is_gguf:
        # What trains is what came of merging, which is nowhere as files.
        place, revision = str(_saved_base(folders.parent, model, tokenizer)), None
    log = job.run.path / "logs" / LOG
    log.parent.mkdir(exist_ok=True)

    def start() -> StartedVllm:
        return StartedVllm(job.config.rollout.vllm, job.needs(place, revision), log)

    def on_wait() -> None:
        if job.stop.number is not None:
            raise interruption(job.stop.number)

    def wait(started: StartedVllm, client: VllmClient) -> None:
        started.wait(client, on_wait)

    job.emit(Note(f"rollouts by vLLM, which starts now; its log: {log}"))
    servers.start, servers.wait = start, wait
    servers.started = start()
    servers.follow([servers.started.url])
    wait(servers.started, servers.clients[0])


def _saved_base(parent: Path, model: Any, tokenizer: Any) -> Path:
    folder = parent / "base"
    with blank_generation_config(model):
        model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def _connect(config: RunConfig, url: str) -> VllmClient:
    name = config.rollout.vllm.api_key_env
    key = None if name == NONE or not endpoints(config.rollout) else os.environ.get(name)
    if key is None and name != NONE and endpoints(config.rollout):
        raise UsageError(f"rollout.vllm.api_key_env: the variable {name} is not set", f"export {name}=...")
    return VllmClient(url, config.rollout.vllm.timeout_s, key)


def try_engine(
    job: EngineJob,
    engine: VllmEngine,
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
) -> None:
    """Sample a few short completions from the base, and compare log-probabilities with the model's own.

    UsageError where it can't, or the engine serves something else; a warning where rounding may explain the difference.
    `model` is on its device.
    """
    try:
        found = engine.generate(prompts, settings)
    except EngineGone:
        raise
    except RunFailed as error:
        # Nothing is lost yet.
        raise UsageError(error.message, error.fix) from None
    compute = getattr(torch, job.compute)
    with torch.autocast(model.device.type, compute, enabled=job.compute != "float32"):
        own, raw = (
            distance(model, prompts, found.ids, found.logps, temperature)
            for temperature in (settings.temperature, 1.0)
        )
    bound = bound_of(job.config.tripwires.logprob_difference, job.compute)
    if bound is None or own <= bound:
        return
    cause = likely_cause(Distances(own, raw), job.compute)
    other = (
        "" if same_place(engine.served_from, job.config.model.path) else f" It serves {engine.served_from}."
    )
    text = (
        f"rollout.engine: log-probabilities of vLLM and of {job.config.model.path} differ by {own:.2g} nats a token "
        f"(tripwires.logprob_difference is {bound:g}).{other}"
    )
    if raw < CLEARLY * own or own >= ROUNDING:
        raise UsageError(text, cause)
    job.emit(Note(f"{text} Likely: {cause}", "warning"))
