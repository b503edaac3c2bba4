"""`rft validate --plan`: how much memory a job needs on a device, and what would make it fit."""

from __future__ import annotations

import re
from pathlib import Path

from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.signals import imports_whole
from rft_cli.commands.terminal import print_json, results, stdout_to_stderr
from rft_cli.errors import UsageError, UsageErrors

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|GiB|G)?", re.IGNORECASE)


def plan_memory(settings: Settings, gpu: str | None, gpus: int, output: Output) -> None:
    """Print the plan. Exit code 0 whether or not the job fits: the plan is the answer."""
    memory = None if gpu is None else gpu_bytes(gpu)
    loaded = settings.load(())
    from rft_cli.commands.job.model_check import check_model, resolve_run
    from rft_cli.job import read_files

    config = loaded.config
    path = resolve_run(config.model.path, config.output_dir)
    # A configuration without weights is enough.
    if not (Path(path) / "config.json").is_file():
        check_model(path, config.model.revision)
    config = config.model_copy(update={"model": config.model.model_copy(update={"path": path})})
    files = read_files(config)
    if files.problems:
        raise UsageErrors([problem for found in files.problems.values() for problem in found])
    rows = [example for data in files.data.values() for example in data.examples]
    with stdout_to_stderr():
        with imports_whole():
            from rft_cli.training.memory_plan.make_plan import make_plan

        plan = make_plan(config, rows, memory, gpus)
    from rft_cli.console.memory_table import print_memory_plan

    with results():
        if output.json:
            print_json(plan.to_json())
        else:
            print_memory_plan(plan)


def gpu_bytes(text: str) -> int:
    """Bytes of a GPU's memory, from `80GB`, `24` or `40GiB`; raises UsageError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--gpu {text}: not a size", "for example --gpu 80GB")
    unit = 2**30 if (found[2] or "").lower() == "gib" else 10**9
    return int(float(found[1]) * unit)
