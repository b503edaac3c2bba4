"""The report as one HTML file: no network, no build step, nothing of a run that could run.

Every text of a run is escaped by Jinja or set as text by `report.js`, control characters are shown as escapes, and the
page's own Content-Security-Policy lets only the scripts and styles run whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rft_cli import __version__
from rft_cli.pages.environment import make_environment
from rft_cli.report.summary import SummaryRow
from rft_cli.runs.files import finite
from rft_cli.types import Estimate
from rft_cli.view.comparing import Compared
from rft_cli.view.curves import Chart
from rft_cli.view.excerpt import Excerpt, read_common, read_excerpt
from rft_cli.view.overview import Overview
from rft_cli.view.reading import ReadProblems
from rft_cli.view.validations import distribution
from rft_cli.view.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

SCRIPTS = ("uplot/uPlot.iife.min.js", "report.js")
STYLES = ("uplot/uPlot.min.css", "report.css")


def run_page(run: Overview) -> str:
    """The report of one run."""
    problems = ReadProblems()
    excerpt = read_excerpt(run.entry.path, run.entry.best_step, problems)
    run = replace(run, problems=list(dict.fromkeys([*run.problems, *problems.texts])))
    rows = _table(run)
    sections = [("result", "Result"), ("diagnosis", "Diagnosis")]
    sections += [("curves", "Curves")] if run.charts else []
    sections += [("completions", "Completions")] if excerpt.rows else []
    return _render(
        "run.html",
        title=f"{run.entry.name} – rft report",
        sections=[*sections, ("setup", "Setup")],
        charts=run.charts,
        data={"several": False, "best": run.entry.best_step, "rows": [row.to_json() for row in excerpt.rows]},
        run=run,
        rows=rows,
        split=run.split,
        scale=_scale([row.difference for row in rows]),
        excerpt=excerpt,
        histograms=_histograms(excerpt),
    )


def comparison_page(compared: Compared) -> str:
    """The report of two to five runs, their curves over each other."""
    names = [visible(run.entry.name, 60) for run in compared.runs]
    charts = _over_each_other(compared.runs, names)
    common = read_common(compared)
    return _render(
        "comparison.html",
        title=" against ".join([names[0], ", ".join(names[1:])]),
        sections=[
            ("result", "Result"),
            *([("curves", "Curves")] if charts else []),
            *([("completions", "Completions")] if common else []),
            ("diagnosis", "Diagnosis"),
            ("setup", "Settings"),
        ],
        charts=charts,
        data={"several": True, "best": 0, "rows": [row.to_json() for row in common]},
        common=common,
        compared=compared,
        scale=_scale([row.difference for row in compared.differences]),
    )


def _table(run: Overview) -> list[SummaryRow]:
    if run.summary is not None:
        return list(run.summary.table)
    return [SummaryRow(name, c.before, c.after, c.difference) for name, c in run.measured.items()]


def _scale(differences: Sequence[Estimate]) -> tuple[float, float]:
    """The lowest and the highest end of any interval, and 0: what the pictures of differences are scaled by."""
    ends = [end for found in differences for end in (*found.ci95, found.mean)]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (-1.0, 1.0)


def _histograms(excerpt: Excerpt) -> list[dict[str, Any]]:
    found = []
    for split, (before, after) in excerpt.rewards.items():
        every = [*before, *after]
        if not every:
            continue
        low, high = min(every), max(every)
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        found.append(
            {
                "split": split,
                "before": distribution(before, low, high),
                "after": distribution(after, low, high),
                "low": low,
                "high": high,
            }
        )
    return found


def _over_each_other(runs: Sequence[Overview], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """A chart for each figure that some run has, with the curves of all of them; `run` is the place of its run."""
    found: dict[str, dict[str, Any]] = {}
    for place, run in enumerate(runs):
        for chart in run.charts:
            if chart.stacked:  # the phases of several runs would not be told apart
                continue
            known = found.setdefault(chart.name, {**chart.to_json(), "curves": []})
            for curve in chart.curves:
                label = f"{names[place]} {curve.source}"
                known["curves"].append({**curve.to_json(), "label": label, "run": place})
    return list(found.values())


def _render(template: str, data: Mapping[str, Any], charts: Sequence[Any], **values: Any) -> str:
    from markupsafe import Markup

    drawn = [chart.to_json() if isinstance(chart, Chart) else chart for chart in charts]
    scripts, styles = [_asset(name) for name in SCRIPTS], "\n".join(_asset(name) for name in STYLES)
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            charts=drawn,
            data=Markup(embedded({**data, "charts": drawn})),
            scripts=[Markup(script) for script in scripts],
            styles=Markup(styles),
            licence=Markup(_asset("uplot/LICENSE")),
            policy=_policy(scripts, styles),
            version=__version__,
            written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )
    )


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


def _policy(scripts: Sequence[str], styles: str) -> str:
    allowed = " ".join(map(_hash, scripts))
    return f"default-src 'none'; script-src {allowed}; style-src {_hash(styles)}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@cache
def _asset(name: str) -> str:
    return files("rft_cli.pages").joinpath("static", *name.split("/")).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return make_environment("rft_cli.pages")
