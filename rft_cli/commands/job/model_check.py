"""Checks `--model` before torch is loaded: whether it exists and can be trained here."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from rft_cli.config.suggest import closest
from rft_cli.errors import UsageError
from rft_cli.runs import Run, is_run
from rft_cli.runs.model_source import BUILTIN, GGUF

OPEN_MODELS = "Qwen/Qwen3-0.6B, HuggingFaceTB/SmolLM2-360M-Instruct, meta-llama/Llama-3.2-1B-Instruct"

# gpt2, gpt-neo, gpt-j and gpt-oss are open; other names with gpt are hosted models.
_HOSTED = re.compile(
    r"(openai/|anthropic/|google/|azure/|models/)?"
    r"(gpt-(?!2|neo|j\b|j-|oss)\S*|chatgpt\S*|o[134](-\S*)?|text-davinci\S*|claude\S*|gemini\S*)|ft:\S+",
    re.IGNORECASE,
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


def resolve_run(model: str, output_dir: str) -> str:
    """The path of a run given as `latest` or by name; other models unchanged."""
    if model == "latest":
        return str(Run.open("latest", output_dir).path)
    inside = Path(output_dir).expanduser() / model
    try:
        named = not Path(model).exists() and is_run(inside)
    except OSError:
        # not a valid file name: reported when it is opened
        named = False
    return str(inside) if named else model


def check_model(model: str, revision: str | None = None) -> None:
    """Raise UsageError if `--model` is a hosted model or does not exist. Loads nothing."""
    path = Path(model).expanduser()
    if path.is_dir():
        _check_directory(model, path)
    elif _HOSTED.fullmatch(model):
        raise UsageError(
            f"{model} is a hosted model: its weights can't be trained here",
            f"take an open one, for example {OPEN_MODELS}, or the embedded builtin/tiny",
        )
    elif model.startswith("builtin/"):
        _check_builtin(model)
    elif path.exists():
        _check_file(model, path)
    elif model.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(model):
        raise UsageError(f"{model}: no such model directory", _near(path))
    else:
        _check_hub(model, revision)


def context_of(model: str, revision: str | None = None) -> int | None:
    """The model's context length in tokens, None without a local config.json. Loads nothing."""
    path = (
        BUILTIN / model.removeprefix("builtin/") if model.startswith("builtin/") else Path(model).expanduser()
    )
    file: Path | str = path / "config.json"
    if not path.is_dir() and _HUB_ID.fullmatch(model):
        import huggingface_hub

        found = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision)
        file = found if isinstance(found, str) else file
    try:
        config = json.loads(Path(file).read_bytes())
        config = config.get("text_config") or config
        context = config.get("max_position_embeddings") or config.get("n_positions")
    except (OSError, ValueError, AttributeError, RecursionError):
        # a run, an adapter, or what the loader will name
        return None
    return context if isinstance(context, int) else None


def _check_file(model: str, path: Path) -> None:
    """A GGUF file holds weights, tokenizer and chat template; no other file is a model."""
    try:
        with path.open("rb") as content:
            is_gguf = content.read(4) == b"GGUF"
    except OSError as error:
        raise UsageError(f"{model} can't be read: {error.strerror}") from None
    if not is_gguf:
        kind = (
            "not a GGUF file, whatever its name says"
            if path.suffix.lower() == GGUF
            else "a file, not a model"
        )
        raise UsageError(
            f"{model} is {kind}", "give the directory with config.json and the weights, or a GGUF file"
        )
    if path.suffix.lower() != GGUF:
        raise UsageError(f"{model} is a GGUF file of another name", f"name it {path.stem}{GGUF}")
    if find_spec("gguf") is None:
        raise UsageError(
            f"{model}: reading a GGUF file needs the package gguf", "pip install 'rft-cli[gguf]'"
        )


_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")


def _check_directory(model: str, path: Path) -> None:
    if is_run(path) or (path / "adapter_config.json").is_file():
        return
    if (path / "config.json").is_file():
        if not any(any(path.glob(pattern)) for pattern in _WEIGHTS):
            raise UsageError(f"{model} holds a config.json and no weights", "put *.safetensors beside it")
        return
    files = sorted(file.name for file in path.glob(f"*{GGUF}"))
    raise UsageError(
        f"{model} holds no model: neither config.json nor adapter_config.json, and it is not a run",
        f"name the file: {path / files[0]}"
        if files
        else "give the directory with config.json and the weights",
    )


def _check_builtin(model: str) -> None:
    names = sorted(f"builtin/{folder.parent.name}" for folder in BUILTIN.glob("*/config.json"))
    if model not in names:
        raise UsageError(
            f"there is no {model}", f"there is {', '.join(names) or 'none in this installation'}"
        )


def _check_hub(model: str, revision: str | None) -> None:
    import huggingface_hub
    from huggingface_hub import constants, errors

    names = ("config.json", "adapter_config.json")
    cached = (huggingface_hub.try_to_load_from_cache(model, name, revision=revision) for name in names)
    if any(isinstance(found, str) for found in cached):
        return
    if constants.HF_HUB_OFFLINE:
        at, flag = ("", "") if revision is None else (f" at revision {revision}", f" --revision {revision}")
        raise UsageError(
            f"{model} is not a directory, and not in the local Hugging Face cache{at} (HF_HUB_OFFLINE is set)",
            _near_builtin(model)
            or f"give a directory, or download the model first: hf download {model}{flag}",
        )
    try:
        url = huggingface_hub.hf_hub_url(model, "config.json", revision=revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=10)
    except errors.GatedRepoError:
        raise UsageError(
            f"{model} is gated on the Hugging Face hub, and you have no access",
            "accept its licence on the hub and log in: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise UsageError(f"{model} has no revision {revision}", "correct model.revision") from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            f"{model} is neither a directory nor a model on the Hugging Face hub",
            _near_builtin(model) or "check its spelling; for a private model log in: hf auth login",
        ) from None
    except errors.EntryNotFoundError:
        # no config.json: an adapter, or something the loader will name
        return
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UsageError(
            f"{model} is not a directory, and the Hugging Face hub can't be reached: {reason}",
            "give a directory, or try again with a connection",
        ) from None


def _near(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"there is no folder {parent} either"
    name = closest(path.name, [entry.name for entry in parent.iterdir() if entry.is_dir()])
    return f"did you mean '{parent / name}'?" if name else "check the path"


def _near_builtin(model: str) -> str | None:
    names = [folder.parent.name for folder in BUILTIN.glob("*/config.json")]
    name = closest(model, names)
    return None if name is None else f"did you mean builtin/{name}?"
