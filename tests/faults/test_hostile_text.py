"""Text that attacks whoever looks at it, in every place a person can put it: shown harmless, kept as data.

No byte of a control sequence out of data reaches a terminal, no line of it looks like a message of ours, markup stays
text, and files hold it escaped.
"""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rft_cli.config import RunConfig
from rft_cli.console.events import EventPrinter
from rft_cli.console.tables import Check, print_checks, print_comparison, print_estimates
from rft_cli.events import Note
from rft_cli.report.card import Made, model_card
from rft_cli.report.markdown import code, prose
from rft_cli.report.summary import SummaryRow
from rft_cli.runs import Run
from rft_cli.types import Estimate, Grade, Sample
from tests.command import RFT, environment, rft

pytestmark = pytest.mark.fault("paths, hostile text")

# Colours, a title (OSC), an 8-bit CSI, the writing direction turned, a forged message, markup of rich, HTML.
EVIL = (
    "\x1b[31m\x1b]0;owned\x07\x9b2J\u202egnihsif\u2066\rerror: forged\nerror: forged [bold]x[/red] <script>"
)
STEERS = [
    b"\x1b",
    b"\x07",
    b"\x00",
    b"\r",
    "\x9b".encode(),
    "\u202e".encode(),
    "\u2066".encode(),
    "\u2028".encode(),
]
ROW = {"prompt": EVIL, "completion": EVIL, "output": EVIL, "id": EVIL, EVIL: EVIL}


def assert_harmless(shown: bytes) -> None:
    assert [bad for bad in STEERS if bad in shown] == []
    assert [line for line in shown.decode().splitlines() if line.startswith("error: forged")] == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jsonl").write_text(
        json.dumps(ROW) + "\n" + json.dumps({**ROW, "prompt": EVIL + "2"}) + "\n"
    )
    (tmp_path / "v.jsonl").write_text(json.dumps({**ROW, "prompt": "v" + EVIL}) + "\n")
    (tmp_path / "keys.jsonl").write_text(
        json.dumps({EVIL: 1}) + "\n" + json.dumps({"promt" + EVIL: 1}) + "\n"
    )
    (tmp_path / "one.py").write_text("def score(completion, example):\n    return float(len(completion))\n")
    (tmp_path / "says.py").write_text(
        "import sys\n\ndef score(completion, example):\n    print(completion)\n    sys.stderr.write(completion)\n"
        "    return {'reward': 1.0, completion: 2.0}\n"
    )
    (tmp_path / "raises.py").write_text("def score(completion, example):\n    raise ValueError(completion)\n")
    (tmp_path / "breaks.py").write_text(f"raise ValueError({EVIL!r})\n")
    return tmp_path


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["validate", "-t", "t.jsonl", "-v", "t.jsonl", "--reward-model", "one.py"], 0),
        (["validate", "-t", "keys.jsonl", "--reward-model", "breaks.py"], 2),
        (["validate", "-t", "t.jsonl", "--reward-model", "raises.py"], 2),
        (["grade", "--reward-model", "says.py", "t.jsonl", "--summary"], 0),
        (["grade", "--reward-model", "raises.py", "t.jsonl", "--json"], 3),
        (["grade", "--reward-model", "one.py", "t.jsonl", "--field", "none", "--json"], 2),
        (["grade", "--reward-model", "one.py", "--audit", "t.jsonl"], 1),
        (["create", "-t", "t.jsonl", "-v", "v.jsonl", "--reward-model", "says.py", "--output-dir", "one.py",
          "--set", "grader.audit=none"], 2),
    ],
)  # fmt: skip
def test_rows_scorers_and_their_errors_on_the_terminal(args: list[str], code: int, folder: Path) -> None:
    done = rft(*args, folder=folder)
    assert done.code == code, done.err
    assert_harmless(done.stderr)
    assert_harmless(done.stdout)
    assert "internal error" not in done.err


def test_names_of_files_models_and_settings_on_the_terminal(folder: Path) -> None:
    name = EVIL.replace("/", "").replace("\x00", "")
    (folder / name).mkdir()
    (folder / name / "x.jsonl").write_text("{}\n")
    (folder / "c.yaml").write_text(json.dumps({EVIL: 1, "name": EVIL, "ppo": {EVIL: 2}, "seed": EVIL}))
    done = rft(
        "validate", "-t", f"{name}/x.jsonl", "-v", name, "-m", name, "--reward-model", name, folder=folder
    )
    assert done.code == 2
    assert_harmless(done.stderr + done.stdout)
    done = rft(
        "validate", "c.yaml", "--set", f"{EVIL}=1", "--set", EVIL, folder=folder, env={f"RFT_{name}": EVIL}
    )
    assert (done.code, len(done.problems)) == (2, 6)
    assert_harmless(done.stderr + done.stdout)
    done = rft(
        "create", "-t", "t.jsonl", "-v", "v.jsonl", "--reward-model", "one.py", "--name", name, folder=folder
    )
    assert done.code == 2
    assert_harmless(done.stderr + done.stdout)


