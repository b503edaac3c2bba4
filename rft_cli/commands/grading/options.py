"""The options of `rft grade` about what it writes."""

from __future__ import annotations

from typing import NamedTuple


class OutputOptions(NamedTuple):
    """`rows`: print the graded rows, not the summary. `openai_run`: in the shape of OpenAI's `/graders/run`.

    `summary_file`: write the summary there too. `quiet`: nothing for people.
    `events`: what is for people, as JSON lines.
    """

    rows: bool
    openai_run: bool
    summary_file: str | None
    quiet: bool
    events: bool = False
