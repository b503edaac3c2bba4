"""Data of a page for its scripts, in a block that no text of a run can end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rft_cli.runs.files import finite
from rft_cli.view.visible import visible


def embedded(data: Mapping[str, Any]) -> str:
    """JSON for a `<script>` block: no text of it can end the block, open a comment or break a line."""
    text = json.dumps(_visible_names(finite(data)), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _visible_names(data: Any) -> Any:
    """The same with titles and labels of charts, which hold names of components, made harmless."""
    charts = [
        {
            **chart,
            "title": visible(chart["title"], 80),
            "curves": [{**curve, "label": visible(curve["label"], 80)} for curve in chart["curves"]],
        }
        for chart in data["charts"]
    ]
    return {**data, "charts": charts}
