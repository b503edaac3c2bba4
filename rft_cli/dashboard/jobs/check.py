"""Checks a job before it starts, by the command line's own dry run, and puts each problem at its field."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rft_cli.dashboard.jobs.command import rft
from rft_cli.dashboard.jobs.form import fields

LONGEST_S = 300.0
"""Seconds that a check may take. It grades a few rows, so that a slow grader makes it slow."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong, and what to do about it."""

    message: str
    fix: str = ""


@dataclass
class Checked:
    """What a check found. `problems`: by the field's name, under the empty name those that belong to no field.

    `plan`: the document of the dry run, empty where there are problems.
    """

    problems: dict[str, list[FieldProblem]] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.problems

    def add(self, name: str, problem: FieldProblem) -> None:
        """Keep this problem at the field of this name."""
        self.problems.setdefault(name, []).append(problem)


async def check(arguments: Sequence[str], values: Mapping[str, str], folder: Path) -> Checked:
    """Run `rft create … --dry-run` in `folder`; what it says is wrong with these values."""
    found = Checked()
    for name, value in values.items():
        if "\0" in value:
            found.add(name, FieldProblem("holds a NUL character", "write it as text"))
    if not found.ok:
        return found
    try:
        done = await _dry_run(arguments, folder)
    except TimeoutError:
        said = f"the check took more than {LONGEST_S:.0f} s and was ended"
        found.add(
            "",
            FieldProblem(said, "is the grader slow, or does it wait for something? try it with `rft grade`"),
        )
        return found
    except (OSError, ValueError) as error:
        found.add("", FieldProblem(f"the check could not be started: {error}"))
        return found
    return read_check(*done, values)


async def _dry_run(arguments: Sequence[str], folder: Path) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and error. The process ends with the check, also where that is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *rft([*arguments, "--dry-run", "--json"]),
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LONGEST_S)
    finally:
        if process.returncode is None:
            # removes its worker processes
            process.terminate()
    return process.returncode or 0, out, err


def read_check(code: int, out: bytes, err: bytes, values: Mapping[str, str]) -> Checked:
    """What the dry run's exit code, its JSON document and, if that is missing, its messages say."""
    found = Checked()
    try:
        document = json.loads(out)
        error = document.get("error")
        problems = [] if error is None else error.get("problems") or [error]
        for one in problems:
            name = _field_of(one, values)
            # at its own field a setting need not be named again
            message = str(one["message"]).removeprefix(f"--set {name}: ")
            found.add(name, FieldProblem(message, str(one.get("fix") or "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        found.problems.clear()
        document = {}
    if code != 0 and found.ok:
        last = err.decode("utf-8", errors="replace").strip().splitlines()[-3:]
        found.add("", FieldProblem(f"the check ended with exit code {code}: {' '.join(last)}"))
    if found.ok:
        found.plan = document
    places = {name: place for place, name in enumerate(fields())}
    found.problems = dict(sorted(found.problems.items(), key=lambda one: places.get(one[0], -1)))
    return found


def _field_of(problem: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """The name of the field that a problem belongs to."""
    key, where = str(problem.get("setting") or ""), str(problem.get("where") or "")
    message = str(problem.get("message") or "")
    key = key or where.removeprefix("--set ")
    lines = [line.partition("=")[0].strip() for line in values.get("more", "").splitlines()]
    config = values.get("config")
    if config and where.startswith(config):
        return "config"
    for name, its in fields().items():
        if key and key in (its.key, its.flag):
            # of two --set for one setting the later one counts, and a flag wins over both
            own = name in values and (its.flag or key not in lines)
            return "more" if key in lines and not own else name
    named = [
        name for name, value in values.items() if fields()[name].kind == "file" and message.startswith(value)
    ]
    if named:
        return named[0]
    return "more" if values.get("more") and (message.startswith("--set") or key in lines) else ""
