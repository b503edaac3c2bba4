"""Whether a run that goes on is longer: epochs and steps compared as the optimizer steps that they come to."""

import json
from pathlib import Path

import pytest

from rft_cli.commands.resume.plan import is_longer
from rft_cli.config import RunConfig
from rft_cli.config.flat import flat
from rft_cli.errors import UsageError
from rft_cli.runs import Run

AUTO = ("auto", None)


def config(folder: Path, epochs: int | str, most: int | None, rows: int = 1600) -> RunConfig:
    """Rollout batches of 16 x 8 completions in 4 steps: 1,600 rows are 100 batches, 12,800 completions."""
    file = folder / "t.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"p {n}"}) + "\n" for n in range(rows)))
    return RunConfig.model_validate(
        {"data": {"train": str(file)}, "optim": {"n_epochs": epochs, "max_steps": most}}
    )


@pytest.mark.parametrize(
    ("then", "now", "longer"),
    [
        (AUTO, AUTO, False),
        (AUTO, (1, None), True),  # all rows: 400 steps, where auto takes part of them
        (AUTO, ("auto", 300), True),
        ((1, None), (1, 400), False),
        ((1, 100), (1, None), True),
        ((1, 100), (2, 100), False),
        ((1, 100), (1, 101), True),  # 104: whole rollout batches
        ((1, 101), (1, 104), False),
        ((1, None), (2, 500), True),
    ],
)
def test_is_longer(tmp_path, then, now, longer):
    began = flat(config(tmp_path, *then))
    assert is_longer(began, config(tmp_path, *now), Run(tmp_path)) is longer


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ((2, None), (1, None), "trains for 2 epochs: it can't be made shorter (optim.n_epochs 1)"),
        ((1, None), (1, 40), "trains for 400 steps: it can't be made shorter (optim.max_steps 40)"),
        (("auto", 800), AUTO, "trains for 800 steps: it can't be made shorter (optim.max_steps empty)"),
    ],
)
def test_a_run_is_not_made_shorter(tmp_path, then, now, said):
    began = flat(config(tmp_path, *then))
    with pytest.raises(UsageError) as caught:
        is_longer(began, config(tmp_path, *now), Run(tmp_path))
    assert caught.value.message.endswith(said)


def test_epochs_alone_are_compared_where_the_rows_are_gone(tmp_path):
    began, now = flat(config(tmp_path, 1, None)), config(tmp_path, 2, None)
    (tmp_path / "t.jsonl").unlink()
    assert is_longer(began, now, Run(tmp_path))
