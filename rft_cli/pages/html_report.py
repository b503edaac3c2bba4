"""The report as one HTML file: no network, no build step, nothing of a run that could run.

Every text of a run is escaped by Jinja or set as text by the scripts, control characters are shown as escapes, and the
page's own Content-Security-Policy lets only the scripts and styles run whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rft_cli import __version__
from rft_cli.pages.environment import make_environment
from rft_cli.pages.figures import difference_scale, drawn_charts, histograms, over_each_other, result_rows
from rft_cli.pages.script_data import embedded
from rft_cli.view.comparing import Compared
from rft_cli.view.excerpt import read_common, read_excerpt
from rft_cli.view.overview import Overview
from rft_cli.view.reading import ReadProblems
from rft_cli.view.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

SCRIPTS = ("uplot/uPlot.iife.min.js", "theme.js", "charts.js", "explorer.js", "report.js")
STYLES = ("uplot/uPlot.min.css", "report.css")


def run_page(run: Overview) -> str:
    """The report of one run."""
    problems = ReadProblems()
    excerpt = read_excerpt(run.entry.path, run.entry.best_step, problems)
    run = replace(run, problems=list(dict.fromkeys([*run.problems, *problems.texts])))
    rows = result_rows(run)
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
        scale=difference_scale([row.difference for row in rows]),
        excerpt=excerpt,
        histograms=histograms(excerpt.rewards),
    )


def comparison_page(compared: Compared) -> str:
    """The report of two to five runs, their curves over each other."""
    names = [visible(run.entry.name, 60) for run in compared.runs]
    charts = over_each_other(compared.runs, names)
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
        scale=difference_scale([row.difference for row in compared.differences]),
    )


def _render(template: str, data: Mapping[str, Any], charts: Sequence[Any], **values: Any) -> str:
    from markupsafe import Markup

    drawn = drawn_charts(charts)
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
