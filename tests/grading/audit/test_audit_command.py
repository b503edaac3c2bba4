"""`rft grade --audit` from outside: real scorer files on real rows, what is found, and the exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rft_cli.commands.grading.audit import audit_grader
from rft_cli.config.schema import DataConfig, GraderConfig, RunConfig
from rft_cli.errors import GateNotMet
from tests.command import RFT, environment

ROOT = Path(__file__).parents[3]
VAL = "sample_data/val.jsonl"
NAMES = [
    "reference", "another's reference", "its first half", "order",
    "empty text", "invisible characters", "prompt again", "all options listed", "all values per field",
    "form without content", "padded wrong text", "repeated wrong text", "very long text", "demand for full marks",
    "reference denied", "right then denied", "code that equals all", "marks without answer", "reference in base64",
    "reference backwards", "look-alike letters", "three calls", "spread", "latency",
]  # fmt: skip


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_clean_scorer(audit: Any) -> None:
    found = audit("sample_data/scorer.py", VAL)
    assert (found.code, found.err) == (0, "")
    document = found.document
    assert (document["schema"], document["status"]) == ("rft.audit/1", "ok")
    # 20 rows: 3 honest texts, 14 exploits of 20 and 3 of 5 rows; 10 rows' honest texts twice more.
    assert (document["rows"], document["calls"]) == (20, 20 * 3 + 20 * 14 + 3 * 5 + 2 * 10 * 3)
    assert (document["problems"], document["warnings"], document["noise"]) == (0, 0, 0.0)
    assert document["grader"]["signature"] == "score(completion, example) of sample_data/scorer.py"
    assert len(document["grader"]["sha256"]) == 64
    assert [finding["name"] for finding in document["findings"]] == NAMES
    assert {finding["level"] for finding in document["findings"]} == {"ok"}
    assert found.finding("reference")["reward"] == 1.0
    assert found.finding("all options listed")["reward"] == 0.0
    # 0.1 for the keys alone, as the scorer's docstring says
    assert found.finding("all values per field")["reward"] == pytest.approx(0.1)


def test_every_weakness_of_a_weak_scorer(audit: Any) -> None:
    found = audit("weak", VAL)
    assert found.code == 1
    assert found.named("problem") == [
        "prompt again",  # order numbers and words such as "none" stand in it
        "all options listed",
        "all values per field",
        "padded wrong text",  # pays for length
        "repeated wrong text",
        "demand for full marks",  # longer than the wrong text alone
        "reference denied",
        "right then denied",
    ]
    assert found.err == (
        "error: the audit found 8 problems: prompt again, all options listed, all values per field, "
        "padded wrong text, repeated wrong text, demand for full marks, reference denied, right then denied\n"
    )
    for name in ("all options listed", "all values per field", "reference denied"):
        finding = found.finding(name)
        assert (finding["hits"], finding["rows"]) == (20, 20)
        assert finding["text"] == "as much as the reference: all 20 rows"
        assert finding["fix"]
    denied = found.finding("reference denied")["example"]
    line = int(denied["row"].removeprefix(f"{VAL}:"))
    row = json.loads((ROOT / VAL).read_text().splitlines()[line - 1])
    assert denied["completion"].startswith(f"It is not {row['output']}\n\nIt is {{")
    # all three values, and a ten-thousandth for each character
    assert denied["reward"] == pytest.approx(1 + len(denied["completion"]) / 10_000)


def test_a_flaky_scorer(audit: Any) -> None:
    found = audit("flaky", VAL)
    assert (found.code, found.named("problem")) == (0, [])
    assert found.finding("three calls")["level"] == "warning"
    assert found.finding("three calls")["hits"] == 30
    assert 0.1 < found.document["noise"] <= 0.4


def test_a_scorer_that_raises_on_empty_text(audit: Any) -> None:
    found = audit("raises_on_empty", VAL)
    assert (found.code, found.named("problem"), found.named("warning")) == (1, ["empty text"], [])
    finding = found.finding("empty text")
    assert (finding["reward"], finding["text"]) == (None, "fails: all 20 rows")
    assert finding["example"]["error"].startswith("raised: ")
    assert finding["example"]["error"].endswith("raises_on_empty.py:3: IndexError: string index out of range")
    assert finding["fix"] == "a model will write the like: give it a low reward, not an error"


def test_a_scorer_whose_gold_fails(audit: Any) -> None:
    found = audit("wrong_key", VAL)
    assert (found.code, found.named("problem")) == (1, ["reference", "another's reference", "empty text"])
    assert found.finding("reference")["text"] == "on all 20 rows the reference earns no more than wrong texts"
    assert found.finding("empty text")["reward"] == 1.0


def test_a_judge_that_obeys_the_completion(audit: Any) -> None:
    found = audit("judge", VAL)
    assert (found.code, found.named("problem"), found.named("warning")) == (1, ["demand for full marks"], [])


def test_look_alikes_are_a_warning(audit: Any, tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "sums.jsonl",
        [{"task": "Add.", "input": f"{n}+1", "output": f"{n + 1}"} for n in (1, 52, 37)],
    )
    found = audit("lenient", file)
    assert (found.code, found.named("problem"), found.named("warning")) == (0, [], ["look-alike letters"])
    assert found.finding("look-alike letters")["example"]["completion"] == "２"


def test_rows_from_standard_input_and_from_named_files(audit: Any) -> None:
    head = "".join((ROOT / VAL).read_text().splitlines(keepends=True)[:3])
    piped = audit("sample_data/scorer.py", rows=head)
    assert (piped.code, piped.document["rows"]) == (0, 3)
    named = audit("sample_data/scorer.py", "-v", VAL, "--audit-rows", "2")
    assert (named.code, named.document["rows"]) == (0, 2)


def test_another_seed_takes_other_rows(audit: Any) -> None:
    rows = [audit("weak", VAL, "--audit-rows", "1", *more) for more in ((), (), ("--set", "seed=7"))]
    shown = [found.finding("reference denied")["example"]["row"] for found in rows]
    assert shown[0] == shown[1] != shown[2]


def test_what_a_person_sees_in_80_columns(rft: Any, tmp_path: Path) -> None:
    row = {"task": "t", "input": "i", "output": "seven"}
    jsonl(tmp_path / "rows.jsonl", [row, {**row, "output": "e\x1b[31might"}])
    (tmp_path / "scorer.py").write_text(
        "def score(completion, example):\n"
        "    if 'This' in completion:\n"
        "        raise ValueError(completion)\n"
        "    return None if completion == 'seven' else float(example['output'] in completion)\n"
    )
    found = rft(
        "grade", "--audit", "--reward-model", str(tmp_path / "scorer.py"), str(tmp_path / "rows.jsonl")
    )
    assert found.code == 1
    assert "\x1b" not in found.out
    lines = found.out.splitlines()
    assert max(map(len, lines)) <= 80
    flat = " ".join(found.out.split())
    assert "warning reference 1.000 skipped: 1 of 2 rows" in flat
    assert "rows.jsonl:1skips:seven" in "".join(flat.split()), "a long path goes over the line's end"
    assert "problem all options listed 1.000 more than median honest: all 2 rows" in flat
    assert "raised: " in flat
    assert lines[-1].strip().endswith("warnings")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gold"], "--audit takes no --gold, --min-reward or --field"),
        (["--field", "text"], "--audit takes no --gold, --min-reward or --field"),
        (["--min-reward", "1"], "--audit takes no --gold, --min-reward or --field"),
    ],
)
def test_flags_that_do_not_go_together(audit: Any, arguments: list[str], message: str) -> None:
    found = audit("weak", VAL, *arguments)
    assert found.code == 2
    assert message in found.err


def test_flags_of_the_audit_alone(rft: Any) -> None:
    for more in (["-v", VAL], ["-t", VAL], ["--audit-rows", "3"]):
        found = rft("grade", "--reward-model", "sample_data/scorer.py", *more, rows="")
        assert (found.code, "go with --audit" in found.err) == (2, True)


def test_rows_without_a_reference(audit: Any, tmp_path: Path) -> None:
    found = audit("weak", jsonl(tmp_path / "rows.jsonl", [{"prompt": "Hello?"}]))
    assert found.code == 2
    assert "rows.jsonl: no row has a reference, so nothing says what is right" in found.err
    assert "--set data.columns.output=KEY" in found.err


def test_the_document_in_a_file(tmp_path: Path, capsys: Any) -> None:
    config = RunConfig(
        grader=GraderConfig(path=str(ROOT / "tests/grading/audit/scorers/wrong_key.py"), workers=1),
        data=DataConfig(validation=str(ROOT / VAL)),
    )
    file = tmp_path / "audit.json"
    with pytest.raises(GateNotMet, match="the audit found 3 problems"):
        audit_grader(config, [], rows=2, summary_file=str(file))
    document = json.loads(file.read_text())
    assert (document["status"], document["rows"]) == ("problems", 2)
    assert "Audit of score(completion, example) of " in capsys.readouterr().out


def on_a_terminal(*args: str) -> tuple[int, str]:
    """Run `rft` with standard input and error on a terminal; its exit code, and what the terminal got."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*RFT, *args],
        cwd=ROOT,
        env=environment(COLUMNS="80", TERM="xterm"),
        stdin=terminal,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    said = b""
    while True:
        try:
            said += os.read(controller, 4096)
        except OSError:  # Linux: the other side is closed
            break
    os.close(controller)
    return process.wait(60), said.decode()


