"""`rft export`: the tuned model out of a run, reloaded with plain transformers and compared with the run's own."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, PreTrainedTokenizerBase

from rft_cli.config import RunConfig
from rft_cli.errors import RunFailed, UsageError
from rft_cli.events import Note, OnEvent
from rft_cli.report.card import Made, model_card
from rft_cli.runs import Run
from rft_cli.runs.exports import MARKER, ExportPlan, size_of, staged
from rft_cli.runs.model_source import ModelSource, find_model, first_base
from rft_cli.training.export.base_model import BaseFiles, read_base, write_json
from rft_cli.training.export.cast import LORA, cast_weights, fingerprints, round_weights, stored_precision
from rft_cli.training.export.compare import GreedyCompletions, complete, distance
from rft_cli.training.export.verify import (
    TOLERANCE,
    Verified,
    Written,
    check_adapter,
    check_files,
    check_merged,
    dtype_name,
    mismatch,
    placed,
    said,
)
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.models import context_length, load_model, load_tokenizer
from rft_cli.training.rollouts.prompts import PromptEncoder, has_chat_template
from rft_cli.training.rollouts.sampling import SamplingSettings
from rft_cli.training.stop_tokens import stop_tokens
from rft_cli.types import Example, Source

SCHEMA = "rft.export/1"
PROMPTS = 32
MOST_TOKENS = 32
"""Greedy tokens compared for each prompt."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export; `bytes` counts all its files."""

    plan: ExportPlan
    dtype: str
    bytes: int
    verified: Verified

    def to_json(self) -> dict[str, Any]:
        """The document of `rft export --json`."""
        return {
            **_described(self.plan, str(self.plan.run.path), self.dtype),
            "path": str(self.plan.target),
            "bytes": self.bytes,
            "verified": asdict(self.verified),
        }


def _described(plan: ExportPlan, run: str, dtype: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "run": run, "checkpoint": plan.step, "format": plan.format, "dtype": dtype}


def export(plan: ExportPlan, config: RunConfig, on_event: OnEvent) -> Exported:
    """Write the export and check it; on any error nothing is left at `plan.target`.

    Raises RunFailed where what was written gives other completions than the checkpoint.
    """
    quiet_libraries()
    exporter = _Exporter(plan, config, on_event)
    with staged(plan.target, plan.replace) as draft:
        try:
            verified = exporter.make(draft)
            document = {**_described(plan, plan.run.name, exporter.dtype), "verified": asdict(verified)}
            write_json(draft / MARKER, document)
            size = size_of(draft)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RunFailed(f"the export failed, nothing was left at {plan.target}: {lines[0]}") from error
    return Exported(plan, exporter.dtype, size, verified)


