"""Which training rows a rollout batch has: its number alone decides, so that a batch can be sampled before its turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's order."""
    return seed * 100_003 + epoch


@dataclass(frozen=True, slots=True)
class RowOrder:
    """The order of `rows` rows in rollout batches of `prompts` x `group_size`, of which each process has a part.

    Rows that do not fill a batch are left out of the epoch, as TRL's RepeatSampler does.
    """

    rows: int
    prompts: int
    group_size: int
    seed: int
    shuffle: bool = True
    process: int = 0
    processes: int = 1

    def of_batch(self, number: int) -> list[int]:
        """This process's rows in rollout batch `number`; a group's stand side by side."""
        epoch, place = divmod(number, self.rows // self.prompts)
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, epoch))
        order = torch.randperm(self.rows, generator=generator) if self.shuffle else torch.arange(self.rows)
        chosen = order[place * self.prompts : (place + 1) * self.prompts].tolist()
        whole = [row for row in chosen for _ in range(self.group_size)]
        part = len(whole) // self.processes
        return whole[self.process * part : (self.process + 1) * part]
