"""What a launcher (accelerate, torchrun) says in the environment of each process that it starts."""

from __future__ import annotations

from collections.abc import Mapping

from rft_cli.errors import UsageError


def world_size_in(env: Mapping[str, str]) -> int:
    """How many processes there are; 1 without a launcher. Raises UsageError where WORLD_SIZE is no such number."""
    said = env.get("WORLD_SIZE", "").strip() or "1"
    if not said.isdecimal() or int(said) < 1:
        raise UsageError(
            f"WORLD_SIZE in the environment is '{said}', which is no number of processes",
            "unset it: launchers such as accelerate set it for the processes they start",
        )
    return int(said)
