"""A rollout batch in micro-batches that keep a prompt's completions together."""

from __future__ import annotations

import torch

from rft_cli.training.rollouts.micro_batches import split

PROMPTS = torch.tensor([[0, 5], [0, 5], [3, 5], [3, 5], [4, 6], [4, 6], [7, 8], [7, 8]])


def test_groups_stay_together_and_nothing_is_lost() -> None:
    batch = {
        "prompt_ids": PROMPTS,
        "prompt_mask": (PROMPTS > 0).long(),
        "advantages": torch.arange(8.0),
        "names": list("abcdefgh"),
        "num_items_in_batch": torch.tensor(40.0),
    }
    orders = set()
    for seed in range(6):
        torch.manual_seed(seed)
        parts = split(batch, 4)
        rows = [tuple(part["advantages"].tolist()) for part in parts]
        assert sorted(rows) == [(0.0, 1.0), (2.0, 3.0), (4.0, 5.0), (6.0, 7.0)]
        assert all(part["num_items_in_batch"] == 40.0 for part in parts)
        assert ["".join(part["names"]) for part in parts] == [
            "abcdefgh"[int(a) : int(b) + 1] for a, b in rows
        ]
        orders.add(tuple(rows))
    assert len(orders) > 1


def test_padding_is_no_difference_of_prompts_but_the_mask_is() -> None:
    ids, mask = torch.tensor([[0, 5], [0, 5]]), torch.tensor([[0, 1], [1, 1]])
    orders = set()
    for seed in range(8):
        torch.manual_seed(seed)
        parts = split({"prompt_ids": ids, "prompt_mask": mask, "row": torch.arange(2)}, 2)
        orders.add(tuple(int(part["row"]) for part in parts))
    assert orders == {(0, 1), (1, 0)}