def test_graded_rows_stay_json_and_keep_their_text(folder: Path) -> None:
    done = rft("grade", "--reward-model", "says.py", "--quiet", "t.jsonl", folder=folder)
    first, second = done.stdout.split(b"\n")[:2]
    assert b"\x1b" not in done.stdout
    assert {key: value for key, value in json.loads(first).items() if key != "grade"} == ROW
    assert json.loads(second)["grade"]["components"] == {EVIL: 2.0}


def test_a_real_terminal_gets_our_sequences_alone(folder: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*RFT, "validate", "-t", "t.jsonl", "-v", "t.jsonl", "--reward-model", "raises.py"]
    env = environment(TERM="xterm-256color")
    env.pop("NO_COLOR")
    process = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    seen = bytearray()
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        seen += piece
    assert process.wait(60) == 2
    assert b"problem" in seen
    for bad in (b"\x1b]0;", b"\x07", b"\x1b[31m\x1b]", "\x9b".encode(), "\u202e".encode()):
        assert bad not in seen


def test_tables_and_notes_show_markup_as_text() -> None:
    screen = io.StringIO()
    estimate = Estimate(0.5, (0.4, 0.6), 9)
    print_checks([Check("data", False, EVIL)], screen)
    print_estimates(EVIL, {EVIL: estimate}, screen)
    print_comparison(EVIL, [SummaryRow(EVIL, estimate, estimate, estimate)], screen)
    EventPrinter("plain", screen)(Note(EVIL, "warning"))
    shown = screen.getvalue().encode()
    assert [bad for bad in STEERS if bad in shown] == []
    assert screen.getvalue().count("[bold]x[/red]") >= 4
    note = screen.getvalue()[screen.getvalue().rindex("warning: ") :]
    assert [line[:15] for line in note.splitlines()[1:]] == ["  error: forged"] * 2


@pytest.mark.parametrize(
    ("text", "as_prose", "as_code"),
    [
        ("plain name", "plain name", "`plain name`"),
        ("a|b", "a\\|b", "`a\\|b`"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;", "`<b>&amp;`"),
        ("[x](javascript:y)", "\\[x\\](javascript:y)", "`[x](javascript:y)`"),
        ("a`b``c", "a\\`b\\`\\`c", "```a`b``c```"),
        ("`", "\\`", "`` ` ``"),
        ("two\nlines\x1b\u202e", "two\\\\nlines", "`two\\nlines\\x1b\\u202e`"),
        ("", " ", "` `"),
    ],
)
def test_markdown_shows_names_as_they_are(text: str, as_prose: str, as_code: str) -> None:
    assert prose(text).startswith(as_prose)
    assert code(text) == as_code


def test_a_model_card_and_the_files_of_a_run_hold_no_live_markup(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "job", config_yaml="{}\n", info={"model": EVIL, "versions": {}})
    partial = run.begin_checkpoint(1)
    (partial / "w").write_bytes(b"w")
    run.commit_checkpoint(1, partial)
    for name in ("step-000000", "step-000001"):
        run.write_samples(name, [Sample(0, EVIL, EVIL, EVIL, 1, False, Grade("graded", 1.0, {EVIL: 1.0}))])
    config = RunConfig.model_validate({"model": {"path": "./" + EVIL}, "grader": {"path": EVIL + ".py"}})
    card = model_card(run, config, Made(1, "merged", "float32", "", (2,), 0, True))
    assert [bad for bad in STEERS if bad in card.encode()] == []
    assert not [line for line in card.splitlines() if line.startswith("error: forged")]
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)  # type: ignore[method-assign]
    parser.feed("".join(part for place, part in enumerate(card.split("`")) if place % 2 == 0))
    assert tags == []
    written = [file for file in run.path.rglob("*") if file.is_file() and file.suffix in (".json", ".jsonl")]
    assert len(written) >= 3
    for file in written:
        assert b"\x1b" not in file.read_bytes()
        for line in (
            file.read_text(encoding="utf-8").split("\n") if file.suffix == ".jsonl" else [file.read_text()]
        ):
            assert not line or json.loads(line) is not None
    assert run.read_samples("step-000000")[0].completion == EVIL
