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
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from rft_cli.config import RunConfig
from rft_cli.config.schema import ModelConfig
from rft_cli.errors import RftError, RunFailed, UsageError
from rft_cli.events import Note, OnEvent
from rft_cli.report.card import Made, model_card
from rft_cli.runs import Run
from rft_cli.runs.exports import MARKER, ExportPlan, size_of, staged
from rft_cli.training import quiet
from rft_cli.training.answers import Answers, Distance, answer, distance
from rft_cli.training.models import (
    ModelSource,
    context_length,
    count_parameters,
    find_model,
    load_config,
    load_model,
    load_tokenizer,
    stop_tokens,
)
from rft_cli.training.prompts import encode
from rft_cli.training.sampling import SamplingSettings
from rft_cli.types import Example, Source

SCHEMA = "rft.export/1"
PROMPTS = 32
MOST_TOKENS = 32
"""Greedy tokens compared for each prompt."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
"""Largest difference of two logits, over the largest logit, by the precision in which both models compute."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Verified:
    """What the reloaded export was compared with, and what came out; `from_float32` says what a cast cost."""

    prompts: int
    completions_equal: int
    max_logit_difference: float
    relative_difference: float
    tolerance: float
    compared_with: str
    from_float32: Distance | None


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
            "schema": SCHEMA,
            "run": str(self.plan.run.path),
            "checkpoint": self.plan.step,
            "format": self.plan.format,
            "dtype": self.dtype,
            "path": str(self.plan.target),
            "bytes": self.bytes,
            "verified": asdict(self.verified),
        }


def export(plan: ExportPlan, config: RunConfig, on_event: OnEvent) -> Exported:
    """Write the export and check it; on any error nothing is left at `plan.target`.

    Raises RunFailed where what was written does not answer as the checkpoint does.
    """
    quiet.libraries()
    maker = _Maker(plan, config, on_event)
    maker.refuse_private_base()
    with staged(plan.target, plan.replace) as draft:
        try:
            verified = maker.make(draft)
        except RftError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise RunFailed(f"the export failed, nothing was left at {plan.target}: {said[0]}") from error
        document = {"schema": SCHEMA, "run": plan.run.name, "checkpoint": plan.step, "format": plan.format}
        document |= {"dtype": maker.dtype, "verified": asdict(verified)}
        (draft / MARKER).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        size = size_of(draft)
    return Exported(plan, maker.dtype, size, verified)


