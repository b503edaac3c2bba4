"""The report as a file: self-contained, small, nothing of a run in it can run; and as Markdown."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from rft_cli.pages.html_report import comparison_page, run_page
from rft_cli.pages.markdown_report import comparison_markdown, run_markdown
from rft_cli.pages.script_data import embedded
from rft_cli.view.comparing import compare_runs
from rft_cli.view.overview import read_overview
from rft_cli.view.visible import title, visible
from tests.pages.conftest import hostile_run
from tests.pages.hostile import HOSTILE
from tests.view.made_runs import line, make_run, sample

OURS = {
    "html", "head", "meta", "title", "style", "body", "a", "div", "strong", "nav", "button", "main",
    "section", "h1", "h2", "h3", "p", "ul", "li", "b", "span", "table", "thead", "tbody", "tr", "th", "td",
    "small", "svg", "line", "circle", "rect", "text", "figure", "figcaption", "code", "details", "summary",
    "pre", "noscript", "label", "select", "option", "input", "ol", "footer", "script", "wbr",
}  # fmt: skip


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    one, two = (read_overview(hostile_run(folder, name)) for name in ("a", "b"))
    return {"run": run_page(one), "comparison": comparison_page(compare_runs([one, two]))}


@pytest.mark.parametrize("which", ["run", "comparison"])
def test_no_text_of_a_run_is_markup(pages, which):
    found = Tags(pages[which])
    assert {tag for tag, _ in found.tags} <= OURS
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert set(attributes) & {"src", "srcdoc", "action", "formaction"} == set()
        assert attributes.get("href", "#").startswith("#")
    steers = [char for char in "\x00\x07\x1b\x9b\u202e\u2066\u2028\u2029\ufeff\r" if char in pages[which]]
    assert steers == []
    assert which != "run" or "\\x1b[31m" in pages[which]  # shown, not dropped
    assert len(pages[which].encode()) < 500_000


@pytest.mark.parametrize("which", ["run", "comparison"])
def test_only_the_scripts_and_styles_that_the_policy_names_can_run(pages, which):
    found = Tags(pages[which])
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    blocks = re.findall(r"<(script|style)([^>]*)>(.*?)</\1>", pages[which], re.DOTALL)
    running = [text for _, attributes, text in blocks if "application/json" not in attributes]
    assert len(running) == 6
    for text in running:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert "https:" not in policy


def test_data_in_a_script_block_ends_nothing():
    for text in HOSTILE:
        held = embedded({"charts": [], "text": text})
        assert re.search(r"[<>&\u2028\u2029]", held) is None
        assert json.loads(held)["text"] == text


def test_texts_are_shown_with_escapes_and_cut():
    assert (
        visible("a\x1b[0m\u202e\tb\r\nc\ud800 größer 世界 🙂")
        == "a\\x1b[0m\\u202e\tb\nc\\ud800 größer 世界 🙂"
    )
    assert visible("x" * 10, 4) == "xxxx … (6 more characters)"
    assert title("a\n b\x07" + "c" * 200, 10) == "a b\\x07cc…"


def test_the_page_of_a_long_run_says_what_is_left_out(tmp_path):
    rows = [sample(row, row / 400, "completion " * 120, prompt=f"prompt {row} " * 20) for row in range(400)]
    run = make_run(
        tmp_path,
        lines=[line(step) for step in range(1, 2001)],
        validations={step: rows for step in range(0, 101, 20)},
        best_step=100,
    )
    page = run_page(read_overview(run))
    assert len(page.encode()) < 500_000
    shown = re.search(r"(\d+) of 400 validation rows", page)
    assert shown is not None
    assert 20 < int(shown[1]) < 400


def test_a_run_that_failed_before_its_baseline_has_a_page(tmp_path):
    run = make_run(tmp_path, finish=False)
    run.update(status="failed", error="the grader failed on 40 % of the completions")
    page = run_page(read_overview(run))
    assert "Nothing was measured yet." in page
    assert "the grader failed on 40 % of the completions" in page


def test_markdown_has_the_result_the_diagnosis_and_no_live_markup(tmp_path):
    one, two = (read_overview(hostile_run(tmp_path, name)) for name in ("a", "b"))
    for text in (run_markdown(one), comparison_markdown(compare_runs([one, two]))):
        assert len(text) < 65_000  # what a comment on GitHub may have
        assert [char for char in "\x00\x07\x1b\u202e\u2028\r" if char in text] == []
        outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
        tags = set(re.findall(r"<\s*/?\s*(\w+)", outside))
        assert tags <= {"sub", "details", "summary"}
        assert not [
            said for said in outside.splitlines() if said.startswith(("error: forged", "# not a heading"))
        ]
        assert "](" not in outside.replace("\\](", "")
    assert "| reward |" in run_markdown(one)
