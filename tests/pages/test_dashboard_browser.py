"""The dashboard in a real browser: list, live run, curves, completions, filters, comparison, hostile text."""

import shutil
import time
from pathlib import Path

import pytest

from tests.pages.conftest import DRAWN, hostile_run
from tests.pages.dashboards import dashboard
from tests.view.made_runs import line, make_run, sample

AXE = Path(__file__).with_name("vendor") / "axe.min.js"
RELOADED = "window.__kept"
LIVE_MS = 30_000


def honest_run(folder, name, shift=0.0, rows=4):
    """Three validations, two rollout batches of groups of two; one grade failed at the end."""
    lines = [line(step, reward=0.1 * step, kl_per_token=0.01 * step) for step in range(1, 9)]
    rewards = {0: [0.0, 0.5, 1.0, 0.2], 4: [0.4, 0.5, 0.6, 0.3], 8: [1.0, 0.5, 0.3, None]}
    validations = {
        step: [
            sample(
                row,
                None if found[row % 4] is None else found[row % 4] + shift,
                f"text {row} at {step}",
                components={"form": 1.0},
            )
            for row in range(rows)
        ]
        for step, found in rewards.items()
    }
    rollouts = {
        step: [
            sample(row, 0.1 * (row + place) + step / 10, f"sampled {row}.{place} at {step}")
            for row in (5, 6)
            for place in (0, 1)
        ]
        for step in (0, 4)
    }
    return make_run(folder, name, lines=lines, validations=validations, rollouts=rollouts, best_step=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`a` and `b` are honest, `many` has 120 rows, and one whose every text attacks, its name too."""
    runs = tmp_path_factory.mktemp("dashboard") / "runs"
    honest_run(runs, "a")
    honest_run(runs, "b", 0.1)
    honest_run(runs, "many", rows=120)
    for name, called in (("h", "<img src=x onerror='window.__owned=1'>"), ("i", "hostile 2")):
        hostile_run(runs, name).path.rename(runs / called)
    return runs


@pytest.fixture(scope="module")
def served(folder):
    with dashboard(folder) as started:
        yield started


@pytest.fixture
def visit(browser, served):
    """Open a page of the dashboard with its cookie; what the console said and what was asked for come with it."""
    contexts = []

    def opened(path, width=1280, dark=False, start=served):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        name, _, value = start.cookie.partition("=")
        context.add_cookies([{"name": name, "value": value, "url": start.origin}])
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(start.origin + path)
        page.evaluate(f"{RELOADED} = true")
        until(lambda: page.evaluate(DRAWN))
        return page

    yield opened
    for context in contexts:
        context.close()


def until(true, seconds=30):
    """Wait until this is true. The pages' policy forbids what Playwright's `wait_for_function` needs."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.05)


def hover(page, chart):
    """Move the mouse to the right end of a chart; the values under the cursor."""
    chart.scroll_into_view_if_needed()
    box = chart.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 40)
    return chart.locator(".u-legend .u-value")


def test_the_printed_address_opens_the_list(browser, served):
    page = browser.new_page()
    page.goto(served.url)
    page.wait_for_url(served.origin + "/")
    assert page.locator("h1").text_content() == "Runs"
    assert "token" not in page.evaluate("document.documentElement.outerHTML + document.cookie")
    page.close()


def test_the_list_is_sorted_filtered_and_leads_to_a_comparison(visit):
    page = visit("/")
    names = page.locator("table.runs tbody a")
    page.fill("input[name=q]", "tiny")
    until(lambda: page.evaluate("document.querySelector('#count').textContent === '3 of 5 runs'"))
    page.click("th a:text-is('run')")
    page.wait_for_selector("th[aria-sort=ascending] a:text-is('run')")
    assert names.all_text_contents() == ["a", "b", "many"]
    page.click("th a:text-is('after')")
    page.wait_for_selector("th[aria-sort=descending] a:text-is('after')")
    assert names.all_text_contents()[0] == "b"
    page.select_option("select[name=status]", "finished")
    page.wait_for_url("**status=finished**")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "b"
    assert page.evaluate(RELOADED)
    page.check("input[value=a]")
    assert page.is_disabled("button:text-is('Compare the marked runs')")
    page.check("input[value=b]")
    assert page.is_enabled("button:text-is('Compare the marked runs')")
    page.click("button:text-is('Compare the marked runs')")
    until(lambda: page.evaluate(DRAWN))
    assert page.locator("h1").text_content() == "b against a"
    assert "a is worse than b by 0.100" in page.locator(".lead").text_content()
    values = hover(page, page.locator(".chart").first)
    until(lambda: page.evaluate("document.querySelector('.u-legend .u-value').textContent === '8'"))
    assert len(values.all_text_contents()) == 5
    assert page.locator("#detail .shot header b:first-child").all_text_contents() == ["base", "b", "a"]
    assert page.said == []


