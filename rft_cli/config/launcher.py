"""What a launcher (accelerate, torchrun) sets in the environment of each process that it starts."""

from __future__ import annotations

from collections.abc import Mapping

from rft_cli.errors import UsageError


def world_size_in(env: Mapping[str, str]) -> int:
    """How many processes there are; 1 without a launcher. UsageError if WORLD_SIZE is not a valid count."""
    text = env.get("WORLD_SIZE", "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(
            f"WORLD_SIZE in the environment is '{text}', which is not a valid process count",
            "unset it: launchers such as accelerate set it for the processes they start",
        )
    return int(text)
