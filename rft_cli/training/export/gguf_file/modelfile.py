"""The Modelfile from which Ollama makes a model of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rft_cli.training.export.gguf_file.turns import Turns, ollama_template
from rft_cli.training.export.gguf_file.writer import Sampling

FILE = "Modelfile"


@dataclass(frozen=True, slots=True)
class Limits:
    """`context`: tokens that prompt and completion may have together; `completion`: those of the completion."""

    context: int
    completion: int


def modelfile(
    gguf: str, turns: Turns | None, chat: bool, sampling: Sampling, limits: Limits, stop: Sequence[str]
) -> str:
    """The file's text. `stop`: the tokens that end a completion, as text."""
    lines = ["# ollama create my-model -f Modelfile", f"FROM ./{gguf}"]
    if turns is not None:
        lines.append(f'TEMPLATE """{ollama_template(turns)}"""')
    elif chat:
        lines += [
            "# The model's chat template does more than put text around messages: it can't be written here.",
            "# Ollama takes a template of its own where it knows this one; compare what it sends before you trust it.",
        ]
    else:
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    settings = {
        "temperature": f"{sampling.temperature:g}",
        "top_p": f"{sampling.top_p:g}",
        "top_k": "0",
        "min_p": "0",
        "repeat_penalty": "1",
        "num_ctx": str(limits.context),
        "num_predict": str(limits.completion),
    }
    lines += [f"PARAMETER {name} {value}" for name, value in settings.items()]
    lines += [f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}" for token in stop]
    return "\n".join(lines) + "\n"
