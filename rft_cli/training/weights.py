"""Loading a checkpoint's weights back into the model that trains, whatever wraps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_checkpoint_weights(trainer: Any, checkpoint: Path) -> None:
    """Put the policy's saved weights into the trainer's model, so that what is tested is what was saved."""
    trainer._load_from_checkpoint(
        str(checkpoint), model=trainer.model_wrapped if trainer.is_fsdp_enabled else None
    )
