"""TRL 1.16's GRPOTrainer on the rows, model and settings of a job of rft's, to the end, for `rft validate` to measure.

    python -m benchmarks.trl_grpo CONFIG_JSON --out FOLDER

CONFIG_JSON holds a job's settings, `{"data": {"train": "..."}, "grader": {"path": "..."}, "model": {"path": "..."}}`.
What rft's auto rules make of them holds here too: LoRA, rate, batch, passes, precision, number of completions; beta is
0, TRL's default. Each step's reward and, at the end, the number of completions are printed as JSON lines; FOLDER gets
the tuned model, merged, with its tokenizer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from benchmarks.trainers import grpo, load


class Printed(TrainerCallback):  # type: ignore[misc]
    """One JSON line for each logged step."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        wanted = ("reward", "entropy", "completions/mean_length", "frac_reward_zero_std")
        print(
            json.dumps({"step": state.global_step, **{k: v for k, v in (logs or {}).items() if k in wanted}}),
            flush=True,
        )


def command() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(options.config, folder, endless=False)
        torch.manual_seed(loaded.job.config.seed)
        trainer = grpo(loaded, folder)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Printed())
        trainer.train()
        batches = trainer.state.global_step // loaded.steps
        print(json.dumps({"completions": batches * loaded.completions}), flush=True)
        model = trainer.accelerator.unwrap_model(trainer.model)
        merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
        merged.save_pretrained(options.out)
        loaded.lengths.tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    command()
