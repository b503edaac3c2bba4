"""By which sharding a checkpoint was written: FSDP and DeepSpeed ZeRO each read their own files alone."""

from __future__ import annotations

from pathlib import Path

from rft_cli.config.launcher import Sharding
from rft_cli.errors import UsageError
from rft_cli.runs.run import Run


def sharding_of(checkpoint: Path) -> Sharding | None:
    """The sharding whose files are in `checkpoint`; None where it holds whole weights and optimizers alone."""
    if any(checkpoint.glob("pytorch_model_fsdp*")):
        return Sharding("fsdp")
    if not any(checkpoint.glob("global_step*")):
        return None
    partitioned = any(checkpoint.glob("global_step*/zero_pp_rank_*_model_states.pt"))
    return Sharding("deepspeed", 3 if partitioned else 2)


def check_same_sharding(run: Run, now: Sharding | None) -> None:
    """Raise UsageError where the newest checkpoint of `run` was written under another sharding than `now`."""
    steps = run.checkpoints()
    then = sharding_of(run.checkpoint_path(steps[-1])) if steps else now
    if _kind(then) == _kind(now):
        return
    was, count = "without sharding" if then is None else f"under {then.name}", run.info.get("num_processes")
    here = "without sharding" if now is None else f"under {now.name}"
    raise UsageError(
        f"{run.path} can't resume {here}: its checkpoints were written {was}",
        f"start it as it began: {count} processes, {was}; or begin a new run with its weights: --model {run.path}",
    )


def _kind(sharding: Sharding | None) -> tuple[str, bool] | None:
    # ZeRO-1 and ZeRO-2 write the same files.
    return None if sharding is None else (sharding.library, sharding.stage == 3)
