"""What the final table says, as plain data, which `console/` draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rft_cli.config.suggest import counted
from rft_cli.report.collapse import best_constant
from rft_cli.report.conclusions import GAMED, answers_note, headline, matters, reward_verdict
from rft_cli.report.gaming.verdict import Gaming
from rft_cli.report.pairs import Pair, read_pairs
from rft_cli.runs import Run
from rft_cli.types import Comparison, Estimate, Sample

SHOWN = 5
NOTHING_BEAT = "Nothing beat the base model on the validation rows: the best model is the base, unchanged."
MOST_WARNINGS = 8


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One measured quantity before and after; `difference` is the paired one."""

    label: str
    before: Estimate
    after: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class CompletionPair:
    """One row's completion before and after. `verdict`: better, same or worse."""

    verdict: str
    prompt: str
    before: str
    after: str
    before_reward: float
    after_reward: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything printed at the end of a job.

    `split` says which rows `table` is about; `headline` is the verdict; `notes` are further lines; `warnings` are what
    the job warned of on its way, `diagnosis` says why it gained or did not.
    """

    headline: str
    split: str
    table: tuple[SummaryRow, ...]
    notes: tuple[str, ...]
    completions: tuple[CompletionPair, ...]
    run: str
    next: str
    warnings: tuple[str, ...] = ()
    diagnosis: tuple[str, ...] = ()


def build_summary(run: Run, result: Mapping[str, Any]) -> Summary:
    """The summary of a finished run from its result and its samples."""
    pairs = read_pairs(run, result["best_step"])
    pair, validation = pairs[-1], pairs[0]
    reward = _comparison(result[pair.split])
    table = [_row("reward", reward), *constant_rows(pair)]
    guard = (result.get("guard") or {}).get(pair.split)
    table += [] if guard is None else [_row("guard", _comparison(guard))]
    table += [_row(name, _comparison(found)) for name, found in result["components"].items()]
    shown = () if result["best_step"] == 0 else tuple(pick_completions(pair, SHOWN))
    return Summary(
        headline=NOTHING_BEAT if result["best_step"] == 0 else _headline(result, reward, pair),
        split=pair.split,
        table=tuple(table),
        notes=tuple(_notes(result, pair, validation)),
        warnings=tuple(_warnings(result)),
        diagnosis=tuple(str(found["text"]) for found in result.get("diagnosis", ())),
        completions=shown,
        run=result["run"],
        next=result["next"],
    )


def _headline(result: Mapping[str, Any], reward: Comparison, pair: Pair) -> str:
    alarm = (result.get("guard") or {}).get(pair.split, {}).get("alarm")
    said = [headline(reward, pair), _gaming(result).sentence]
    said += [] if alarm is None else [f"Guard: {alarm}."]
    return " ".join(text for text in said if text)


def _gaming(result: Mapping[str, Any]) -> Gaming:
    # a result that an older version wrote has none
    found = result.get("gaming")
    return Gaming("not measured") if found is None else Gaming.from_json(found)


def _warnings(result: Mapping[str, Any]) -> list[str]:
    found = [str(text).splitlines()[0] for text in result.get("warnings", ()) if str(text).strip()]
    left = len(found) - MOST_WARNINGS
    return [*found[:MOST_WARNINGS], *([f"and {left} more, in run.json"] if left > 0 else [])]


def constant_rows(pair: Pair) -> list[SummaryRow]:
    """The best constant answer in the place of the base, where it is worth a line."""
    found = best_constant(pair.constants, pair.after)
    if found is None or not matters(found, pair):
        return []
    return [SummaryRow("best constant", found.reward, found.after, found.difference)]


def _comparison(found: Mapping[str, Any]) -> Comparison:
    def read(name: str) -> Estimate:
        row = found[name]
        return Estimate(mean=row["mean"], ci95=(row["ci95"][0], row["ci95"][1]), n=row["n"])

    return Comparison(read("before"), read("after"), read("difference"))


def _row(label: str, found: Comparison) -> SummaryRow:
    return SummaryRow(label, found.before, found.after, found.difference)


def _notes(result: Mapping[str, Any], pair: Pair, validation: Pair) -> list[str]:
    notes = [_rows_note(result, pair)]
    answers = answers_note(pair)
    notes += [] if answers is None else [answers]
    notes += _gaming(result).lines()
    notes += _reward_notes(result, validation)
    advice = result.get("advice")
    return [*notes, *_grader_notes(result["grader"]), *([] if advice is None else [advice])]


def _grader_notes(grader: Mapping[str, Any]) -> list[str]:
    """The three outcomes, where there is more to say than that all was graded; and why grades failed."""
    notes = []
    if grader["failed"] or grader["skipped"]:
        # a result that an older version wrote has none
        rates = grader.get("rates", {})
        counts = (
            f"{grader[name]} {name}" + (f" ({rates[name]:.1%})" if name in rates else "")
            for name in ("graded", "skipped", "failed")
        )
        notes.append(
            f"Grader: of the completions {', '.join(counts)}; skipped and failed ones were left out."
        )
    else:
        notes.append(f"Grader: all of {grader['graded']:,} completions were graded.")
    latency = grader.get("latency_s", {})
    if latency.get("p50") is not None:
        half, most = (f"{latency[name] * 1000:.3g} ms" for name in ("p50", "p99"))
        notes[-1] += f" Half of the grades took at most {half}, 99 % at most {most}."
    for reason in grader.get("reasons", ()):
        notes.append(f"  failed {reason['count']} × {reason['kind']}: {reason['message']}")
    return notes


def _rows_note(result: Mapping[str, Any], pair: Pair) -> str:
    compared = counted(result["checkpoints_compared"], "checkpoint")
    rows = counted(len({sample.row for sample in pair.before}), f"{pair.split} row")
    if result["best_step"] == 0:
        return f"{rows}. Compared with the base on the validation rows: {compared}."
    chosen = f"the best checkpoint (step {result['best_step']}) was chosen among {compared} on "
    if pair.split == "test":
        return f"{rows} (not used to choose the checkpoint): {chosen}the validation rows."
    return (
        f"{rows}: {chosen}these same rows, so its gain is a little flattered. "
        "--test FILE measures it on rows that choose nothing."
    )


def _reward_notes(result: Mapping[str, Any], validation: Pair) -> list[str]:
    taught = result.get("training_loss")
    training = result["training_reward"] if taught is None else taught
    first, last = training["first"], training["last"]
    if first is None or last is None:
        return []
    reward = _comparison(result["validation"])
    lines = []
    if taught is not None:
        lines.append(f"Training loss {first:.3g} -> {last:.3g} nats a token of the references")
    elif first != last:
        # one step is its own first and last
        lines.append(
            f"Training reward {first:.3f} -> {last:.3f} (at the beginning and at the end, as sampled)"
        )
    if not result["best_step"]:
        lines.append(f"validation reward of the base {reward.before.mean:.3f}.")
    else:
        gamed = _gaming(result).verdict == "gamed"
        gain = 0.0 if taught is not None else last - first
        verdict = GAMED if gamed else reward_verdict(reward, gain, validation)
        lines.append(f"validation reward {reward.before.mean:.3f} -> {reward.after.mean:.3f}: {verdict}")
    line = ", ".join(lines)
    return [line[0].upper() + line[1:]]


def pick_completions(pair: Pair, count: int) -> list[CompletionPair]:
    """Up to `count` rows, most improved first, with one unchanged and one worse row where there are any."""
    after = {sample.row: sample for sample in reversed(pair.after) if sample.grade.status == "graded"}
    shown: dict[int, CompletionPair] = {}
    for sample in pair.before:
        if sample.grade.status == "graded" and sample.row in after and sample.row not in shown:
            shown[sample.row] = _shown(sample, after[sample.row])
    by_gain = sorted(shown.values(), key=lambda item: item.before_reward - item.after_reward)
    better = [item for item in by_gain if item.verdict == "better"]
    same = [item for item in by_gain if item.verdict == "same"]
    same.sort(key=lambda item: (item.before == item.after, -item.after_reward))
    worse = [item for item in reversed(by_gain) if item.verdict == "worse"]
    picked = same[:1] + worse[:1]
    # Spread over the improved rows: the five largest gains would all look alike.
    room = max(0, count - len(picked))
    stride = max(1, len(better) // room) if room else 1
    picked = better[::stride][:room] + picked
    rest = [item for item in better + same + worse if item not in picked]
    order = {"better": 0, "same": 1, "worse": 2}
    return sorted((picked + rest)[:count], key=lambda item: order[item.verdict])


def _shown(before: Sample, after: Sample) -> CompletionPair:
    first, second = before.grade.reward or 0.0, after.grade.reward or 0.0
    verdict = "same" if abs(second - first) < 1e-9 else "better" if second > first else "worse"
    return CompletionPair(verdict, before.prompt, before.completion, after.completion, first, second)
