"""`rft grade` from outside: pipes, signals, exit codes, order, and what it writes where."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rft_cli.cli import app
from tests.command import RFT, ROOT

SCORER = """
def score(completion, example):
    if completion == "raise":
        raise ValueError("no good")
    if completion == "skip":
        return None
    if completion == "print":
        print("hello from the scorer")
    return {"reward": example.get("n", 0) / 10, "length": len(completion)}
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory with `scorer.py`, and nothing set from outside."""
    for name in list(os.environ):
        if name.startswith("RFT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "scorer.py").write_text(SCORER)
    return tmp_path


def run(*arguments: str, rows: str = "") -> Result:
    return CliRunner().invoke(
        app, ["grade", "--reward-model", "scorer.py", *arguments], input=rows, prog_name="rft"
    )


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_rows_in_rows_out(folder: Path) -> None:
    text = '{"completion":"ab", "n": 5, "x": 1.0, "big": 123456789012345678901234567890, "u": "\\u00e9"}\n'
    text += '\n{"n": 0, "completion": "raise"}\r\n{"completion": "skip", "y": 1e2}'
    (folder / "in.jsonl").write_text(text)
    result = run("in.jsonl", "--set", "grader.max_failure_rate=0.5")
    assert result.exit_code == 0
    assert result.stdout == (
        '{"completion":"ab", "n": 5, "x": 1.0, "big": 123456789012345678901234567890, "u": "\\u00e9", '
        '"grade": {"status": "graded", "reward": 0.5, "components": {"length": 2.0}, "error": null}}\n'
        '{"n": 0, "completion": "raise", "grade": {"status": "failed", "reward": null, "components": {}, '
        '"error": {"kind": "raised", "message": "scorer.py:4: ValueError: no good"}}}\n'
        '{"completion": "skip", "y": 1e2, '
        '"grade": {"status": "skipped", "reward": null, "components": {}, "error": null}}\n'
    )
    summary = result.stderr.splitlines()
    assert summary[:5] == [
        "score(completion, example): 3 rows",
        "  1 graded (33.3%), 1 skipped (33.3%), 1 failed (33.3%)",
        "  mean reward 0.5000 (min 0.5, max 0.5)",
        "  components: length 2.0000",
        "  failed 1 × raised: scorer.py:4: ValueError: no good",
    ]
    assert summary[5:10] == [
        "  one of them:",
        "    Traceback (most recent call last):",
        f'      File "{folder}/scorer.py", line 4, in score',
        '        raise ValueError("no good")',
        "    ValueError: no good",
    ]
    assert re.fullmatch(r"  a grade took .* ms \(median\), .* ms \(90 %\), .* ms \(99 %\)", summary[10])
    assert len(summary) == 11
    assert not list((folder / "tmp").iterdir())


def test_a_scorer_that_returns_nothing_is_asked_for_its_return() -> None:
    result = run(rows=lines({"completion": "skip"}, {"completion": "skip"}))
    assert result.exit_code == 0
    assert "returned None for every row: is a return missing?" in result.stderr
    result = run(rows=lines({"completion": "skip"}, {"completion": "fine"}))
    assert "is a return missing?" not in result.stderr


def test_quiet_says_nothing() -> None:
    result = run("--quiet", "-", rows=lines({"completion": "a"}))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1


def test_progress_as_json_lines() -> None:
    """A scorer's prints, progress, the summary, and an error: each is one object."""
    rows = lines({"completion": "print", "n": 5}, {"completion": "raise"}, {"completion": "b", "n": 3})
    done = run("--progress", "json", "--json", rows=rows)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    names = [event["event"] for event in told]
    assert names[-2:] == ["Finished", "Failed"]
    assert {"event": "Progress", "what": "grades", "done": 3, "total": None} in told
    assert any("hello from the scorer" in event.get("text", "") for event in told)
    summary = json.loads(done.stdout)
    assert told[-2]["result"].items() <= summary.items()
    assert (summary["graded"], summary["failed"], done.exit_code) == (2, 1, 3)


