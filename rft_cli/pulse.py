"""One counter a process: what works in it beats, and who watches the process sees whether it still gets on."""

from __future__ import annotations


class Pulse:
    """`beats` goes up with every piece of work, however small."""

    def __init__(self) -> None:
        self.beats = 0

    def beat(self, *_: object) -> None:
        """A piece of work is done. Takes whatever a hook passes; cheap enough for every token."""
        self.beats += 1


PULSE = Pulse()
"""This process's. Global on purpose: a process has one main thread, and it lives or hangs as one."""