def test_a_run_that_trains_updates_without_a_reload(visit, folder):
    rows = [sample(row, 0.25, f"text {row}") for row in range(4)]
    run = make_run(folder, "live", lines=[line(1, reward=0.1)], validations={0: rows}, finish=False)
    with run.session():
        listed, page = visit("/?q=live"), visit("/runs/live")
        assert "step 1, " in listed.locator("table.runs tbody").text_content()
        assert page.locator(".meta .status").text_content() == "running"
        chart = page.locator(".chart").first
        hover(page, chart)
        page.click("summary:has-text('Configuration')")
        for step in (2, 3):
            run.append_metrics(line(step, reward=0.1 * step))
        run.write_samples("step-000003", [sample(row, 0.75, f"better {row}") for row in range(4)])
        run.update(best_step=3)
        until(lambda: page.evaluate("document.querySelector('.big b').textContent === '0.250 → 0.750'"))
        until(
            lambda: page.evaluate(
                "document.querySelector('.chart').getAttribute('aria-label').includes('validation from 0.250 to 0.750')"
            )
        )
        values = hover(page, chart)
        until(lambda: page.evaluate("document.querySelector('.u-legend .u-value').textContent === '3'"))
        assert values.all_text_contents()[1:] == ["0.3", "0.75 [0.75, 0.75]"]
        assert page.locator("details[open] summary").all_text_contents() == ["Configuration"]
        until(
            lambda: listed.evaluate("document.querySelector('table.runs').textContent.includes('step 3, ')")
        )
    until(lambda: listed.evaluate("!document.querySelector('table.runs').textContent.includes('step 3, ')"))
    shutil.rmtree(run.path)
    until(lambda: page.evaluate("document.querySelector('h1').textContent === 'Not shown'"))
    assert "there is no run 'live'" in page.locator("main").text_content()
    until(lambda: listed.evaluate("document.querySelector('#count').textContent.startsWith('0 of ')"))
    assert page.evaluate(RELOADED)
    assert listed.evaluate(RELOADED)
    assert [said for said in page.said + listed.said if "404" not in said] == []


def test_a_row_is_followed_through_the_steps(visit):
    page = visit("/runs/a/completions")
    rows = page.locator("#rows a > b:first-child")
    assert rows.all_text_contents() == ["line-1", "line-2", "line-3", "line-4"]
    shots = page.locator("#detail .shot")
    assert shots.locator("pre").all_text_contents() == ["text 0 at 0", "text 0 at 4", "text 0 at 8"]
    assert shots.nth(0).locator("header b").all_text_contents() == ["base", "reward 0.000"]
    assert shots.nth(0).locator(".chips").text_content() == "form 1.000"
    assert "best checkpoint" in shots.nth(2).text_content()
    page.keyboard.press("j")
    until(lambda: page.evaluate("document.querySelector('#detail h2').textContent.startsWith('line-2')"))
    page.keyboard.press("j")
    until(lambda: page.evaluate("document.querySelector('#detail h2').textContent.startsWith('line-3')"))
    page.keyboard.press("k")
    until(lambda: page.evaluate("document.querySelector('#detail h2').textContent.startsWith('line-2')"))
    assert page.evaluate("document.activeElement.closest('#rows') !== null")
    assert page.evaluate(RELOADED)
    page.reload()
    assert page.locator("#detail h2").text_content().startswith("line-2")


def test_completions_are_filtered_ordered_and_searched(visit):
    page = visit("/runs/a/completions")
    rows = page.locator("#rows a > b:first-child")

    def shows(*ids):
        until(lambda: rows.all_text_contents() == list(ids))

    page.select_option("select[name=show]", "lost")
    shows("line-3")
    page.select_option("select[name=show]", "ungraded")
    shows("line-4")
    assert "1 failed, 0 skipped in the whole run" in page.locator("#failures").text_content()
    assert "raised: ValueError: no" in page.locator("#failures").text_content()
    page.click("#detail .shot:last-child summary")
    assert page.locator("#detail .shot:last-child details pre").text_content() == "Traceback: no"
    page.select_option("select[name=show]", "all")
    shows("line-1", "line-2", "line-3", "line-4")
    page.select_option("select[name=order]", "loss")
    shows("line-3", "line-2", "line-1", "line-4")
    page.select_option("select[name=after]", "4")
    until(lambda: page.evaluate("document.querySelector('#rows b.up').textContent === '0.300'"))
    page.fill("input[name=q]", "text 2 at 4")
    shows("line-3")
    assert page.locator("#count").text_content() == "1 of 4 rows"
    page.fill("input[name=q]", "")
    page.select_option("select[name=split]", "training")
    shows("line-6", "line-7", "line-6", "line-7")
    assert "step 4 0.950 2 completions, 0.900 to 1.000" in " ".join(
        page.locator("#rows a").first.text_content().split()
    )
    assert page.locator("#detail .shot pre").all_text_contents()[:2] == [
        "sampled 5.1 at 4",
        "sampled 5.0 at 4",
    ]
    page.select_option("select[name=after]", "0")
    shows("line-6", "line-7")
    page.fill("input[name=q]", "nothing has this")
    page.wait_for_selector("#rows li:text-is('No row matches.')")
    assert rows.count() == 0
    assert page.evaluate(RELOADED)
    assert page.said == []


