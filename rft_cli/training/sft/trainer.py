"""TRL's SFTTrainer as a job runs it: rows in an order that a resumed job repeats, counters that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import SFTTrainer

from rft_cli.training.hooks.training_state import Resumable, epoch_seed
from rft_cli.training.rollouts.passes import Passes


class EpochOrder(Sampler[int]):
    """Every row once, in an order that depends on seed and epoch alone; `trainer` says which epoch it is."""

    def __init__(self, rows: int, trainer: Any) -> None:
        self._rows, self._trainer = rows, trainer

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        seed = epoch_seed(self._trainer.args.seed, self._trainer.state.epoch)
        yield from torch.randperm(self._rows, generator=torch.Generator().manual_seed(seed)).tolist()


class ReferenceTrainer(Passes, Resumable, SFTTrainer):
    """Learns `labels` of rows that are token ids already (`reference_rows.py`); see the module's docstring."""

    def __init__(self, *args: Any, model: Any, **kwargs: Any) -> None:
        text = model.config.get_text_config()
        router = {name: getattr(text, name) for name in _ROUTER if hasattr(text, name)}
        super().__init__(*args, model=model, **kwargs)
        self.aux_loss_enabled = (
            False  # the loss is the references' alone, and the model's configuration stays
        )
        for name, value in router.items():
            setattr(text, name, value)

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return EpochOrder(len(self._rows), self)

    @property
    def _rows(self) -> Any:
        return self.train_dataset

    def process_state(self) -> dict[str, Any]:
        """The tokens that were trained on, and whether completions that have ended may leave a validation's batch."""
        return super().process_state() | {"tokens": self._total_train_tokens, "splits": self._splits}

    def load_process_state(self, state: dict[str, Any]) -> None:
        super().load_process_state(state)
        self._total_train_tokens, self._splits = state["tokens"], state["splits"]

    def steps_an_epoch(self) -> int:
        """Optimizer steps of one pass over the rows; the last one takes what is left."""
        return -(-len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps)

    @property
    def rows_learned(self) -> int:
        """Rows that were learned from so far, counted once a pass."""
        return round(float(self.state.epoch or 0.0) * len(self._rows))

    def seen(self) -> str:
        """The same in words."""
        return f"{self.rows_learned:,} rows"

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """A step's line also says how many rows were learned from."""
        if "loss" in logs:
            logs["rows"] = self.rows_learned
        super().log(logs, start_time)


_ROUTER = ("output_router_logits", "router_aux_loss_coef")
"""Fields of a mixture of experts' configuration that SFTTrainer changes."""
