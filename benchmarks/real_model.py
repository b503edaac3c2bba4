"""Completions a second of rft's PPO against TRL 1.16's GRPO on your own job: a real model, lengths of its own.

    python -m benchmarks.real_model CONFIG_JSON [--pairs N]

CONFIG_JSON is a configuration with model, data and grader. Both sides load the same model, prompts, LoRA, batch,
micro-batch and passes, sample completions of whatever length the model gives them, and take turns. They learn from
different samples, so the lengths drift apart with the rounds: take few.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.common import table
from benchmarks.side import Side
from benchmarks.speed import against

LIMIT = 1.3
PAIRS = 3


def free(side: str, config: str) -> Side:
    """rft's PPO or TRL's GRPO, ready; completions end where the model ends them."""
    return Side(f"real-{side}", [sys.executable, "-m", "benchmarks.trainers", side, config, "--free-length"])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    with free("ours", options.config) as ours, free("grpo", options.config) as grpo:
        found = against(ours, grpo, options.pairs)
        lengths = [side.ask("tokens")["tokens"] for side in (ours, grpo)]
        hello = ours.hello
    work = (
        f"{hello['batch']} completions of {lengths[0]:.0f} and {lengths[1]:.0f} tokens in the last round, "
        f"{hello['passes']} passes of {hello['minibatches']} steps"
    )
    row = found.row("speed: PPO against TRL 1.16 GRPO on this model", LIMIT, work)
    print(table([row]))
    sys.exit(1 if row.ok is False else 0)


if __name__ == "__main__":
    main()
