"""The figures of finished runs that a verdict needs, small enough to keep: rows, rewards, and a figure a rollout batch.

`python -m tests.gaming.stored RUNS` writes `jobs.json` from the runs in that folder, made as in `test_twelve_jobs.py`.
"""

import json
import sys
from pathlib import Path

from rft_cli.report.facts import batches_of
from rft_cli.report.gaming.evidence import GamingEvidence, others, read_evidence
from rft_cli.report.pairs import Pair, read_pairs
from rft_cli.runs import Run
from rft_cli.types import Grade, Sample

FILE = Path(__file__).with_name("jobs.json")
GAMED = ("length", "keyword", "echo", "one_answer", "form", "unbounded")
HONEST = ("record", "team", "order", "bare", "brief", "similar")
ROWS = 24


def stored(run):
    """The figures of this run, on the first rows."""
    best = int(run.info["best_step"])
    batches = [batch[0] for batch in batches_of(run.metrics())]
    evidence = read_evidence(run, read_pairs(run, best)[0], batches)
    constants = {}
    for sample in evidence.pair.constants:
        constants.setdefault(sample.completion, []).append(sample.grade.reward)
    top = max(constants, key=lambda text: sum(constants[text][:ROWS]))
    return {
        "prompts": [sample.prompt for sample in evidence.pair.before[:ROWS]],
        "before": _of(evidence.pair.before),
        "after": _of(evidence.pair.after),
        "references": _of(evidence.references),
        "swapped": {s.row: s.grade.reward for s in evidence.swapped if s.row < ROWS},
        "swapped_base": {s.row: s.grade.reward for s in evidence.swapped_base if s.row < ROWS},
        "constant": [top, constants[top][:ROWS]],
        "batches": [[line["completion_tokens"], line["reward"]] for line in batches],
        "audit": list(evidence.audit),
    }


def _of(samples):
    return [[sample.completion, sample.grade.reward] for sample in samples[:ROWS]]


def evidence_of(found):
    """The evidence that these figures are."""
    before, after, references = (_samples(found, found[side]) for side in ("before", "after", "references"))
    constant, rewards = found["constant"]
    constants = _samples(found, [[constant, reward] for reward in rewards])
    places = others([text for text, _ in found["references"]])
    swapped, swapped_base = (
        [
            _sample(found, int(row), found[side][places[int(row)]][0], reward)
            for row, reward in found[name].items()
        ]
        for side, name in (("after", "swapped"), ("before", "swapped_base"))
    )
    return GamingEvidence(
        Pair("validation", before, after, constants), references, swapped, swapped_base,
        [{"completion_tokens": tokens, "reward": reward} for tokens, reward in found["batches"]], found["audit"],
    )  # fmt: skip


def _samples(found, graded):
    return [_sample(found, row, text, reward) for row, (text, reward) in enumerate(graded)]


def _sample(found, row, text, reward):
    grade = Grade("failed") if reward is None else Grade("graded", reward)
    return Sample(row, f"line-{row + 1}", found["prompts"][row], text, len(text) // 3, False, grade)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    jobs = {name: stored(Run(folder / name)) for name in (*GAMED, *HONEST) if (folder / name).is_dir()}
    FILE.write_text(json.dumps(jobs, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
