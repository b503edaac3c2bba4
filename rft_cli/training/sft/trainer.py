"""TRL's SFTTrainer as a job runs it: with an order of rows and counters that survive a resume."""

from __future__ import annotations

from typing import Any

from trl import SFTTrainer

from rft_cli.training.rollouts.base_trainer import BaseTrainer, EpochSampler


class ReferenceTrainer(BaseTrainer, SFTTrainer):
    """Learns `labels` of rows that are token ids already (`reference_rows.py`); see the module's docstring."""

    def __init__(self, *args: Any, model: Any, **kwargs: Any) -> None:
        text = model.config.get_text_config()
        router = {name: getattr(text, name) for name in _ROUTER if hasattr(text, name)}
        super().__init__(*args, model=model, **kwargs)
        # The loss is that of the references alone, and the model's configuration stays as it was.
        self.aux_loss_enabled = False
        for name, value in router.items():
            setattr(text, name, value)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = EpochSampler(self._rows, mini_repeat_count=1, seed=self.args.seed)
        sampler.trainer = self
        return sampler

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

    def trained_on(self) -> str:
        """The same, for people."""
        return f"{self.rows_learned:,} rows"

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """A step's line also says how many rows were learned from."""
        if "loss" in logs:
            logs["rows"] = self.rows_learned
        super().log(logs, start_time)


_ROUTER = ("output_router_logits", "router_aux_loss_coef")
"""Fields of a mixture of experts' configuration that SFTTrainer changes."""