class _Maker:
    """One export. Models are held one at a time: memory is that of one copy of the weights."""

    def __init__(self, plan: ExportPlan, config: RunConfig, on_event: OnEvent) -> None:
        self._plan, self._config, self._on_event = plan, config, on_event
        # The reloaded model takes transformers' attention; so does what it is compared with.
        self._base = config.model.model_copy(update={"attention": None})
        self._model = self._base if plan.is_lora else _at(self._base, plan.checkpoint)
        self._trust = {"trust_remote_code": True} if config.model.trust_remote_code else {}
        self.dtype = plan.precision or self._stored_dtype()

    def _stored_dtype(self) -> str:
        """The precision of the files that the weights come from: the checkpoint, the base under LoRA, the adapter."""
        if self._plan.format == "adapter":
            weights = load_file(self._plan.checkpoint / ADAPTER_WEIGHTS)
            return _name(next(iter(weights.values())).dtype)
        return _name(getattr(load_config(self._model), "dtype", None) or torch.float32)

    def refuse_private_base(self) -> None:
        """An adapter is of use only on a base that others have: not on one that was merged in memory."""
        source = find_model(self._base.path)
        if self._plan.format == "adapter" and source.adapter is not None:
            raise UsageError(
                f"{self._plan.run.path} began with {self._base.path}, an adapter that was merged into its base: "
                "the new adapter fits that merged model alone",
                "export merged weights: --format merged",
            )

    def make(self, draft: Path) -> Verified:
        """Save into `draft`, reload, compare."""
        plan = self._plan
        tokenizer = load_tokenizer(self._model)
        examples = _prompts(plan.run)
        prompts = encode(tokenizer, examples)
        model = self._load()
        settings = self._settings(model, tokenizer, prompts)
        self._on_event(Note(f"asking step {plan.step} {len(prompts)} validation prompts"))
        checkpoint = answer(model, prompts, settings)
        if plan.format == "merged":
            expected = self._save_merged(model, checkpoint, lambda m: answer(m, prompts, settings), draft)
        else:
            expected = self._save_adapter(model, checkpoint, lambda m: answer(m, prompts, settings), draft)
        tokenizer.save_pretrained(draft)
        _generation_config(model, settings).save_pretrained(draft)
        made = Made(plan.step, plan.format, self.dtype, find_model(self._base.path).base)
        (draft / "README.md").write_text(model_card(plan.run, self._config, made), encoding="utf-8")
        del model
        _free()
        self._on_event(Note("reloading what was written, to compare"))
        self._check_tokenizer(draft, examples, prompts)
        _check_stops(draft, settings)
        found = answer(self._reload(draft), prompts, settings)
        return self._verdict(checkpoint, expected, found)

    # -- loading -------------------------------------------------------------------------------------------------------

    def _load(self) -> Any:
        """The checkpoint in float32 as rft runs it: under LoRA the adapter beside the base, not merged."""
        if not self._plan.is_lora:
            return _placed(load_model(ModelSource(self._model.path), self._model, torch.float32))
        base = load_model(find_model(self._base.path), self._base, torch.float32)
        return _placed(PeftModel.from_pretrained(base, str(self._plan.checkpoint)))

    def _reload(self, draft: Path) -> Any:
        """What was written, as anybody loads it: with plain transformers and PEFT, nothing else said."""
        if self._plan.format == "merged":
            model = AutoModelForCausalLM.from_pretrained(draft, **self._trust)
            if _name(model.dtype) != self.dtype:
                raise _mismatch(self._plan, f"it loads in {_name(model.dtype)}, not in {self.dtype}")
            return _placed(model)
        base = AutoModelForCausalLM.from_pretrained(
            find_model(self._base.path).base,
            revision=self._base.revision,
            dtype=torch.float32,
            **self._trust,
        )
        return _placed(PeftModel.from_pretrained(base, draft))

    def _settings(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]]
    ) -> SamplingSettings:
        room = context_length(model.config) - max(len(p) for p in prompts)
        return SamplingSettings(
            max_new_tokens=max(1, min(MOST_TOKENS, room)),
            temperature=0.0,
            top_p=1.0,
            stop=tuple(stop_tokens(model.config, model.generation_config, tokenizer)),
            pad=int(tokenizer.pad_token_id),
        )

    # -- saving --------------------------------------------------------------------------------------------------------

    def _save_merged(
        self, model: Any, checkpoint: Answers, ask: Callable[[Any], Answers], draft: Path
    ) -> Answers:
        """Save whole weights; returns what the reloaded ones must answer."""
        expected = checkpoint
        if self._plan.is_lora:
            model = model.merge_and_unload(safe_merge=True)
            merged = distance(checkpoint, ask(model))
            if merged.relative > TOLERANCE["float32"]:
                raise _mismatch(self._plan, f"merging the adapter changes the model: {_said(merged)}")
        if self.dtype != "float32":
            model = model.to(getattr(torch, self.dtype))
            expected = ask(model)
            if not expected.finite:
                raise RunFailed(
                    f"the model does not fit into {self.dtype}: its logits overflow", "take --dtype float32"
                )
        model.config.use_cache = True  # training with gradient checkpointing leaves it off
        model.save_pretrained(draft)
        return expected

    def _save_adapter(
        self, model: Any, checkpoint: Answers, ask: Callable[[Any], Answers], draft: Path
    ) -> Answers:
        """Save the adapter alone; returns what base and reloaded adapter must answer."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        saved = load_file(self._plan.checkpoint / ADAPTER_WEIGHTS)
        weights = {name: tensor.to(dtype).contiguous() for name, tensor in saved.items()}
        save_file(weights, draft / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config = json.loads((self._plan.checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
        config |= {
            "base_model_name_or_path": find_model(self._base.path).base,
            "revision": self._base.revision,
            "inference_mode": True,
        }
        (draft / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if all(torch.equal(weights[name].to(tensor.dtype), tensor) for name, tensor in saved.items()):
            return checkpoint
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.copy_(parameter.to(dtype))
        return ask(model)

    # -- checking ------------------------------------------------------------------------------------------------------

    def _check_tokenizer(
        self, draft: Path, examples: Sequence[Example], prompts: Sequence[Sequence[int]]
    ) -> None:
        reloaded = AutoTokenizer.from_pretrained(draft, **self._trust)
        if encode(reloaded, examples) != list(prompts):
            raise _mismatch(self._plan, "its tokenizer gives other ids for the validation prompts")

    def _verdict(self, checkpoint: Answers, expected: Answers, found: Answers) -> Verified:
        cast = expected is not checkpoint
        # Adapters are applied in float32 whatever they are stored in.
        tolerance = TOLERANCE[self.dtype if self._plan.format == "merged" else "float32"]
        apart = distance(expected, found)
        if not apart.relative <= tolerance:
            raise _mismatch(
                self._plan, f"reloaded, it answers otherwise: {_said(apart)} (allowed {tolerance:.0e})"
            )
        return Verified(
            prompts=apart.prompts,
            completions_equal=apart.equal,
            max_logit_difference=apart.absolute,
            relative_difference=apart.relative,
            tolerance=tolerance,
            compared_with=f"the checkpoint, cast to {self.dtype}" if cast else "the checkpoint",
            from_float32=distance(checkpoint, found) if cast else None,
        )


def _check_stops(draft: Path, settings: SamplingSettings) -> None:
    written = GenerationConfig.from_pretrained(draft).eos_token_id
    stops = written if isinstance(written, list) else [written]
    if set(stops) != set(settings.stop):
        raise RunFailed(
            f"generation_config.json ends completions at {stops}, the run at {list(settings.stop)}"
        )


def _generation_config(model: Any, settings: SamplingSettings) -> GenerationConfig:
    """The base's own sampling defaults, ending completions where the run ended them."""
    config: GenerationConfig = model.generation_config
    config.eos_token_id = list(settings.stop) if len(settings.stop) != 1 else settings.stop[0]
    config.pad_token_id = settings.pad
    config.use_cache = True
    return config


