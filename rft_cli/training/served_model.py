"""A model made ready for an engine: a folder as transformers loads it, and the settings with which it was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import GenerationConfig, PreTrainedTokenizerBase

from rft_cli.config import RunConfig
from rft_cli.errors import RunFailed, UsageError
from rft_cli.runs import Run
from rft_cli.runs.exports import MARKER, staged
from rft_cli.runs.model_source import ModelSource, find_model, tuned_source
from rft_cli.serving.model import RequestDefaults, ServedModel, defaults_of_run
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.models import context_length, load_config, load_model, load_tokenizer, weights_dtype
from rft_cli.training.response_template import give_response_template
from rft_cli.training.rollouts.prompts import has_chat_template
from rft_cli.training.stop_tokens import stop_tokens

_WEIGHTS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.py")
"""Files of a hub model that an engine reads."""


@dataclass(frozen=True, slots=True)
class ToServe:
    """A model to serve: its name and where its weights come from.

    `measured`: the settings with which its run measured it; without them its own count, and `chosen` before those.
    `cache`: where weights with a merged adapter are kept for the next time.
    """

    name: str
    source: ModelSource
    config: RunConfig
    measured: RequestDefaults | None
    cache: Path
    chosen: Mapping[str, Any] = field(default_factory=dict)


def plain_template(begin: str) -> str:
    """The chat template of a base model: messages with blank lines between them, as rft puts them before one.

    `begin`: the token that its tokenizer puts before a text, which a server leaves to the template.
    """
    return (
        f"{{{{ {json.dumps(begin)} }}}}{{% for message in messages %}}{{{{ message['content'] }}}}"
        "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endfor %}{{ '\\n' }}"
    )


def models_of_run(run: Run, config: RunConfig, names: Mapping[str, str], folder: Path) -> list[ToServe]:
    """The run's best model, and its base: those that `names` has a name for, `base` and `tuned`."""
    base = find_model(config.model.path, config.model.revision)
    best = run.best_checkpoint()
    kept = run.path / "export" / "serving"
    measured = defaults_of_run(config, run.read_pilot())
    found = []
    for which in ("base", "tuned"):
        if which not in names:
            continue
        if which == "base" or best is None:
            source, cache = base, folder / f"{which}-merged"
        else:
            source = tuned_source(best, config.model.path, config.model.revision)
            cache = kept / best.name
        found.append(ToServe(names[which], source, config, measured, cache))
    return found


def prepare(wanted: ToServe, folder: Path, note: Callable[[str], None]) -> ServedModel:
    """Make `folder` a model that an engine serves as rft samples it: links to the weights, stop tokens, templates."""
    quiet_libraries()
    model = wanted.config.model
    dtype = str(weights_dtype(model.dtype, True, _device())).removeprefix("torch.")
    tokenizer, architecture = load_tokenizer(model), load_config(model)
    source = wanted.source
    whole = not source.adapters and not source.is_gguf
    place = _local(source) if whole else _merged(wanted, tokenizer, dtype, note)
    folder.mkdir(parents=True)
    for file in place.iterdir():
        if file.name not in ("generation_config.json", MARKER, "README.md") and file.is_file():
            (folder / file.name).symlink_to(file.resolve())
    own = _generation_config(source)
    stops = stop_tokens(architecture, own, tokenizer)
    _write_generation(folder, own, stops, int(tokenizer.pad_token_id), measured=wanted.measured is not None)
    begin = _beginning(tokenizer)
    if not has_chat_template(tokenizer):
        tokenizer.chat_template = plain_template(begin)
        _replace(folder, "chat_template.jinja", tokenizer.chat_template)
    give_response_template(tokenizer, architecture.model_type, stops)
    if tokenizer.response_template is not None:
        _put_into(folder, "tokenizer_config.json", {"response_template": tokenizer.response_template})
    context = context_length(architecture)
    defaults = wanted.measured or replace(_defaults_of(own), **wanted.chosen)
    return ServedModel(
        name=wanted.name,
        place=folder,
        dtype=dtype,
        context=context,
        defaults=defaults,
        count=_counter(tokenizer),
        begin=begin,
        trust_remote_code=model.trust_remote_code,
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _local(source: ModelSource) -> Path:
    """The folder of the model's files; those of a hub model are downloaded."""
    if Path(source.base).is_dir():
        return Path(source.base)
    try:
        return Path(snapshot_download(source.base, revision=source.revision, allow_patterns=list(_WEIGHTS)))
    # Whatever the library raises: there is no such model, or it is out of reach.
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"model {source.base!r} can't be loaded: {said}",
            "give a run, a directory with config.json and weights, or a hub id that is downloaded or reachable",
        ) from None


