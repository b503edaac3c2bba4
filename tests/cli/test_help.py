"""Help at the widths that people have: whole commands in the examples, and no wide terminal left half empty."""

import inspect
import subprocess
import sys

import pytest

from rft_cli.commands import create, export, grade, serve, train, validate
from rft_cli.config.suggest import wrapped
from tests.command import environment

COMMANDS = {
    "create": create, "train": train, "grade": grade, "validate": validate, "export": export, "serve": serve
}  # fmt: skip


def help_of(command: str, columns: int) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-m", "rft_cli", command, "--help"],
        env=environment(COLUMNS=str(columns)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return found.stdout.splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_is_one_line_that_can_be_copied(command: str) -> None:
    lines = [line.strip() for line in help_of(command, 80)]
    written = inspect.getdoc(getattr(COMMANDS[command], command)) or ""
    examples = [line for line in written.splitlines() if line.startswith(("rft ", "generate |"))]
    assert len(examples) >= 1
    assert [example for example in examples if example.strip() not in lines] == []


def test_help_takes_the_room_that_there_is() -> None:
    narrow, wide = (help_of("create", columns) for columns in (80, 160))
    assert max(map(len, narrow)) <= 80
    assert 100 < max(map(len, wide)) <= 120  # over that, lines are hard to read
    assert len(wide) < len(narrow)


@pytest.mark.parametrize("width", [40, 80])
def test_lines_end_between_words_and_commands_stay_whole(width: int) -> None:
    command = "rft train --resume runs/20261130-075000-tiny --n-epochs 40"
    text = f"error: {'word ' * 40}end\n  fix: go on with: {command}; or begin anew under another name"
    lines = wrapped(text, width).split("\n")
    words = [word for line in lines for word in line.split()]
    assert words == text.split()
    assert any(command in line for line in lines)
    assert all(len(line) <= width or command in line for line in lines)
    assert all(line.startswith(("error", "  ")) for line in lines)