def test_other_field_and_regrading() -> None:
    first = run("--field", "text", rows=lines({"text": "abc", "n": 3}))
    again = run("--field", "text", rows=first.stdout)
    assert again.stdout == first.stdout
    assert json.loads(first.stdout)["grade"]["reward"] == 0.3


@pytest.mark.parametrize("flag", ["--json", "--summary"])
def test_summary_alone_on_stdout(flag: str) -> None:
    result = run(flag, rows=lines({"completion": "a", "n": 1}, {"completion": "b", "n": 2}))
    summary = json.loads(result.stdout)
    assert (summary["rows"], summary["graded"], summary["failures"]) == (2, 2, {})
    assert summary["reward"] == {"mean": pytest.approx(0.15), "min": 0.1, "max": 0.2}
    assert result.exit_code == 0


def test_gold(folder: Path) -> None:
    (folder / "scorer.py").write_text("def score(text, row):\n    return text == row['output']\n")
    rows = lines({"task": "t", "input": "1", "output": "one"}, {"task": "t", "input": "2", "output": "two"})
    result = run("--gold", "--summary", "--min-reward", "1", rows=rows)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["reward"]["mean"] == 1.0
    missing = run("--gold", rows=lines({"prompt": "p"}))
    assert missing.exit_code == 2
    assert "error: stdin:1: the row has no reference" in missing.stderr


def test_min_reward() -> None:
    rows = lines({"completion": "a", "n": 5}, {"completion": "b", "n": 7})
    assert run("--min-reward", "0.6", rows=rows).exit_code == 0
    below = run("--min-reward", "0.61", rows=rows)
    assert below.exit_code == 1
    assert "error: --min-reward 0.61 is not met: the mean reward is 0.6000" in below.stderr
    assert below.stdout.count("\n") == 2
    nothing = run("--min-reward", "0.1", rows=lines({"completion": "skip"}))
    assert nothing.exit_code == 1
    assert "no row was graded" in nothing.stderr
    assert run(rows="").exit_code == 0


@pytest.mark.parametrize("gate", ["nan", "inf", "-inf"])
def test_a_gate_that_is_no_number_is_refused(gate: str) -> None:
    result = run(f"--min-reward={gate}", rows=lines({"completion": "a"}))
    assert result.exit_code == 2
    assert f"{float(gate)} is not a finite number" in result.output


def test_too_many_failures() -> None:
    rows = [{"completion": "raise" if i % 5 == 0 else "ok"} for i in range(20)]
    result = run("--min-reward", "5", rows=lines(*rows))
    assert result.exit_code == 3
    assert result.stdout.count("\n") == 20
    assert "error: 20% of the last 20 grades failed (grader.max_failure_rate is 10%):" in result.stderr
    assert "  4 × raised: scorer.py:4: ValueError: no good" in result.stderr
    assert 'raise ValueError("no good")' in result.stderr


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '{"text": "x"}',
            "stdin:3: no key 'completion'\n  fix: name the key with --field (this row has: text)",
        ),
        ("{}", "stdin:3: no key 'completion'\n  fix: name the key with --field (this row has: none)"),
        ('{"completion": 5}', "stdin:3: 'completion' is not a string"),
        ('{"completion": }', "stdin:3:"),
        ("[1]", "stdin:3: "),
    ],
)
def test_a_bad_row_ends_the_rows_after_those_before_it(row: str, message: str) -> None:
    good = lines({"completion": "a"}, {"completion": "b"})
    result = run(rows=good + row + "\n" + good)
    assert result.exit_code == 2
    assert f"error: {message}" in result.stderr
    assert [json.loads(line)["completion"] for line in result.stdout.splitlines()] == ["a", "b"]


