"""What the README and the docs show is what is in the repository."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")


def block(language: str) -> str:
    """The one code block of this language in the README."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, f"{len(blocks)} blocks of {language}"
    return str(blocks[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_has_a_gap_that_was_to_be_filled(page: Path):
    assert re.findall(r"\b[A-Z]+-(?:[A-Z]+-)*HERE\b", page.read_text(encoding="utf-8")) == []


def test_the_scorer_is_the_sample_scorer_less_its_docstrings():
    tree = ast.parse((ROOT / "sample_data" / "scorer.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    assert ast.unparse(ast.parse(block("python"))) == ast.unparse(tree)


def test_the_row_is_a_training_row():
    lines = (ROOT / "sample_data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(block("json")) in [json.loads(line) for line in lines]
    assert README.count(f"{len(lines)} support messages") == 1