class _Exporter:
    """One export. Models are held one at a time: memory is that of one copy of the weights."""

    def __init__(self, plan: ExportPlan, config: RunConfig, on_event: OnEvent) -> None:
        self._plan, self._config, self._on_event = plan, config, on_event
        # The reloaded model takes transformers' attention; so does what it is compared with.
        self._base = config.model.model_copy(update={"attention": None})
        own = {"path": str(plan.checkpoint), "revision": None}
        self._model = self._base if plan.is_lora else self._base.model_copy(update=own)
        self._trust = self._base.trust_remote_code
        self._source = find_model(self._model.path, self._model.revision)
        self._public = _public_base(plan, self._base.path) if plan.format == "adapter" else ""
        self.dtype = "float32"

    def make(self, draft: Path) -> Verified:
        """Save into `draft`, reload, compare."""
        plan = self._plan
        tokenizer = load_tokenizer(self._model)
        own = self._read_base()
        examples = _prompts(plan.run)
        prompts = PromptEncoder.of(tokenizer, self._config).encode(examples)
        model = self._load()
        settings = _settings(model, tokenizer, prompts)

        def ask(model: Any) -> GreedyCompletions:
            return complete(model, prompts, settings)

        self._on_event(Note(f"asking step {plan.step} {len(prompts)} validation prompts"))
        checkpoint = ask(model)
        if plan.format == "merged":
            written = self._save_merged(model, checkpoint, ask, own, draft)
        else:
            written = self._save_adapter(model, checkpoint, ask, draft)
        _save_tokenizer(tokenizer, draft)
        _save_generation_config(own, settings, draft)
        chat = has_chat_template(tokenizer)
        made = Made(plan.step, plan.format, self.dtype, self._public, settings.stop, settings.pad, chat)
        (draft / "README.md").write_text(model_card(plan.run, self._config, made), encoding="utf-8")
        del model
        _free()
        self._on_event(Note("reloading what was written, to compare"))
        check_files(plan, draft, self._config, examples, prompts, settings.stop)
        if plan.format == "merged":
            return check_merged(plan, draft, written, ask, self._trust)
        base = ModelSource(self._public, revision=self._base.revision)
        return check_adapter(plan, draft, base, written, ask, self._trust)

    def _read_base(self) -> BaseFiles | None:
        """The model that the run began with; where that is gone, what its weights come from says the most."""
        first = first_base(self._base.path, self._base.revision)
        if first.is_gguf:  # it has no JSON of its own
            return None
        own = read_base(first, self._trust)
        if own is not None:
            return own
        self._on_event(Note(f"{self._base.path} is out of reach: config.json is that of the checkpoint"))
        return read_base(self._source, self._trust)

    def _load(self) -> Any:
        """The checkpoint in float32 as rft runs it: under LoRA the adapter beside the base, not merged."""
        model = load_model(self._source, self._model, torch.float32)
        if not self._plan.is_lora:
            return placed(model)
        return placed(PeftModel.from_pretrained(model, str(self._plan.checkpoint)))

    def _save_merged(
        self,
        model: Any,
        checkpoint: GreedyCompletions,
        ask: Callable[[Any], GreedyCompletions],
        own: BaseFiles | None,
        draft: Path,
    ) -> Written:
        """Save whole weights; returns what the reloaded ones must be and answer."""
        wanted = None if self._plan.precision is None else getattr(torch, self._plan.precision)
        dtype, dtypes = stored_precision(self._source, wanted, self._trust)
        self.dtype = dtype_name(dtype)
        expected = checkpoint
        if self._plan.is_lora:
            model = model.merge_and_unload(safe_merge=True)
            merged = distance(checkpoint, ask(model))
            if not merged.relative <= TOLERANCE:
                raise mismatch(self._plan, f"merging the adapter changes the model: {said(merged)}")
        if self.dtype != "float32":
            round_weights(model, dtypes)
            expected = ask(model)
            cast_weights(model, dtypes)
        weights = {type(model): fingerprints(model)}
        whole = None if own is None else own.whole_class(model)
        if own is not None and whole is not None:
            model = own.around(model, whole, dtype)
            weights[whole] = fingerprints(model)
        model.generation_config = GenerationConfig()  # transformers refuses to save some that it loads
        model.save_pretrained(draft)
        if own is not None:
            own.write(draft, type(model).__name__, self.dtype)
        return Written(checkpoint, expected, self.dtype, weights)

    def _save_adapter(
        self, model: Any, checkpoint: GreedyCompletions, ask: Callable[[Any], GreedyCompletions], draft: Path
    ) -> Written:
        """Save the adapter alone; returns what base and reloaded adapter must be and answer."""
        saved = load_file(self._plan.checkpoint / ADAPTER_WEIGHTS)
        self.dtype = self._plan.precision or dtype_name(next(iter(saved.values())).dtype)
        dtype: torch.dtype = getattr(torch, self.dtype)
        weights = {name: tensor.to(dtype).contiguous() for name, tensor in saved.items()}
        save_file(weights, draft / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config = json.loads((self._plan.checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = self._public
        config["revision"] = self._base.revision
        config["inference_mode"] = True
        write_json(draft / "adapter_config.json", config)
        expected = checkpoint
        if not all(torch.equal(weights[name].to(tensor.dtype), tensor) for name, tensor in saved.items()):
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if LORA in name:
                        parameter.copy_(parameter.to(dtype))
            expected = ask(model)
        return Written(checkpoint, expected, self.dtype, {type(model): fingerprints(model, LORA)})


def _public_base(plan: ExportPlan, base: str) -> str:
    """The base that an adapter is for, as PEFT can load it; refused where it was only ever merged in memory."""
    source = find_model(base)
    if source.adapters:
        raise UsageError(
            f"{plan.run.path} began with {base}, an adapter that was merged into its base: the new adapter fits "
            "that merged model alone",
            "export whole weights with --format merged",
        )
    if source.is_gguf:
        raise UsageError(
            f"{plan.run.path} began with {base}: PEFT can't load an adapter's base from a GGUF file",
            "export whole weights with --format merged",
        )
    return source.base


def _prompts(run: Run) -> list[Example]:
    """Up to 32 prompts of the validation rows, as the run kept them: the data file may be gone."""
    first = {sample.row: sample for sample in run.read_samples("step-000000")}
    source = Source(str(run.path / "validation"), 0)
    return [Example(s.example_id, s.prompt, {}, source) for s in list(first.values())[:PROMPTS]]


def _settings(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]]
) -> SamplingSettings:
    """Greedy, ending where the run's completions end."""
    room = context_length(model.config) - max(len(p) for p in prompts)
    return SamplingSettings(
        max_new_tokens=max(1, min(MOST_TOKENS, room)),
        temperature=0.0,
        top_p=1.0,
        stop=tuple(stop_tokens(model.config, model.generation_config, tokenizer)),
        pad=int(tokenizer.pad_token_id),
    )


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, draft: Path) -> None:
    """Save it so that transformers 4 reads it too: version 5 writes a class name that 4 does not know."""
    tokenizer.save_pretrained(draft)
    file = draft / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for local in ("is_local", "local_files_only"):  # said of the place it was loaded from
        config.pop(local, None)
    write_json(file, config)


def _save_generation_config(own: BaseFiles | None, settings: SamplingSettings, draft: Path) -> None:
    """The base's own sampling defaults, whatever they are, ending completions where the run ended them."""
    config = {} if own is None else dict(own.generation)
    config["eos_token_id"] = list(settings.stop) if len(settings.stop) != 1 else settings.stop[0]
    config["pad_token_id"] = settings.pad
    write_json(draft / "generation_config.json", config)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
