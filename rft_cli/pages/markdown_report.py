"""The report as Markdown, for a pull request or a job's summary in CI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rft_cli.console.text import duration, interval, number
from rft_cli.report.markdown import code, prose
from rft_cli.report.summary import SummaryRow
from rft_cli.view.comparing import Compared
from rft_cli.view.completions import Change, Split, changes, gains, losses
from rft_cli.view.overview import Overview
from rft_cli.view.reading import ReadProblems
from rft_cli.view.visible import title

SHOWN = 3
"""Rows that gained and rows that lost."""
WIDEST = 160
"""Characters of a prompt or completion."""


def run_markdown(run: Overview) -> str:
    """The report of one run."""
    entry = run.entry
    took = "" if entry.seconds is None else duration(entry.seconds)
    steps = f"{run.steps_made}, best {entry.best_step}"
    facts = [prose(entry.status), code(entry.model), prose(entry.algorithm), steps, took]
    parts = [f"## rft: {prose(entry.name)}", prose(run.headline), *_table(run)]
    parts.append(" · ".join(fact for fact in facts if fact))
    error = run.info.get("error")
    if error:
        parts.append(f"**{prose(title(str(error), 300))}**")
    parts += _list("Whether the scorer was fooled", run.signs)
    parts += _list("Diagnosis", [found.text for found in run.diagnosis])
    parts += _list("Warnings", run.warnings)
    parts += _list("Could not be read", run.problems)
    parts += _completions(run)
    if run.next:
        parts.append(f"Next: {code(run.next)}")
    return "\n\n".join(parts) + "\n"


def comparison_markdown(compared: Compared) -> str:
    """The report of two to five runs."""
    names = [prose(run.entry.name) for run in compared.runs]
    runs = ["| run | status | before | after | best step | time |", "|---|---|---:|---:|---:|---:|"]
    for name, run in zip(names, compared.runs, strict=True):
        reward, seconds = run.measured.get("reward"), run.entry.seconds
        cells = ["–", "–"] if reward is None else [interval(reward.before), interval(reward.after)]
        time = "–" if seconds is None else duration(seconds)
        runs.append(
            f"| {name} | {prose(run.entry.status)} | {' | '.join(cells)} | {run.entry.best_step} | {time} |"
        )
    parts = [f"## rft: {names[0]} against {', '.join(names[1:])}"]
    parts += [prose(verdict) for verdict in compared.verdicts]
    parts.append("\n".join(runs))
    if compared.differences:
        lines = ["| run | figure | first | this run | difference | rows |", "|---|---|---:|---:|---:|---:|"]
        lines += [
            f"| {prose(row.run)} | {prose(row.figure)} | {number(row.first.mean)} | {number(row.other.mean)} | "
            f"{interval(row.difference, sign=True)} | {row.rows} |"
            for row in compared.differences
        ]
        parts += [f"Difference from {names[0]}, paired by {compared.split} row:", "\n".join(lines)]
    if compared.settings:
        lines = [f"| setting | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
        for key, values in compared.setting_texts().items():
            lines.append(f"| {code(key)} | {' | '.join(code(title(v, 60)) for v in values)} |")
        parts += ["Settings that differ:", "\n".join(lines)]
    return "\n\n".join([*parts, *_list("Notes", compared.notes)]) + "\n"


def _table(run: Overview) -> list[str]:
    rows: Iterable[SummaryRow] = (
        run.summary.table
        if run.summary is not None
        else [SummaryRow(name, c.before, c.after, c.difference) for name, c in run.measured.items()]
    )
    lines = [
        f"| {prose(row.label)} | {interval(row.before)} | {interval(row.after)} | "
        f"{interval(row.difference, sign=True)} |"
        for row in rows
    ]
    if not lines:
        return []
    head = [f"| {run.split} rows | before | after | difference |", "|---|---:|---:|---:|"]
    return [
        "\n".join([*head, *lines]),
        "<sub>Means over rows, 95 % bootstrap intervals, paired difference.</sub>",
    ]


def _list(name: str, lines: Sequence[str]) -> list[str]:
    return (
        ["\n".join([f"**{name}**\n", *(f"- {prose(title(line, 500))}" for line in lines)])] if lines else []
    )


def _completions(run: Overview) -> list[str]:
    splits: Sequence[Split] = ("test", "validation")
    for split in splits:
        found = changes(run.entry.path, split, run.entry.best_step, ReadProblems())
        shown = [*gains(found, SHOWN), *losses(found, SHOWN)]
        if shown:
            rows = "\n".join(map(_change, shown))
            table = f"| row | reward | prompt (end) | before | after |\n|---|---|---|---|---|\n{rows}"
            summary = f"Completions: largest gains and losses of the {split} rows"
            return [f"<details><summary>{summary}</summary>\n\n{table}\n\n</details>"]
    return []


def _change(change: Change) -> str:
    reward = f"{number(change.before_reward)} → {number(change.after_reward)}"
    prompt = change.after.prompt[-WIDEST:]
    texts = (title(text, WIDEST) for text in (prompt, change.before.text, change.after.text))
    return f"| {prose(change.after.id)} | {reward} | {' | '.join(map(code, texts))} |"
