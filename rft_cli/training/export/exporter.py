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
from rft_cli.report.card import Made, completion_limit, model_card
from rft_cli.runs.exports import MARKER, ExportPlan, size_of, staged
from rft_cli.runs.measured_settings import measured_settings
from rft_cli.runs.model_source import ModelSource, find_model, first_base
from rft_cli.training.export.base_model import BaseFiles, read_base, write_json
from rft_cli.training.export.cast import LORA, cast_weights, fingerprints, round_weights, stored_precision
from rft_cli.training.export.compare import GreedyCompletions, complete, distance
from rft_cli.training.export.parts import (
    greedy_settings,
    public_base,
    save_generation_config,
    save_tokenizer,
    validation_prompts,
)
from rft_cli.training.export.regrade import Greedy
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
from rft_cli.training.models import context_length, load_config, load_model, load_tokenizer
from rft_cli.training.rollouts.prompts import PromptEncoder, has_chat_template
from rft_cli.training.rollouts.sampling import SamplingSettings

SCHEMA = "rft.export/1"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export; `bytes` counts all its files. `greedy`: what the run's own model answered."""

    plan: ExportPlan
    dtype: str
    bytes: int
    verified: Verified
    greedy: Greedy

    def to_json(self) -> dict[str, Any]:
        """The document of `rft export --json`, without what came after the export."""
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
            write_json(draft / MARKER, exporter.record(verified))
            size = size_of(draft)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RunFailed(f"the export failed, nothing was left at {plan.target}: {lines[0]}") from error
    return Exported(plan, exporter.dtype, size, verified, exporter.greedy)


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
        self._public = public_base(plan, self._base.path) if plan.format == "adapter" else ""
        self.dtype = "float32"
        self.greedy: Greedy

    def make(self, draft: Path) -> Verified:
        """Save into `draft`, reload, compare."""
        plan = self._plan
        tokenizer = load_tokenizer(self._model)
        if plan.format == "gguf":
            self._check_gguf(tokenizer)
        own = self._read_base()
        examples = validation_prompts(plan.run)
        encoder = PromptEncoder.of(tokenizer, self._config)
        prompts = encoder.encode(examples)
        model = self._load()
        settings = greedy_settings(model, tokenizer, prompts)

        def ask(model: Any) -> GreedyCompletions:
            return complete(model, prompts, settings)

        self._on_event(Note(f"asking step {plan.step} {len(prompts)} validation prompts"))
        checkpoint = ask(model)
        self.greedy = Greedy(prompts, checkpoint, settings)
        if plan.format == "gguf":
            texts = [encoder.render(example).text for example in examples]
            return self._make_gguf(model, checkpoint, ask, tokenizer, texts, settings, draft)
        if plan.format == "merged":
            written = self._save_merged(model, checkpoint, ask, own, draft)
        else:
            written = self._save_adapter(model, checkpoint, ask, draft)
        save_tokenizer(tokenizer, draft)
        save_generation_config(own, settings, draft)
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

    def record(self, verified: Verified) -> dict[str, Any]:
        """What rft-export.json says: the comparison, and the settings with which `rft serve` answers as measured."""
        limit = completion_limit(self._plan.run, self._config)
        return {
            **_described(self._plan, self._plan.run.name, self.dtype),
            "verified": asdict(verified),
            "settings": measured_settings(self._config, limit),
            "stop": list(self.greedy.settings.stop),
        }

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

    def _merged(
        self, model: Any, checkpoint: GreedyCompletions, ask: Callable[[Any], GreedyCompletions]
    ) -> tuple[Any, GreedyCompletions]:
        """Whole weights and their answers: under LoRA adapter and base merged, which must not change the answers."""
        if not self._plan.is_lora:
            return model, checkpoint
        model = model.merge_and_unload(safe_merge=True)
        answers = ask(model)
        merged = distance(checkpoint, answers)
        if not merged.relative <= TOLERANCE:
            raise mismatch(self._plan, f"merging the adapter changes the model: {said(merged)}")
        return model, answers

    def _check_gguf(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """UsageError for an architecture or a tokenizer that rft does not write, before any weights are read."""
        from rft_cli.training.export.gguf_file.architectures import architecture_of
        from rft_cli.training.export.gguf_file.vocabulary import vocabulary_of

        config = load_config(self._model).get_text_config()
        architecture_of(config)
        try:
            vocabulary_of(tokenizer, config.vocab_size, ())
        except UsageError as error:
            if self._base.path.startswith("builtin/"):
                error.message += f": {self._plan.run.path} began with {self._base.path} of an earlier rft"
                error.fix = f"train it again with this rft; or {error.fix}"
            raise

    def _make_gguf(
        self,
        model: Any,
        checkpoint: GreedyCompletions,
        ask: Callable[[Any], GreedyCompletions],
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        settings: SamplingSettings,
        draft: Path,
    ) -> Verified:
        """Write the GGUF file with Modelfile and card, and compare it."""
        from rft_cli.training.export.gguf_file.export import Asked, export_gguf, gguf_name
        from rft_cli.training.export.gguf_file.modelfile import Limits
        from rft_cli.training.export.gguf_file.writer import Sampling, type_of

        plan, validation = self._plan, self._config.validation
        self.dtype = plan.quantization or type_of(stored_precision(self._source, None, self._trust)[0])
        limits = Limits(context_length(model.config), completion_limit(plan.run, self._config))
        sampling = Sampling(validation.temperature, validation.top_p)
        asked = Asked(plan, self._model, tokenizer, texts, sampling, limits, settings.stop, self.dtype)
        merged, answers = self._merged(model, checkpoint, ask)
        self._on_event(Note(f"writing {gguf_name(self.dtype)}, and reloading it to compare"))
        verified = export_gguf(asked, merged, answers, ask, draft)
        made = Made(
            plan.step, plan.format, self.dtype, "", settings.stop, settings.pad,
            has_chat_template(tokenizer), gguf_name(self.dtype),
        )  # fmt: skip
        (draft / "README.md").write_text(model_card(plan.run, self._config, made), encoding="utf-8")
        return verified

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
        if self.dtype == "float32":
            # What is reloaded has these bits and must answer as the checkpoint: that proves the merging too.
            model = model.merge_and_unload(safe_merge=True) if self._plan.is_lora else model
        else:
            model, _ = self._merged(model, checkpoint, ask)
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


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