def _merged(
    wanted: ToServe, tokenizer: PreTrainedTokenizerBase, dtype: str, note: Callable[[str], None]
) -> Path:
    """The folder of whole weights, made of base and adapters once, in the precision that `rft validate` measures in."""
    place = wanted.cache.with_name(f"{wanted.cache.name}-{dtype}")
    if (place / MARKER).is_file():
        return place
    what = "unpacking the GGUF file" if wanted.source.is_gguf else "merging the adapter into its base, once"
    note(f"{what}: {place}")
    model = load_model(wanted.source, wanted.config.model, getattr(torch, dtype))
    # transformers refuses to save some that it loads.
    model.generation_config = GenerationConfig()
    try:
        with staged(place, replace=False) as draft:
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
            (draft / MARKER).write_text(json.dumps({"schema": "rft.serving/1", "dtype": dtype}) + "\n")
    except UsageError:
        # Another `rft serve` of the run was faster.
        if not (place / MARKER).is_file():
            raise
    except (OSError, RuntimeError, SafetensorError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunFailed(
            f"the merged model can't be written to {place}: {said}", "make room on the disk"
        ) from error
    return place


def _generation_config(source: ModelSource) -> GenerationConfig:
    """The model's own, as its files have it."""
    if source.is_gguf:
        return GenerationConfig()
    try:
        return GenerationConfig.from_pretrained(source.base, revision=source.revision)
    except OSError:
        return GenerationConfig()


def _write_generation(
    folder: Path, own: GenerationConfig, stops: list[int], pad: int, measured: bool
) -> None:
    """Every stop token of rft's; for a run nothing else that changes what is sampled, else the model's own settings.

    `do_sample`: requests come with a temperature, and 0 turns it off.
    """
    config: dict[str, Any] = {} if measured else own.to_diff_dict()
    config |= {"do_sample": True, "eos_token_id": stops, "pad_token_id": pad}
    if measured:
        config |= {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    _replace(folder, "generation_config.json", json.dumps(config, indent=2) + "\n")


def _defaults_of(own: GenerationConfig) -> RequestDefaults:
    """The model's own settings, else OpenAI's defaults."""
    sampled = bool(own.do_sample)
    temperature, top_p = own.temperature if sampled else None, own.top_p if sampled else None
    return RequestDefaults(1.0 if temperature is None else temperature, 1.0 if top_p is None else top_p)


def _counter(tokenizer: Any) -> Callable[[Mapping[str, Any]], int]:
    def count(body: Mapping[str, Any]) -> int:
        if "messages" not in body:
            prompt = body["prompt"]
            return len(tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else len(prompt)
        text = tokenizer.apply_chat_template(
            body["messages"],
            tools=body.get("tools"),
            tokenize=False,
            add_generation_prompt=True,
            **body.get("chat_template_kwargs", {}),
        )
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def _beginning(tokenizer: Any) -> str:
    begin = tokenizer.bos_token
    ids = tokenizer("a")["input_ids"]
    return str(begin) if begin and ids[0] == tokenizer.bos_token_id else ""


def _replace(folder: Path, name: str, content: str) -> None:
    file = folder / name
    file.unlink(missing_ok=True)
    file.write_text(content, encoding="utf-8")


def _put_into(folder: Path, name: str, values: Mapping[str, Any]) -> None:
    file = folder / name
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    _replace(folder, name, json.dumps({**content, **values}, indent=2) + "\n")
