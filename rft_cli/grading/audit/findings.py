"""From rewards to findings: what is right, what should be looked at, what must be mended."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import pstdev

from rft_cli.grading import latency
from rft_cli.grading.audit.probes import EMPTY, EXPLOITS, HALF, OTHER, REFERENCE, WRITTEN, Probe
from rft_cli.grading.audit.report import Finding, Group, Level
from rft_cli.grading.audit.results import Tries, Try

_OF_THE_TEXT = ("sample_parse", "invalid_variable", "judge_refusal")
"""Failures that the completion's own form explains: the grader refuses what it can't read."""


def findings_of(tries: Tries, timeout_s: float) -> list[Finding]:
    """Every finding, in the order of the report."""
    found = [_reference(tries)]
    found += [_wrong(tries, probe) for probe in (OTHER, HALF) if tries.of(probe)]
    if tries.of(WRITTEN):
        found.append(_written(tries))
    if tries.of(EMPTY):
        found.append(_order(tries))
    found += [_exploit(tries, probe) for probe in EXPLOITS if tries.of(probe)]
    if tries.repeats:
        found.append(_repeats(tries))
    found.append(_spread(tries))
    if not tries.follows_row:
        found.append(_no_row())
    return [*found, _latency(tries, timeout_s)]


def _reference(tries: Tries) -> Finding:
    tried = tries.of(REFERENCE)
    failing = [t for t in tried if tries.gold_fails(t.place)]
    skipped = [t for t in tried if t.grade.status == "skipped"]
    best = max((t.grade.reward for t in tried if t.grade.reward is not None), default=0.0)
    lower = [t for t in tried if t.grade.reward is not None and t.grade.reward < best - tries.margin]
    if failing:
        broken = _failed(failing)
        text = (
            _failure_text(broken, len(tried)) if broken else f"no more than wrong ones{_on(failing, tried)}"
        )
        return _finding(tries, REFERENCE, "problem", text, failing)
    if skipped:
        level: Level = "problem" if len(skipped) == len(tried) else "warning"
        return _finding(tries, REFERENCE, level, f"skipped{_on(skipped, tried)}", skipped)
    if lower:
        lowest = sorted(lower, key=lambda t: t.grade.reward or 0.0)
        return _finding(
            tries, REFERENCE, "warning", f"below the best ({best:.4g}){_on(lower, tried)}", lowest
        )
    return _finding(tries, REFERENCE, "ok", f"always the same: {_all(tried)}", [])


def _wrong(tries: Tries, probe: Probe) -> Finding:
    tried = [t for t in tries.of(probe) if tries.reward(REFERENCE, t.place) is not None]
    broken = _failed(tried)
    as_much = [
        t for t in tried if t.grade.reward is not None and tries.as_good_as_gold(t.place, t.grade.reward)
    ]
    if as_much:
        grave = probe.grave and 2 * len(as_much) >= len(tried)
        text = f"as much as the reference{_on(as_much, tried)}"
        return _finding(tries, probe, "problem" if grave else "warning", text, as_much)
    if broken:
        return _finding(
            tries, probe, _failure_level(broken, "problem"), _failure_text(broken, len(tried)), broken
        )
    return _finding(tries, probe, "ok", f"less than the reference: {_all(tried)}", [])


def _written(tries: Tries) -> Finding:
    tried = tries.of(WRITTEN)
    broken = _failed(tried)
    if broken:
        return _finding(
            tries, WRITTEN, _failure_level(broken, "problem"), _failure_text(broken, len(tried)), broken
        )
    return _finding(tries, WRITTEN, "ok", f"counted as honest: {_all(tried)}", [])


def _order(tries: Tries) -> Finding:
    name, steps = "order", (REFERENCE, HALF, EMPTY)
    held, broken = 0, []
    for place in range(len(tries.rows)):
        rewards = [reward for probe in steps if (reward := tries.reward(probe, place)) is not None]
        if all(more >= less - tries.margin for more, less in pairwise(rewards)):
            held += 1
        else:
            broken.append(place)
    rows = len(tries.rows)
    if not broken:
        text = f"reference ≥ half ≥ empty: {_of(rows, rows)}"
        return Finding("wrong", name, "ok", text, hits=0, rows=rows)
    text = f"saying less pays more: {_of(len(broken), rows)}"
    lesser = max(
        (t for probe in (HALF, EMPTY) for t in tries.of(probe) if t.place == broken[0]),
        key=lambda t: t.grade.reward if t.grade.reward is not None else float("-inf"),
    )
    fix = "less of the reference should never earn more: a model finds that out"
    return Finding("wrong", name, "warning", text, None, len(broken), rows, tries.show(lesser), fix)


def _exploit(tries: Tries, probe: Probe) -> Finding:
    tried = tries.of(probe)
    rewarded = [(t, t.grade.reward) for t in tried if t.grade.reward is not None]
    full = [t for t, reward in rewarded if tries.reaches_gold(t.place, reward)]
    over = [t for t, reward in rewarded if not probe.near and tries.beats_honest(t.place, reward)]
    hits = [t for t in tried if t in full or t in over]
    broken = _failed(tried)
    if hits:
        grave = probe.grave and (2 * len(hits) >= len(tried) or tries.beats_median_honest(probe))
        what = "as much as the reference" if len(full) == len(hits) else "more than median honest"
        return _finding(tries, probe, "problem" if grave else "warning", f"{what}{_on(hits, tried)}", hits)
    if broken:
        worst: Level = "problem" if probe is EMPTY else "warning"
        return _finding(
            tries, probe, _failure_level(broken, worst), _failure_text(broken, len(tried)), broken
        )
    return _finding(tries, probe, "ok", f"no gain: {_all(tried)}", [])


def _repeats(tries: Tries) -> Finding:
    apart = [g for g in tries.repeats if len({(x.status, x.reward) for x in g}) > 1]
    count = len(tries.repeats)
    if not apart:
        return Finding("scorer", "three calls", "ok", f"agree: {_of(count, count, 'texts')}", rows=count)
    text = f"differ by up to {tries.noise:.3g}: {_of(len(apart), count, 'texts')}"
    fix = (
        "one text must get one reward: look for random numbers, state kept between calls, a judge's sampling"
    )
    return Finding("scorer", "three calls", "warning", text, None, len(apart), count, None, fix)


def _spread(tries: Tries) -> Finding:
    rewards = tries.honest()
    different = {round(reward, 9) for reward in rewards}
    if len(different) < 2:
        text = "none: all honest ones get the same" if rewards else "no honest completion was graded"
        return Finding(
            "scorer", "spread", "warning", text, fix="where all rewards are equal there is nothing to learn"
        )
    low, high, deviation = min(rewards), max(rewards), pstdev(rewards)
    text = f"{len(different)} values, {round(low, 3):g} to {round(high, 3):g}, std {deviation:.2g}"
    return Finding("scorer", "spread", "ok", text, hits=len(different), rows=len(rewards))


def _no_row() -> Finding:
    return Finding(
        "scorer",
        "use of the row",
        "warning",
        "none: all rows pay a text alike",
        fix="if the reference should count, it does not yet; if it should not, what is said of it above matters little",
    )


def _latency(tries: Tries, timeout_s: float) -> Finding:
    seconds = sorted(t.grade.seconds for t in tries.all_tries())
    slowest, typical = seconds[-1], seconds[len(seconds) // 2]
    text = f"{latency.told(typical)} median, {latency.told(slowest)} slowest"
    if slowest > timeout_s / 2:
        fix = f"a grade may take {timeout_s:g} s (grader.timeout_s), then it fails"
        return Finding("scorer", "latency", "warning", text, fix=fix)
    return Finding("scorer", "latency", "ok", text)


def _finding(tries: Tries, probe: Probe, level: Level, text: str, hits: Sequence[Try]) -> Finding:
    group: Group = "wrong" if probe.kind == "written" else probe.kind
    shown = tries.show(hits[0]) if hits else None
    failed = _failed(hits[:1]) and probe is not REFERENCE
    fix = None if level == "ok" else _FIX_FAILURE if failed else probe.fix
    return Finding(
        group, probe.name, level, text, tries.mean(probe), len(hits), len(tries.of(probe)), shown, fix or None
    )


_FIX_FAILURE = "a model will write the like: give it a low reward, not an error"


def _failed(tried: Sequence[Try]) -> list[Try]:
    return [t for t in tried if t.grade.error is not None]


def _failure_level(broken: Sequence[Try], worst: Level) -> Level:
    of_the_text = all(t.grade.error is not None and t.grade.error.kind in _OF_THE_TEXT for t in broken)
    return "warning" if of_the_text else worst


def _failure_text(broken: Sequence[Try], count: int) -> str:
    return f"fails: {_of(len(broken), count)}"


def _on(hits: Sequence[Try], tried: Sequence[Try]) -> str:
    return f": {_of(len(hits), len(tried))}"


def _all(tried: Sequence[Try]) -> str:
    return _of(len(tried), len(tried))


def _of(part: int, whole: int, what: str = "rows") -> str:
    if part == whole:
        return f"all {whole} {what}" if whole > 1 else f"the {what.removesuffix('s')}"
    return f"{part} of {whole} {what}"
