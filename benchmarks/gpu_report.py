"""The figures of `benchmarks.gpu_check`: from a run's metrics to a line, and the table of all lines."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

MEASURED = 2
"""The last steps of a job, which are measured."""
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "vllm")
COLUMNS = (
    ("shape", "shape", ""),
    ("engine", "engine", ""),
    ("rollout_s", "rollout, s", ".2f"),
    ("update_s", "update, s", ".2f"),
    ("step_s", "step, s", ".2f"),
    ("tokens_a_second", "tokens a second, sampled", ",.0f"),
    ("peak_gb", "peak memory, GB", ".1f"),
    ("killed_and_resumed", "killed and resumed", ""),
    ("export", "export", ""),
    ("seconds", "all, s", ".0f"),
)


def figures(run: Path, completions: int, device: str) -> dict[str, Any]:
    """Medians of the measured steps, each of one rollout batch of so many completions."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = lines[-MEASURED:]
    rollout = statistics.median(line["rollout_seconds"] for line in last)
    tokens = statistics.median(line["completion_tokens"] for line in last) * completions
    return {
        "steps": len(lines),
        "rollout_s": rollout,
        "update_s": statistics.median(line["update_seconds"] for line in last),
        "step_s": statistics.median(line["step_seconds"] for line in last),
        "tokens_a_second": tokens / rollout,
        "device": device,
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that speed depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """As the driver calls it."""
    if device == "cpu":
        return f"CPU ({platform.machine()})"
    import torch

    return str(torch.cuda.get_device_name(0))


def table(document: Mapping[str, Any]) -> str:
    """Markdown for docs/benchmarks.md."""
    used = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    head = f"{document['device']}, {used}; {document['seconds']:.0f} s in all."
    lines = [
        head,
        "",
        "| " + " | ".join(title for _, title, _ in COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(_cells(line)) + " |" for line in document["jobs"]),
    ]
    return "\n".join(lines) + "\n"


def _cells(line: Mapping[str, Any]) -> list[str]:
    for why in ("failed", "skipped"):
        if why in line:
            return [line["shape"], line["engine"], f"{why}: {line[why]}", *[""] * (len(COLUMNS) - 3)]
    return [_cell(line[key], form) for key, _, form in COLUMNS]


def _cell(value: Any, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, form)
