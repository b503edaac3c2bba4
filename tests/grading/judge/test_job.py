"""Commands with a judge, as people run them: counts in the summary and in metrics, and budgets that end them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft_cli.runs import Run
from tests.command import ROOT, Ended
from tests.command import rft as rft_outside
from tests.faults.jobs import rft_here
from tests.grading.judge.servers import KEY, MODEL, Act, JudgeServer, completion, verdict

SPEC = {
    "type": "score_model",
    "name": "quality",
    "model": MODEL,
    "input": [{"role": "user", "content": "Grade this: {{ sample.output_text }} ({{ item.output }})"}],
}
SMALL = [
    "rollout.group_size=2", "rollout.prompts_per_batch=4", "rollout.max_completion_tokens=8", "ppo.passes=1",
    "ppo.minibatches=1", "ppo.critic_warmup=0", "optim.n_epochs=4", "checkpoint.every_steps=1",
    "optim.learning_rate=1e-3", "pilot.prompts=0",
]  # fmt: skip


class AnyTime:
    """Equal to any line of latencies."""

    def __eq__(self, other: Any) -> bool:
        return str(other).startswith("  a grade took ")


ANY_TIME = AnyTime()
Rft = Callable[..., Ended]


@pytest.fixture
def rft(tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> Rft:
    """Run `rft` in a folder with the judge's spec and two data files; `settings` None: without any.

    `here`: in this process, as for what loads torch.
    """
    (tmp_path / "judge.json").write_text(json.dumps(SPEC))
    for name, start in (("train", 0), ("val", 100)):
        rows = [{"task": "Add.", "input": f"{n} + 1", "output": str(n + 1)} for n in range(start, start + 4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def run(*words: str, settings: Sequence[str] | None = (), here: bool = False, **env: str) -> Ended:
        own = [f"grader.judge.base_url={server.url}", "grader.judge.cache=verdicts"]
        flags = [] if settings is None else [part for one in (*own, *settings) for part in ("--set", one)]
        if here:
            return rft_here(tmp_path, *words, *flags)
        return rft_outside(*words, *flags, folder=tmp_path, env=env)

    return run


def written(folder: Path, count: int) -> None:
    rows = [{"output": "x", "completion": f"text {n}"} for n in range(count)]
    (folder / "done.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_summary_counts_what_judges_were_asked(rft: Rft, server: JudgeServer, tmp_path: Path) -> None:
    written(tmp_path, 4)
    server.acts = [Act(503, {}), Act(body=completion("hm"))]
    done = rft(
        "grade", "--reward-model", "judge.json", "--summary", "done.jsonl",
        settings=["grader.judge.concurrency=1", f"grader.judge.prices=[{MODEL}=10/50]", "grader.max_failure_rate=0.5"],
    )  # fmt: skip
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert (summary["graded"], summary["failures"]) == (3, {"judge_parse": 1})
    # Four answered requests of 100 tokens read and 20 written: 4 × (100 × 10 + 20 × 50) / 1e6 dollars.
    spent = {
        "requests": 4,
        "input_tokens": 400,
        "output_tokens": 80,
        "cost": pytest.approx(0.008),
        "unmetered": 0,
    }
    assert summary["judges"] == {
        **spent,
        "cache_hits": 0,
        "retries": 1,
        "clamped": 0,
        "models": {MODEL: spent},
    }


def test_a_budget_ends_grading_after_the_rows_it_paid_for(
    rft: Rft, server: JudgeServer, tmp_path: Path
) -> None:
    written(tmp_path, 9)
    # A request uses 120 tokens: four are 480, and the fifth spends the budget.
    settings = ["grader.judge.concurrency=1", "grader.judge.max_tokens=500"]
    done = rft(
        "grade", "--reward-model", "judge.json", "done.jsonl", "--summary-file", "sum.json", settings=settings
    )
    assert done.code == 3
    spent = "5 requests, 500 tokens read, 100 written"
    assert done.err.splitlines() == [
        "score_model grader 'quality': 5 rows",
        "  5 graded, 0 skipped, 0 failed",
        "  mean reward 0.5000 (min 0.5, max 0.5)",
        ANY_TIME,
        f"  judges: {spent}",
        f"error: the judge's budget is spent: {spent}",
        "  fix: raise grader.judge.max_tokens, or go on with the same budget anew: "
        "verdicts are kept in the cache, so only the rest is paid for",
    ]
    assert json.loads((tmp_path / "sum.json").read_text())["rows"] == 5
    assert [json.loads(line)["grade"]["reward"] for line in done.out.splitlines()] == [0.5] * 5
    # The rest, with the same budget: the first five come from the cache.
    again = rft("grade", "--reward-model", "judge.json", "done.jsonl", settings=settings)
    assert again.code == 0, again.err
    assert len(again.out.splitlines()) == 9
    assert len(server.seen) == 9


def test_a_judge_that_fails_too_often_gets_advice_for_judges(
    rft: Rft, server: JudgeServer, tmp_path: Path
) -> None:
    written(tmp_path, 1)
    server.default = lambda _: Act(500, {"error": {"message": "out of memory"}})
    done = rft("grade", "--reward-model", "judge.json", "done.jsonl", settings=["grader.judge.retries=0"])
    assert done.code == 3
    assert "1 × judge_server: HTTP 500: out of memory" in done.err
    assert "fix: see what the judge's endpoint says above" in done.err
    assert "repair the scorer" not in done.err


def test_a_judge_that_can_not_be_asked_ends_a_job_before_a_model_loads(
    rft: Rft, server: JudgeServer, tmp_path: Path
) -> None:
    create = ["create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "judge.json"]
    for settings, env, said in [
        ([], {"OPENAI_API_KEY": ""}, "needs a key: the environment variable OPENAI_API_KEY is not set"),
        (
            ["grader.judge.base_url=http://127.0.0.1:9/v1"],
            {},
            "the judge at http://127.0.0.1:9/v1 is out of reach",
        ),
    ]:
        done = rft(*create, settings=settings, **env)
        assert done.code == 2
        assert said in done.err
        assert not (tmp_path / "runs").exists()


def test_a_judge_that_fails_now_and_then_is_borne_at_the_start(rft: Rft, server: JudgeServer) -> None:
    """As in training, where `grader.max_failure_rate` stops a job. One that never gives a verdict is an error."""
    check = ["validate", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "judge.json"]
    server.acts = [Act(body=completion("I'd say 8 of 10.")), Act(body=completion(None, refusal="No."))]
    server.default = lambda _: Act(body=verdict(0.5), wait_s=0.2)
    borne = rft(*check)
    assert borne.code == 0, borne.err
    assert server.most_in_flight > 1  # side by side: verdicts take long
    server.default = lambda _: Act(body=completion("I'd say 8 of 10."))
    refused = rft(*check, settings=["grader.judge.cache=none"])
    assert refused.code == 2
    assert "no JSON object with a 'result' in the verdict" in refused.out + refused.err


def test_the_rubric_of_the_docs_grades(rft: Rft, server: JudgeServer, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "graders.md").read_text()
    (tmp_path / "rubric.json").write_text(
        page.partition("### A rubric judge\n\n```json\n")[2].partition("```")[0]
    )
    row = {"question": "It is dark.", "reference": "Open the shutters.", "completion": "Switch on the light."}
    (tmp_path / "done.jsonl").write_text(json.dumps(row) + "\n")
    server.acts = [Act(body=verdict(7))]
    settings = [f"grader.judge.model=[gpt-4o-mini={MODEL}]"]
    done = rft("grade", "--reward-model", "rubric.json", "done.jsonl", settings=settings)
    assert json.loads(done.out)["grade"]["reward"] == 7.0
    system, user = (message["content"] for message in server.seen[0]["messages"])
    assert system.startswith("You grade answers of a support desk")
    assert user.startswith("Question: It is dark.\nAnswer: Switch on the light.\n\n4 points:")
    assert "as the reference does: Open the shutters.\n3 points" in user
    assert user.endswith('"result" is a number from 0 to 10.')


def test_a_budget_ends_a_job_with_its_checkpoint_and_the_job_goes_on(
    rft: Rft, server: JudgeServer, tmp_path: Path
) -> None:
    """Each request uses 120 tokens of 2990, so 25 are asked: enough for the 24 of the preflight, which has a budget of
    its own, and for the baseline (4 rows) with two steps (8 completions, then 4 rows), not for four."""

    def by_length(body: dict) -> Act:
        text = body["messages"][-1]["content"].split("\n\nAnswer with")[0]
        return Act(body=verdict(min(1.0, len(text) / 80)))

    server.default = by_length
    done = rft(
        "create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "judge.json", "--name", "job",
        settings=[*SMALL, "grader.judge.max_tokens=2990", "grader.judge.concurrency=1"], here=True,
    )  # fmt: skip
    assert done.code == 3, done.err
    assert "the judge's budget is spent: 25 requests, 2,500 tokens read, 500 written" in done.err
    run = Run.open(tmp_path / "runs" / "job")
    assert run.info["status"] == "failed"
    steps = run.checkpoints()
    assert steps
    assert run.verify_checkpoint(steps[-1]) is None
    line = run.metrics()[-1]
    assert line["judge_requests"] * 120 == line["judge_input_tokens"] + line["judge_output_tokens"] <= 3000

    # Resumed, it has its budget anew, and goes on counting.
    resumed = rft("train", "--resume", str(run.path), "--json", settings=None, here=True)
    assert resumed.code == 0, resumed.err
    after = run.metrics()[-1]
    assert (after["step"], json.loads(resumed.out)["status"]) == (4, "finished")
    assert after["judge_requests"] > line["judge_requests"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