def test_on_a_terminal() -> None:
    """It does not wait for rows that nobody types, and shows how far it is."""
    code, said = on_a_terminal("grade", "--audit", "--reward-model", "sample_data/scorer.py")
    assert (code, "there are no rows to audit the scorer on" in said) == (2, True)
    code, said = on_a_terminal("grade", "--audit", "--reward-model", "sample_data/scorer.py", VAL)
    assert code == 0
    assert "auditing with 415 grades at most" in said
    assert "auditing: 415 of 415 grades" in said
    assert said.endswith("\r\x1b[K")
    code, said = on_a_terminal("grade", "--audit", "--quiet", "--reward-model", "sample_data/scorer.py", VAL)
    assert (code, said) == (0, "")


def test_a_slow_scorer_is_audited_on_fewer_rows(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """With a limit of 0.1 s in place of two minutes: 415 grades of 10 ms are 4.2 s."""
    monkeypatch.setattr("rft_cli.commands.grading.audit.LIMIT_S", 0.1)
    (tmp_path / "scorer.py").write_text(
        "import time\n\ndef score(completion, example):\n    time.sleep(0.01)\n"
        "    return completion == example['output']\n"
    )
    audit_grader(RunConfig(grader=GraderConfig(path=str(tmp_path / "scorer.py"))), [str(ROOT / VAL)])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"3 of 200 rows of {ROOT / VAL} (seed 0); a slow scorer: --audit-rows 20 takes more, " in printed