def _prompts(run: Run) -> list[Example]:
    """Up to 32 prompts of the validation rows, as the run kept them: the data file may be gone."""
    first = {sample.row: sample for sample in run.read_samples("step-000000")}
    source = Source(str(run.path / "validation"), 0)
    return [Example(s.example_id, s.prompt, {}, source) for s in list(first.values())[:PROMPTS]]


def _at(config: ModelConfig, path: Path) -> ModelConfig:
    return config.model_copy(update={"path": str(path), "revision": None})


def _placed(model: Any) -> Any:
    """On the GPU where the weights and as much again fit there, else where it is."""
    if torch.cuda.is_available():
        size = count_parameters(model) * model.dtype.itemsize
        if 2 * size < torch.cuda.mem_get_info()[0]:
            model = model.to("cuda")
    return model.eval()


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _said(apart: Distance) -> str:
    return (
        f"the largest difference of two logits is {apart.absolute:.3g} ({apart.relative:.1e} of the largest logit), "
        f"{apart.equal} of {apart.prompts} greedy completions are equal"
    )


def _mismatch(plan: ExportPlan, what: str) -> RunFailed:
    return RunFailed(
        f"the export of step {plan.step} is not the model of the run: {what}; nothing was left at {plan.target}",
        "check the disk, and the library versions against those in run.json; then export again",
    )
