"""Jinja for pages of runs: every text is escaped, and filters make figures and control characters readable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rft_cli.console.pilot_table import pilot_figures
from rft_cli.console.text import duration, number
from rft_cli.view.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def make_environment(*packages: str) -> Environment:
    """An environment with the templates of these packages; the first that has a name gives it."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    made.filters |= {
        "visible": _visible_filter,
        "breakable": _breakable,
        "number": _number_filter,
        "duration": duration,
        "pilot_figures": _pilot_figures,
        "chart_label": chart_label,
    }
    return made


def _visible_filter(text: object, most: int | None = None) -> str:
    return visible(str(text), most)


def _breakable(text: str) -> Markup:
    """The text with places after its slashes where a narrow column may break it: a hub id is one long word."""
    from markupsafe import Markup

    return Markup("/<wbr>").join(text.split("/"))


def _number_filter(value: float | None, sign: bool = False) -> str:
    return number(value, 3, sign=sign)


def _pilot_figures(pilot: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pilot's table; the document as it stands where parts of it are missing."""
    try:
        return list(pilot_figures(pilot))
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return [("pilot.json", json.dumps(pilot, ensure_ascii=False))]


def chart_label(chart: Mapping[str, Any]) -> str:
    """What a chart shows, for those who can't see it: each curve's first and last value."""
    said = [
        f"{curve['label']} from {number(curve['values'][0])} to {number(curve['values'][-1])}"
        for curve in chart["curves"]
        if curve["values"]
    ]
    return f"{chart['title']}: {'; '.join(said)}"
