"""The job files for CI parse, and each rft command in them and in docs/ci.md is one that the command line takes."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from rft_cli.cli import app
from tests.command import ROOT

CI = ROOT / "docs" / "ci"
COMMAND = re.compile(
    r"(?<![\w/.-])rft (?:create|train|grade|validate|report|compare|show|export|runs)\b[^`|]*"
)


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def commands() -> list[str]:
    texts = [(ROOT / "docs" / "ci.md").read_text(encoding="utf-8")]
    for file in sorted(CI.glob("*.yml")):
        texts += strings(yaml.safe_load(file.read_text(encoding="utf-8")))
    return sorted(
        {found.strip() for text in texts for found in COMMAND.findall(text) if " " in found.strip()}
    )


def test_both_files_check_and_train():
    assert {file.name for file in CI.glob("*.yml")} == {"github-actions.yml", "gitlab-ci.yml"}
    for file in CI.glob("*.yml"):
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        jobs = document.get("jobs", document)
        check, train = strings(jobs["check"]), strings(jobs["train"])
        assert any("--dry-run" in text for text in check)
        assert any("--gate-on low" in text and "> result.json" in text for text in train)


def test_github_checks_each_push_and_needs_no_requirements_file():
    text = (CI / "github-actions.yml").read_text(encoding="utf-8")
    # YAML 1.1 reads the key `on` as true
    assert {"push", "pull_request", "workflow_dispatch"} <= set(yaml.safe_load(text)[True])
    assert "cache:" not in text


@pytest.mark.parametrize("command", commands())
def test_the_command_line_takes_it(command):
    words = shlex.split(re.split(r" >>? ", command)[0])
    group = typer.main.get_command(app)
    with group.make_context("rft", words[1:]) as context:
        _, subcommand, arguments = group.resolve_command(context, words[1:])
        with subcommand.make_context(words[1], arguments, parent=context) as parsed:
            assert parsed.params


# -- the Chromium that .ci/run installs ------------------------------------------------------------------------------


def install(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """scripts/chromium.sh where these programs, and the usual tools without a browser, are all that there is."""
    folder.mkdir(exist_ok=True)
    for name in ("bash", "env", "id", "mktemp", "rm", "grep", "tail", "timeout", "cat"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, body in programs.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    return subprocess.run(
        [str(ROOT / "scripts" / "chromium.sh")],
        env={"PATH": str(folder), "LOG": str(folder / "log")}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_browser_that_is_there_is_taken(tmp_path):
    done = install(tmp_path / "bin", chromium="exit 0", apt_get='echo "$@" >> "$LOG"')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "bin" / "log").exists()


def test_apt_installs_it_quietly(tmp_path):
    done = install(tmp_path / "bin", sudo='shift; exec "$@"', apt_get='echo "$@" >> "$LOG"; echo noise')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "install --no-install-recommends chromium" in (tmp_path / "bin" / "log").read_text()


def test_what_apt_can_not_do_is_said_and_is_no_error(tmp_path):
    failing = 'case "$*" in *install*) echo "E: Unable to locate package chromium"; exit 100;; esac'
    done = install(tmp_path / "bin", sudo='shift; exec "$@"', apt_get=failing)
    assert (done.returncode, done.stdout) == (0, "")
    why = "apt-get could not install it (E: Unable to locate package chromium)"
    assert done.stderr == f"No Chromium: {why}. The tests of pages are skipped.\n"
    none = install(tmp_path / "none")
    assert none.stderr == "No Chromium: apt-get is not here to install it. The tests of pages are skipped.\n"