def test_a_long_list_is_shown_a_page_at_a_time(visit):
    page = visit("/runs/many/completions?order=file")
    rows = page.locator("#rows a > b:first-child")
    assert rows.all_text_contents() == [f"line-{row}" for row in range(1, 51)]
    page.click("#later")
    page.wait_for_selector("#rows a:has-text('line-51')")
    page.click("#later")
    page.wait_for_selector("#rows a:has-text('line-120')")
    assert rows.all_text_contents() == [f"line-{row}" for row in range(101, 121)]
    assert page.locator("#later").count() == 0
    page.click("#earlier")
    page.wait_for_selector("#rows a:has-text('line-51')")
    assert page.evaluate(RELOADED)


def test_it_works_without_scripts(browser, served):
    context = browser.new_context(java_script_enabled=False)
    name, _, value = served.cookie.partition("=")
    context.add_cookies([{"name": name, "value": value, "url": served.origin}])
    page = context.new_page()
    page.goto(served.origin + "/runs/a/completions")
    page.select_option("select[name=show]", "lost")
    page.click("form.filters button")
    assert page.locator("#rows a > b:first-child").all_text_contents() == ["line-3"]
    page.goto(served.origin + "/")
    page.click("a:text-is('b')")
    assert page.locator("h1").text_content() == "b"
    context.close()


def test_the_report_is_a_file_to_keep(visit, tmp_path):
    page = visit("/runs/a")
    with page.expect_download() as started:
        page.click("a:text-is('Report as a file')")
    started.value.save_as(tmp_path / "report.html")
    assert started.value.suggested_filename == "a-report.html"
    assert "<title>a – rft report</title>" in (tmp_path / "report.html").read_text()


def test_a_page_says_when_the_dashboard_has_ended(visit, folder):
    with dashboard(folder) as started:
        page = visit("/runs/a", start=started)
        started.end()
        page.wait_for_selector("#connection:has-text('No answer: has rft dashboard ended?')", timeout=LIVE_MS)
        assert page.locator("h1").text_content() == "a"


HOSTILE_NAME = "%3Cimg%20src%3Dx%20onerror%3D%27window.__owned%3D1%27%3E"
HOSTILE_RUN = f"/runs/{HOSTILE_NAME}"
HOSTILE_PAGES = [
    "/", "/?q=%22%3E%3Cscript%3E", HOSTILE_RUN, f"{HOSTILE_RUN}/completions?order=file",
    f"{HOSTILE_RUN}/completions?split=training", f"{HOSTILE_RUN}/completions?show=ungraded&q=%3Cscript%3E",
    f"/compare?run={HOSTILE_NAME}&run=hostile+2", "/runs/%3Cscript%3Ewindow.__owned=1%3C%2Fscript%3E",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PAGES)
def test_nothing_of_a_run_runs(visit, served, path):
    page = visit(path)
    for summary in page.locator("main summary").all():
        summary.click()
    for _ in range(3):
        page.keyboard.press("j")
        page.wait_for_timeout(100)
    for name in ("status", "split", "show", "order"):
        if page.locator(f"form.filters[data-swap] select[name={name}]").count():
            page.select_option(f"select[name={name}]", index=1)
            page.wait_for_timeout(200)
    if page.locator("form.filters input[type=search]").count():
        page.fill("form.filters input[type=search]", "<script>")
        page.wait_for_timeout(400)
    assert page.evaluate("window.__owned") is None
    assert [said for said in page.said if "404" not in said] == []
    assert {url.split("/")[2] for url in page.asked} == {served.origin.split("/")[2]}
    found = (
        "main script, main iframe, main img, main base, main style, main meta, main [onerror], main [onload]"
    )
    assert page.locator(found).count() == 0
    text = page.evaluate("document.body.innerText")
    assert [char for char in "\x00\x07\x1b\x9b\u202e\u2066\u2028\ufeff" if char in text] == []
    assert page.locator("#main, #theme").count() == 2


def test_a_hostile_completion_is_shown_as_the_text_that_it_is(visit):
    page = visit(f"/runs/{HOSTILE_NAME}/completions?q=gnihsif&split=validation")
    assert "\\x1b[31m\\x1b]0;owned\\x07\\x9b2J\\u202egnihsif" in page.locator("#detail").text_content()
    page.fill("input[name=q]", "aaaaaaaaaa")
    page.wait_for_selector("#detail pre.prompt:has-text('aaaaaaaaaa')")
    cut = "a" * 20_000 + " … (980,000 more characters)"
    assert cut in page.locator("#detail").text_content()


PAGES = [
    "/", "/runs/a", "/runs/a/completions", "/runs/a/completions?split=training&show=ungraded", "/compare?run=a&run=b",
    "/runs/nothing", HOSTILE_RUN, f"{HOSTILE_RUN}/completions", f"/compare?run={HOSTILE_NAME}&run=hostile+2",
]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_it_fits_and_is_accessible(visit, path):
    page = visit(path)
    for width, dark in ((1280, False), (800, False), (390, True)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.wait_for_timeout(150)
        assert page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), width
        assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
        if width == 800:
            continue
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
        serious = [
            (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []
