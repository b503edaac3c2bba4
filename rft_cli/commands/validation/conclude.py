"""The end of each measurement: the gates, then the document, or what people read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rft_cli.commands.settings import Output
from rft_cli.commands.terminal import print_json, results
from rft_cli.commands.validation.gates import Gates


def conclude(document: dict[str, Any], gates: Gates, output: Output, show: Callable[[], None]) -> None:
    """Add the gates to the document and print it, or call `show`; raise GateNotMet if one is not met."""
    document["gates"] = gates.unmet(document)
    document["status"] = "gate not met" if document["gates"] else "ok"
    unmet = gates.error(document)
    with results():
        if output.json:
            print_json(document, unmet)
        else:
            show()
    if unmet is not None:
        raise unmet
