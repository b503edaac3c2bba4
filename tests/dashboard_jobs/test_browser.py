"""Jobs in a real browser: a file is chosen, the job starts, its run is seen live, stopped and resumed."""

import re
from pathlib import Path

import pytest

from rft_cli.runs import Run
from tests.dashboard_jobs.conftest import SHORT
from tests.dashboard_jobs.test_job import end_job, status, until

AXE = Path(__file__).parents[1] / "pages" / "vendor" / "axe.min.js"


@pytest.fixture
def open_page(browser, dashboard):
    """Open a page of the dashboard; `said` has what the console said, but for answers that are errors."""
    contexts = []

    def opened(path, width=1280, dark=False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(200_000)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(dashboard.opening)
        page.wait_for_url(f"{dashboard.address}/")
        page.goto(dashboard.address + path)
        return page

    yield opened
    for context in contexts:
        context.close()


def put(page, values):
    """Type the values into the form's fields."""
    for name, value in values.items():
        page.fill(f'[id="{name}"]', value)


def test_a_file_is_chosen_and_the_command_follows(open_page, dashboard):
    (dashboard.folder / "rows").mkdir()
    (dashboard.folder / "rows" / "two words.jsonl").write_text("{}\n")
    page = open_page("/start")
    page.click('[data-pick="data.train"]')
    page.click("#picker-list button:has-text('rows/')")
    page.click("#picker-list button:has-text('two words.jsonl')")
    assert page.input_value('[id="data.train"]') == "rows/two words.jsonl"
    page.wait_for_selector("#command:has-text('two words')")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.text_content("#picker-title") == "Choose: Training rows"
    page.wait_for_selector("#picker-list button:has-text('..')")
    page.keyboard.press("Escape")
    page.fill('[id="more"]', "ppo.gamma=0.9")
    page.wait_for_selector("#command:has-text('--set ppo.gamma=0.9')")
    assert page.text_content("#command").startswith("rft create -t 'rows/two words.jsonl'")
    page.click('[data-pick="model.path"]')
    page.click("#picker-list button:has-text('rows/')")
    page.click("#picker-take")
    assert page.input_value('[id="model.path"]') == "./rows"
    assert page.said == []


def test_a_wrong_scorer_is_said_at_its_field(open_page, dashboard):
    (dashboard.folder / "bad.py").write_text("def score(completion)\n    return 1\n")
    page = open_page("/start")
    put(page, SHORT | {"grader.path": "bad.py", "name": "never"})
    page.click("text=Check and start")
    page.wait_for_selector("#summary")
    field = page.locator('.field:has([id="grader.path"])')
    assert field.locator(".wrong p").all_text_contents() == [
        "bad.py:1:22: expected ':'",
        "correct the Python syntax",
    ]
    assert page.locator(".wrong").count() == 1
    assert page.get_attribute('[id="grader.path"]', "aria-invalid") == "true"
    assert page.evaluate("document.activeElement.id") == "summary"
    page.click("#summary a")
    assert page.evaluate("document.activeElement.id") == "grader.path"
    assert page.input_value('[id="more"]') == SHORT["more"]
    assert not (dashboard.folder / "runs" / "never").exists()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (800, True), (390, True)])
def test_the_form_fits_and_is_accessible(open_page, width, dark):
    page = open_page("/start", width, dark)
    put(page, {"optim.learning_rate": "-3"})
    page.click("button[value=check]")
    page.wait_for_selector("#summary")
    assert accessible(page)
    page.click('[data-pick="grader.path"]')
    page.wait_for_selector("#picker-list button")
    assert accessible(page)


def accessible(page):
    """Whether axe-core finds nothing serious and the page is not wider than the window."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_is_started_watched_stopped_and_resumed(open_page, dashboard):
    folder = dashboard.folder
    run = Run(folder / "runs" / "one")
    page = open_page("/start")
    put(page, SHORT | {"name": "one", "optim.n_epochs": "200"})
    try:
        page.click("text=Check and start")
        page.wait_for_url(re.compile("/jobs/one$"))
        assert accessible(page)
        page.wait_for_url(re.compile("/runs/one$"))
        # it is live: figures of the training appear without a reload
        page.wait_for_selector("#result .meta:has-text('epoch')")
        assert accessible(page)
        page.click("#job-actions button:has-text('Stop')")
        page.wait_for_selector("#job-actions button:has-text('Resume')")
        assert status(folder) == "interrupted"
        steps = max(run.checkpoints())
        page.click("text=Command and output")
        assert "interrupted by SIGTERM" in page.text_content("#job-output")
        page.go_back()
        page.click("#job-actions button:has-text('Resume')")
        page.wait_for_selector("#job-actions:has-text('writes this run')")
        until(lambda: max(row["step"] for row in run.metrics()) > steps)
        page.click("#job-actions button:has-text('Stop')")
        page.wait_for_selector("#job-actions button:has-text('Resume')")
        assert max(run.checkpoints()) > steps
        page.click("#job-actions >> text=Start a job like it")
        assert page.input_value('[id="rollout.group_size"]') == "2"
        assert [text for text in page.said if "304" not in text] == []
    finally:
        end_job(folder)


def test_without_javascript_the_form_works(browser, dashboard):
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(dashboard.opening)
        page.wait_for_url(f"{dashboard.address}/")
        page.goto(f"{dashboard.address}/start")
        assert page.locator("[data-pick]:visible").count() == 0
        page.click("button[value=check]")
        assert "no training file is set" in page.text_content('.field:has([id="data.train"])')
    finally:
        context.close()
