"""One run as people look at it: result, curves, diagnosis, warnings, pilot, configuration, files.

Reads run.json, metrics.jsonl, the validations and small files; no rollouts, so that a long run opens at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rft_cli.errors import RftError
from rft_cli.report.diagnosis import Diagnosis, diagnose_run
from rft_cli.report.gaming.verdict import Gaming
from rft_cli.report.summary import Summary, build_summary
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import of_where_it_is, resume_command
from rft_cli.runs.warnings import texts
from rft_cli.types import Comparison
from rft_cli.view.completions import changes
from rft_cli.view.curves import Chart, Validations, charts
from rft_cli.view.entries import DIED, Entry, entry_of
from rft_cli.view.intervals import mean_cis
from rft_cli.view.read_once import RunReadOnce
from rft_cli.view.reading import ReadProblems, objects, text_of
from rft_cli.view.stored_estimates import comparison_of
from rft_cli.view.validations import read_validations

_DAMAGE = (RftError, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What reading a damaged part of a run can raise."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file or model that the run was made from. `digest` is its SHA-256 in hex, empty where it was not taken."""

    what: str
    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """`measured`: name → before, after, difference; for a run without a result those of the best step so far.

    `summary` is what the job printed at its end, None before that. `validations` is what the charts are made of beside
    metrics.jsonl. `diagnosed` is False where there could be no diagnosis; `problems` says what could not be read.
    """

    entry: Entry
    info: Mapping[str, Any]
    measured: Mapping[str, Comparison]
    split: str
    summary: Summary | None
    validations: Validations
    charts: Sequence[Chart]
    diagnosis: Sequence[Diagnosis]
    diagnosed: bool
    warnings: Sequence[str]
    pilot: Mapping[str, Any] | None
    config: str
    scorer: Mapping[str, str]
    inputs: Sequence[Input]
    next: str
    steps: int
    problems: Sequence[str]

    @property
    def headline(self) -> str:
        """The result in a sentence, or how far the job is."""
        if self.summary is not None:
            return self.summary.headline
        if not self.measured:
            return "Nothing was measured yet."
        if self.entry.best_step == 0:
            return "Not finished: nothing has beaten the base yet."
        return f"Not finished: the best checkpoint so far is step {self.entry.best_step}."

    @property
    def steps_made(self) -> str:
        """The number of steps with its word."""
        return f"{self.steps} step{'' if self.steps == 1 else 's'}"

    @property
    def no_findings(self) -> str:
        """What stands in the place of a diagnosis that is empty."""
        if not self.diagnosed:
            return "there is no diagnosis: a part of the run could not be read"
        return "nothing stands out" if self.steps else "no steps to diagnose yet"

    @property
    def signs(self) -> list[str]:
        """Lines on whether the gain looks gamed: the signs with their examples, or why nothing was measured."""
        found = self.part("gaming")
        try:
            return [] if found is None else Gaming.from_json(found).lines()
        except _DAMAGE:
            return []

    def part(self, name: str) -> Any:
        """A part of the result; None where there is no result, or it lacks that."""
        result = self.info.get("result")
        return result.get(name) if isinstance(result, Mapping) else None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "rft.show/1",
            **self.entry.to_json(),
            "error": self.info.get("error"),
            "split": self.split or None,
            "measured": {name: found.to_json() for name, found in self.measured.items()},
            "headline": None if self.summary is None else self.summary.headline,
            "diagnosis": [found.to_json() for found in self.diagnosis],
            "warnings": list(self.warnings),
            "charts": [chart.to_json() for chart in self.charts],
            **{name: self.part(name) for name in ("gaming", "guard", "grader")},
            "pilot": None if self.pilot is None else dict(self.pilot),
            "settings": self.info.get("settings") or {},
            "inputs": [{"what": s.what, "name": s.name, "sha256": s.digest or None} for s in self.inputs],
            "versions": self.info.get("versions") or {},
            "next": self.next,
            "problems": list(self.problems),
        }


def read_overview(run: Run) -> Overview:
    """What this run, as `Run.open` gave it, holds now; what can't be read is named in `problems`."""
    problems = ReadProblems()
    run = RunReadOnce(run.path)
    info = run.info
    entry = entry_of(run.path, info)
    lines = list(objects(run.metrics_path, problems))
    validations = read_validations(run.path, problems)
    result, diagnosis = info.get("result"), _diagnosis(run, lines, problems)
    return Overview(
        entry=entry,
        info=info,
        **_measured(run, entry, result, problems),
        summary=_summary(run, result, problems),
        validations=validations,
        charts=charts(lines, validations, entry.algorithm),
        diagnosis=diagnosis or (),
        diagnosed=diagnosis is not None,
        warnings=_warnings(run, problems),
        pilot=run.read_pilot(),
        config=text_of(run.path / "config.yaml", problems),
        scorer={
            str(file.relative_to(run.path / "scorer")): text_of(file, problems)
            for file in sorted((run.path / "scorer").glob("**/*"))[:10]
            if file.is_file()
        },
        inputs=_inputs(info),
        next=_next(run, entry, info),
        steps=_steps(lines),
        problems=problems.texts,
    )


def with_new_steps(seen: Overview) -> Overview:
    """The same with the steps that metrics.jsonl has got since; the rest, the diagnosis too, as it was read before."""
    problems = ReadProblems()
    lines = list(objects(Run(seen.entry.path).metrics_path, problems))
    return replace(
        seen,
        charts=charts(lines, seen.validations, seen.entry.algorithm),
        steps=_steps(lines),
        problems=list(dict.fromkeys([*seen.problems, *problems.texts])),
    )


def _steps(lines: Sequence[Mapping[str, Any]]) -> int:
    return max((s for line in lines if isinstance(s := line.get("step"), int)), default=0)


def _measured(run: Run, entry: Entry, result: object, problems: ReadProblems) -> dict[str, Any]:
    """`split` and `measured`."""
    if isinstance(result, Mapping) and entry.reward is not None:
        components = result.get("components")
        named = components.items() if isinstance(components, Mapping) else ()
        found = {"reward": entry.reward}
        guard = comparison_of((result.get("guard") or {}).get(entry.split) or {})
        found |= {} if guard is None else {"guard": guard}
        found |= {
            str(n): c for n, v in named if isinstance(v, Mapping) and (c := comparison_of(v)) is not None
        }
        return {"split": entry.split, "measured": found}
    rows = changes(run.path, "validation", entry.best_step, problems)
    both = [
        (c.before_reward, c.after_reward) for c in rows if c.before_reward is not None and c.gain is not None
    ]
    before, after = [b for b, _ in both], [a for _, a in both if a is not None]
    estimates = mean_cis([before, after, [a - b for b, a in zip(before, after, strict=True)]])
    first, second, difference = estimates
    if first is None or second is None or difference is None:
        return {"split": "", "measured": {}}
    return {"split": "validation", "measured": {"reward": Comparison(first, second, difference)}}


def _summary(run: Run, result: object, problems: ReadProblems) -> Summary | None:
    if not isinstance(result, Mapping):
        return None
    try:
        return build_summary(run, result)
    except _DAMAGE as error:
        problems.add(run.path / "validation", f"the result can't be shown in full: {_reason(error)}")
        return None


def _diagnosis(
    run: Run, lines: Sequence[Mapping[str, Any]], problems: ReadProblems
) -> list[Diagnosis] | None:
    """None where a damaged part leaves none."""
    try:
        return diagnose_run(run, lines)
    except _DAMAGE as error:
        problems.add(run.path / "validation", f"no diagnosis: {_reason(error)}")
        return None


def _warnings(run: Run, problems: ReadProblems) -> list[str]:
    try:
        return [of_where_it_is(text, run.path, run.info) for text in texts(run)]
    except _DAMAGE as error:
        problems.add(run.path / "run.json", f"no warnings: {_reason(error)}")
        return []


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"a line lacks the key {error}"[:120]
    if isinstance(error, TypeError | AttributeError | ValueError) and not isinstance(error, RftError):
        return f"a value is of another kind than rft writes ({error})".splitlines()[0][:120]
    if isinstance(error, RftError | OSError):
        return str(error).splitlines()[0][:120]
    return f"{type(error).__name__} {error}".splitlines()[0][:120]


def _inputs(info: Mapping[str, Any]) -> list[Input]:
    settings, hashes = info.get("settings") or {}, info.get("hashes") or {}
    found = [Input("model", str(info.get("model") or ""), _digest(info.get("base")))]
    for what, key in (("train", "data.train"), ("validation", "data.validation"), ("test", "data.test"),
                      ("grader", "grader.path"), ("guard", "grader.guard")):  # fmt: skip
        name = settings.get(key)
        if name:
            shown = ", ".join(map(str, name)) if isinstance(name, list) else str(name)
            found.append(Input(what, shown, _digest(hashes.get(what))))
    return found


def _digest(said: object) -> str:
    return said.removeprefix("sha256 ") if isinstance(said, str) else ""


def _next(run: Run, entry: Entry, info: Mapping[str, Any]) -> str:
    """The command that comes next; empty while the job runs."""
    result = info.get("result")
    if isinstance(result, Mapping) and isinstance(result.get("next"), str):
        return of_where_it_is(result["next"], run.path, info)
    return resume_command(run.path) if entry.status in (DIED, "interrupted", "failed") else ""


def open_run(ref: str, output_dir: str | Path) -> Run:
    """The run that `ref` means; a UsageError where there is none, or it can't be read."""
    return Run.open(ref, output_dir)