def test_usage_errors(folder: Path) -> None:
    bare = CliRunner().invoke(app, ["grade"], prog_name="rft")
    assert (bare.exit_code, bare.stdout) == (2, "")
    assert "error: no grader is set" in bare.stderr
    assert "no such file" in run("missing.jsonl").stderr
    assert "error: --workers: " in run("--workers", "none").stderr
    assert "error: --timeout: must be a number > 0" in run("--timeout", "-1").stderr
    (folder / "scorer.py").write_text("import nothing_here\n")
    result = run(rows=lines({"completion": "a"}))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: scorer.py:1: ModuleNotFoundError: No module named 'nothing_here'" in result.stderr
    assert not list((folder / "tmp").iterdir())


def test_config_file(folder: Path) -> None:
    (folder / "job.yaml").write_text("grader:\n  path: other.py:mine\n  timeout_s: 0.3\n")
    (folder / "other.py").write_text(
        "import time\ndef mine(text):\n    time.sleep(float(text))\n    return 1\n"
    )
    arguments = ["grade", "--config", "job.yaml", "--set", "grader.max_failure_rate=1"]
    result = CliRunner().invoke(app, arguments, input=lines({"completion": "9"}, {"completion": "0"}))
    assert [json.loads(line)["grade"]["reward"] for line in result.stdout.splitlines()] == [None, 1.0]
    assert result.exit_code == 0


PRINTER = """
import os, sys
print("at import")
def score(text):
    if text == "print":
        print("hello")
        print("to stderr\\x1b[31m", file=sys.stderr)
        os.write(1, b"to descriptor 1\\n")
        os.system("echo a child")
    if text == "die":
        print("last words")
        os._exit(1)
    return 1
"""


