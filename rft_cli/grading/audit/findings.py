"""From rewards to findings: what is right, what to look at, and what to correct."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import pstdev

from rft_cli.grading.audit.probes import EXPLOITS, HALF, OTHER, REFERENCE, WRITTEN, Probe, empty
from rft_cli.grading.audit.results import Finding, Level, Result, Results
from rft_cli.grading.stats import format_duration

_OF_THE_TEXT = ("sample_parse", "invalid_variable", "judge_refusal")
"""Failures that the completion's own form explains: the grader refuses what it can't read."""
_FIX_FAILURE = "a model will write the like: give it a low reward, not an error"


def findings_of(results: Results, timeout_s: float) -> list[Finding]:
    """Every finding, in the order of the report."""
    found = [_reference(results)]
    checks: list[tuple[Probe, Callable[[Results, Probe], Finding]]] = [
        (OTHER, _wrong), (HALF, _wrong), (WRITTEN, _written), (empty, _order),
        *((probe, _exploit) for probe in EXPLOITS),
    ]  # fmt: skip
    found += [check(results, probe) for probe, check in checks if results.of(probe)]
    if results.repeats:
        found.append(_repeats(results))
    found.append(_spread(results))
    if not results.follows_row:
        text = "none: all rows pay a text alike"
        fix = (
            "if the reference should count, it does not yet; if it should not, what is said of it above matters "
            "little"
        )
        found.append(Finding("scorer", "use of the row", "warning", text, fix=fix))
    return [*found, _latency(results, timeout_s)]


def _reference(results: Results) -> Finding:
    tried = results.of(REFERENCE)
    rewards = [result.grade.reward for result in tried if result.grade.reward is not None]
    best = max(rewards, default=0.0)
    lower = [r for r in tried if r.grade.reward is not None and r.grade.reward < best - results.margin]
    if failing := [result for result in tried if results.gold_fails(result.place)]:
        broken = _failed(failing)
        rows = _of(len(broken or failing), len(tried))
        text = f"fails: {rows}" if broken else f"on {rows} the reference earns no more than wrong texts"
        return _finding(results, REFERENCE, "problem", text, failing)
    if skipped := [result for result in tried if result.grade.status == "skipped"]:
        level: Level = "problem" if len(skipped) == len(tried) else "warning"
        return _finding(results, REFERENCE, level, f"skipped: {_of(len(skipped), len(tried))}", skipped)
    if lower:
        lower.sort(key=lambda result: result.grade.reward or 0.0)
        text = f"below the best ({best:.4g}): {_of(len(lower), len(tried))}"
        return _finding(results, REFERENCE, "warning", text, lower)
    return _finding(results, REFERENCE, "ok", f"always the same: {_of(len(tried), len(tried))}", [])


def _wrong(results: Results, probe: Probe) -> Finding:
    tried = [r for r in results.of(probe) if results.reward(REFERENCE, r.place) is not None]
    hits = [result for result in tried if results.reaches_gold(result)]
    if not hits:
        return _no_gain(results, probe, tried, "less than the reference", "problem")
    level: Level = "problem" if probe.grave and 2 * len(hits) >= len(tried) else "warning"
    text = f"as much as the reference: {_of(len(hits), len(tried))}"
    return _finding(results, probe, level, text, hits)


def _written(results: Results, probe: Probe) -> Finding:
    return _no_gain(results, probe, results.of(probe), "counted as honest", "problem")


def _exploit(results: Results, probe: Probe) -> Finding:
    tried = results.of(probe)
    full = [r for r in tried if results.reaches_gold(r) and not results.gold_fails(r.place)]
    hits = [r for r in tried if r in full or (not probe.near and results.beats_honest(r))]
    if not hits:
        return _no_gain(results, probe, tried, "no gain", "problem" if probe is empty else "warning")
    often = 2 * len(hits) >= len(tried) or results.beats_median_honest(probe)
    what = "as much as the reference" if len(full) == len(hits) else "more than median honest"
    level: Level = "problem" if probe.grave and often else "warning"
    return _finding(results, probe, level, f"{what}: {_of(len(hits), len(tried))}", hits)


def _no_gain(results: Results, probe: Probe, tried: Sequence[Result], what: str, worst: Level) -> Finding:
    """A kind of completion that earns nothing undue: ok, or at `worst` where the scorer fails on it."""
    broken = _failed(tried)
    if not broken:
        return _finding(results, probe, "ok", f"{what}: {_of(len(tried), len(tried))}", [])
    unreadable = all(r.grade.error is not None and r.grade.error.kind in _OF_THE_TEXT for r in broken)
    text = f"fails: {_of(len(broken), len(tried))}"
    return _finding(results, probe, "warning" if unreadable else worst, text, broken)


def _order(results: Results, _: Probe) -> Finding:
    """Whether a reference gets no less than its half, and that no less than an empty text."""
    broken = []
    for place in range(len(results.rows)):
        found = (results.reward(probe, place) for probe in (REFERENCE, HALF, empty))
        rewards = [reward for reward in found if reward is not None]
        if any(more < less - results.margin for more, less in pairwise(rewards)):
            broken.append(place)
    rows = len(results.rows)
    if not broken:
        return Finding("wrong", "order", "ok", f"reference ≥ half ≥ empty: {_of(rows, rows)}", rows=rows)
    lesser = max(
        (r for probe in (HALF, empty) for r in results.of(probe) if r.place == broken[0]),
        key=lambda r: r.grade.reward if r.grade.reward is not None else float("-inf"),
    )
    text = f"saying less pays more: {_of(len(broken), rows)}"
    fix = "less of the reference should never earn more: a model finds that out"
    example = results.evidence(lesser)
    return Finding("wrong", "order", "warning", text, None, len(broken), rows, example, fix)


def _repeats(results: Results) -> Finding:
    apart = [grades for grades in results.repeats if len({(g.status, g.reward) for g in grades}) > 1]
    count = len(results.repeats)
    if not apart:
        return Finding("scorer", "three calls", "ok", f"agree: {_of(count, count, 'texts')}", rows=count)
    text = f"differ by up to {results.noise:.3g}: {_of(len(apart), count, 'texts')}"
    fix = (
        "one text must get one reward: look for random numbers, state kept between calls, a judge's sampling"
    )
    return Finding("scorer", "three calls", "warning", text, None, len(apart), count, None, fix)


def _spread(results: Results) -> Finding:
    rewards = results.honest()
    different = {round(reward, 9) for reward in rewards}
    if len(different) < 2:
        text = "none: all honest ones get the same" if rewards else "no honest completion was graded"
        fix = "where all rewards are equal there is nothing to learn"
        return Finding("scorer", "spread", "warning", text, fix=fix)
    low, high, deviation = min(rewards), max(rewards), pstdev(rewards)
    text = f"{len(different)} values, {round(low, 3):g} to {round(high, 3):g}, std {deviation:.2g}"
    return Finding("scorer", "spread", "ok", text, hits=len(different), rows=len(rewards))


def _latency(results: Results, timeout_s: float) -> Finding:
    seconds = results.seconds()
    slowest, typical = seconds[-1], seconds[len(seconds) // 2]
    text = f"{format_duration(typical)} median, {format_duration(slowest)} slowest"
    if slowest > timeout_s / 2:
        fix = f"a grade may take {timeout_s:g} s (grader.timeout_s), then it fails"
        return Finding("scorer", "latency", "warning", text, fix=fix)
    return Finding("scorer", "latency", "ok", text)


def _finding(results: Results, probe: Probe, level: Level, text: str, hits: Sequence[Result]) -> Finding:
    example = results.evidence(hits[0]) if hits else None
    failed = _failed(hits[:1]) and probe is not REFERENCE
    fix = None if level == "ok" else _FIX_FAILURE if failed else probe.fix
    rows = len(results.of(probe))
    return Finding(
        probe.group, probe.name, level, text, results.mean(probe), len(hits), rows, example, fix or None
    )


def _failed(tried: Sequence[Result]) -> list[Result]:
    return [result for result in tried if result.grade.error is not None]


def _of(part: int, whole: int, what: str = "rows") -> str:
    if part == whole:
        return f"all {whole} {what}" if whole > 1 else f"the {what.removesuffix('s')}"
    return f"{part} of {whole} {what}"