@pytest.mark.parametrize("mode", ["rows", "--json", "--gold"])
def test_prints_go_to_stderr_with_their_row(folder: Path, mode: str) -> None:
    (folder / "scorer.py").write_text(PRINTER)
    rows = [
        {"completion": text, "prompt": "p", "output": text} for text in ("quiet", "print", "die", "quiet")
    ]
    (folder / "in.jsonl").write_text("\n" + lines(*rows))
    command = [*RFT, "grade", "--reward-model", "scorer.py", "in.jsonl", "--set", "grader.max_failure_rate=1"]
    ended = subprocess.run(
        [*command, *([] if mode == "rows" else [mode])], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert not re.search("hello|to stderr|descriptor|a child|last words|at import", ended.stdout)
    said = ended.stderr.splitlines()
    assert said[0] == "scorer.py: at import"
    # C code and children write at once, Python's own streams line by line: all of it comes, whatever the order.
    assert sorted(line for line in said if line.startswith("in.jsonl:")) == [
        "in.jsonl:3: a child",
        "in.jsonl:3: hello",
        "in.jsonl:3: to descriptor 1",
        "in.jsonl:3: to stderr\ufffd[31m",
        "in.jsonl:4: last words",
    ]


def test_prints_beyond_a_thousand_go_to_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    (folder / "scorer.py").write_text(
        "def score(completion):\n    print('10 %\\r20 %\\r100 %\\r')\n    print(completion)\n    return 1\n"
    )
    (folder / "in.jsonl").write_text(lines(*({"completion": f"c{i}"} for i in range(502))))
    command = [*RFT, "grade", "--reward-model", "scorer.py", "in.jsonl"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    said = ended.stderr.splitlines()
    assert said[:2] == ["in.jsonl:1: 100 %", "in.jsonl:1: c0"]
    assert said[999] == "in.jsonl:500: c499"
    (file,) = folder.glob("rft-grade-*.log")
    assert said[1000:1002] == [
        f"1,000 printed lines are shown, the others go to {file}",
        f"4 more printed lines: {file}",
    ], ended.stderr[-3000:]
    assert file.read_text() == (
        "in.jsonl:501: 100 %\nin.jsonl:501: c500\nin.jsonl:502: 100 %\nin.jsonl:502: c501\n"
    )


def test_quiet_drops_prints(folder: Path) -> None:
    (folder / "scorer.py").write_text(PRINTER)
    result = run("--quiet", rows=lines({"completion": "print"}))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize("mode", [[], ["--grader-env", "MY_API_KEY"]])
def test_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: list[str]) -> None:
    monkeypatch.setenv("MY_API_KEY", "hidden")
    (folder / "scorer.py").write_text(
        "import os\ndef score(text): return os.environ['MY_API_KEY'] == 'hidden'\n"
    )
    result = run(*mode, rows=lines({"completion": "a"}))
    grade = json.loads(result.stdout)["grade"]
    if mode:
        assert grade["reward"] == 1.0
        return
    assert result.exit_code == 3
    assert grade["error"]["message"] == (
        "scorer.py:2: KeyError: 'MY_API_KEY' "
        "(MY_API_KEY is withheld from scorers: allow it with --grader-env MY_API_KEY, or grader.env)"
    )


def test_a_variable_that_is_not_there(folder: Path) -> None:
    result = run("--grader-env", "NO_SUCH", "--grader-env", "NOR_THIS")
    assert result.exit_code == 2
    assert "error: --grader-env NO_SUCH: there is no such variable" in result.stderr
    assert "error: --grader-env NOR_THIS: there is no such variable" in result.stderr


def test_summary_file(folder: Path) -> None:
    result = run(
        "--summary-file", "summary.json", rows=lines({"completion": "a", "n": 1}, {"completion": "skip"})
    )
    summary = json.loads((folder / "summary.json").read_text())
    assert (result.exit_code, result.stdout.count("\n")) == (0, 2)
    assert summary["rates"] == {"graded": 0.5, "skipped": 0.5, "failed": 0.0}


def test_a_summary_file_that_can_not_be_is_told_at_once(folder: Path) -> None:
    (folder / "out").mkdir()
    for file, said in [
        ("no/such.json", f"no/such.json: there is no folder {folder}/no\n  fix: name a file in an existing folder"),
        ("out/", "out/: is a folder\n  fix: name a file in it: out/summary.json"),
        ("out", "out: is a folder\n  fix: name a file in it: out/summary.json"),
        ("scorer.py/", "scorer.py/: is a folder"),
    ]:  # fmt: skip
        result = run("--summary-file", file, rows=lines({"completion": "a"}))
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error: {said}" in result.stderr


def test_a_summary_goes_into_what_is_no_file_as_it_is(folder: Path) -> None:
    """A device, a pipe or a link must not be replaced by a file."""
    (folder / "rows.jsonl").write_text(lines({"completion": "yes", "answer": "yes"}))
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    link, target = folder / "link", folder / "target.json"
    target.write_text("{}")
    link.symlink_to(target)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as cat:
        assert run("--summary-file", str(pipe), "rows.jsonl").exit_code == 0
        assert cat.stdout is not None
        assert json.loads(cat.stdout.read())["rows"] == 1
    assert pipe.is_fifo()
    assert run("--summary-file", str(link), "rows.jsonl").exit_code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["rows"] == 1


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full here")
@pytest.mark.parametrize("flags", [[], ["--summary"]])
def test_a_full_disk_is_told(folder: Path, flags: list[str]) -> None:
    (folder / "rows.jsonl").write_text(lines({"completion": "yes", "answer": "yes"}))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RFT, "grade", "--reward-model", "scorer.py", "rows.jsonl", *flags],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert "standard output can't be written: No space left on device" in done.stderr


def test_long_pipe_keeps_order(folder: Path) -> None:
    count = 5000
    rows = "".join(f'{{"completion": "{"x" * 200}", "n": {i}}}\n' for i in range(count))
    command = [*RFT, "grade", "--reward-model", "scorer.py", "--workers", "2", "--quiet"]
    ended = subprocess.run(command, input=rows, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    made = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["n"] for row in made] == list(range(count))
    assert [row["grade"]["reward"] for row in made] == [i / 10 for i in range(count)]


def test_head_ends_it_quietly(folder: Path) -> None:
    (folder / "in.jsonl").write_text(lines({"completion": "x" * 2000}) * 3000)
    script = f"{sys.executable} -m rft_cli grade --reward-model scorer.py in.jsonl | head -n 2; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    *rows, code = ended.stdout.splitlines()
    assert len(rows) == 2
    assert json.loads(rows[1])["grade"]["status"] == "graded"
    assert code == "0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_leaves_whole_lines(folder: Path, number: signal.Signals) -> None:
    (folder / "scorer.py").write_text("import time\ndef score(text):\n    time.sleep(0.01)\n    return 1\n")
    (folder / "in.jsonl").write_text(lines({"completion": "x" * 3000}) * 20_000)
    with (folder / "out.jsonl").open("wb") as out:
        process = subprocess.Popen(
            [*RFT, "grade", "--reward-model", "scorer.py", "in.jsonl"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
    deadline = time.monotonic() + 30
    while (folder / "out.jsonl").stat().st_size < 50_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(3):  # service managers send several, people press Ctrl-C twice
        process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    written = (folder / "out.jsonl").read_text()
    assert written.endswith("}\n")
    rows = [json.loads(line) for line in written.splitlines()]
    assert 10 <= len(rows) < 20_000
    assert error == f"error: interrupted by {number.name} after {len(rows)} rows\n"
    assert not [entry for entry in (folder / "tmp").iterdir() if entry.is_dir()]


def test_a_signal_while_the_reader_does_not_read(folder: Path) -> None:
    (folder / "in.jsonl").write_text(lines({"completion": "x" * 3000}) * 2000)
    process = subprocess.Popen(
        [*RFT, "grade", "--reward-model", "scorer.py", "in.jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    _wait_until_full(process.stdout.fileno())
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # the line that is half in the pipe gets its other half
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.endswith(b"}\n")
    assert error == f"error: interrupted by SIGINT after {out.count(bytes([10]))} rows\n".encode()


def _wait_until_full(pipe: int) -> None:
    """Until nothing more goes into a pipe from which nobody reads."""
    waiting, before, deadline = 0, -1, time.monotonic() + 30
    while (waiting == 0 or waiting != before) and time.monotonic() < deadline:
        before = waiting
        time.sleep(0.5)
        waiting = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_terminal_as_input_gets_a_hint(folder: Path) -> None:
    master, slave = pty.openpty()
    command = [*RFT, "grade", "--reward-model", "scorer.py", "--quiet"]
    process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(slave)
    os.write(master, b'{"completion": "a", "n": 2}\n\x04')
    out, error = process.communicate(timeout=30)
    os.close(master)
    assert process.returncode == 0
    assert json.loads(out)["grade"]["reward"] == 0.2
    assert error == b"reading rows from the terminal: end them with Ctrl-D, or name a FILE\n"


def test_a_file_is_written_while_the_pipe_after_it_says_nothing(folder: Path) -> None:
    (folder / "in.jsonl").write_text(lines({"completion": "a", "n": 2}, {"completion": "b", "n": 3}))
    command = [*RFT, "grade", "--reward-model", "scorer.py", "--quiet", "in.jsonl", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 20)[0]
    first = process.stdout.readline(), process.stdout.readline()
    assert [json.loads(line)["grade"]["reward"] for line in first] == [0.2, 0.3]
    out, _ = process.communicate(b'{"completion": "c", "n": 4}\n', timeout=30)
    assert json.loads(out)["grade"]["reward"] == 0.4


def test_no_torch_and_flat_memory(folder: Path) -> None:
    (folder / "in.jsonl").write_text(lines({"completion": "x" * 20_000}) * 4000)  # 80 MB
    program = """
import sys
from pathlib import Path
from rft_cli.cli import app
try:
    app(["grade", "--reward-model", "scorer.py", "in.jsonl", "--quiet"], prog_name="rft")
except SystemExit as end:
    assert not end.code, end.code
loaded = sorted({"torch", "transformers", "trl", "peft", "accelerate"} & set(sys.modules))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(loaded, int(peak.split()[1]) // 1024, file=sys.stderr)
"""
    with open(os.devnull, "wb") as null:
        ended = subprocess.run(
            [sys.executable, "-c", program], stdout=null, stderr=subprocess.PIPE, text=True
        )
    loaded, _, megabytes = ended.stderr.strip().partition("] ")
    assert loaded == "["
    assert int(megabytes) < 150
