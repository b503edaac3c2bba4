"""Reports in a real browser: nothing of a run runs, every control works, on a phone and in the dark too."""

from pathlib import Path

import pytest

from rft_cli.pages.html_report import comparison_page, run_page
from rft_cli.view.comparing import compare_runs
from rft_cli.view.overview import read_overview
from tests.pages.conftest import hostile_run
from tests.pages.hostile import HOSTILE
from tests.view.made_runs import line, make_run, sample

AXE = Path(__file__).with_name("vendor") / "axe.min.js"


def honest_run(folder, name="job", shift=0.0):
    lines = [line(step, reward=0.1 * step, kl_per_token=0.01 * step) for step in range(1, 9)]
    rewards = {0: [0.0, 0.5, 1.0, 0.2], 4: [0.4, 0.5, 0.6, None], 8: [1.0, 0.5, 0.3, 0.2]}
    validations = {
        step: [
            sample(
                row,
                None if reward is None else reward + shift,
                f"text {row} at {step}",
                components={"form": 1.0},
            )
            for row, reward in enumerate(found)
        ]
        for step, found in rewards.items()
    }
    rollouts = {0: [sample(7, 0.1, "sampled"), sample(7, 0.9, "sampled better")]}
    return make_run(folder, name, lines=lines, validations=validations, rollouts=rollouts, best_step=8)


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    honest, other = (
        read_overview(honest_run(folder, name, shift)) for name, shift in (("a", 0.0), ("b", 0.1))
    )
    hostile, hostile2 = (read_overview(hostile_run(folder, name)) for name in ("h", "i"))
    return {
        "run": run_page(honest),
        "comparison": comparison_page(compare_runs([honest, other])),
        "hostile run": run_page(hostile),
        "hostile comparison": comparison_page(compare_runs([hostile, hostile2])),
    }


@pytest.mark.parametrize("which", ["hostile run", "hostile comparison"])
def test_nothing_of_a_run_runs(open_page, page_of, which):
    page = open_page(page_of[which])
    page.keyboard.press("Escape")
    for _ in range(min(len(HOSTILE), page.locator("#rows button").count())):
        page.keyboard.press("j")
    for summary in page.locator("summary").all():
        summary.click()
    for split in page.locator("#split option").all_text_contents():
        page.select_option("#split", split)
    page.fill("#search", "<script>")
    page.wait_for_timeout(200)
    assert page.evaluate("window.__owned") is None
    assert page.said == []
    assert [url for url in page.asked if not url.startswith("file:")] == []
    assert page.title().endswith(("rft report", "i"))
    assert page.locator("main script, main iframe, main img, main form, main base, main style").count() == 0
    assert (
        page.evaluate("document.querySelectorAll('#rows, #detail, #theme').length") == 3
    )  # and nothing is hidden


def test_a_hostile_completion_is_shown_as_the_text_that_it_is(open_page, page_of):
    page = open_page(page_of["hostile run"])
    page.select_option("#split", "validation")
    page.fill("#search", "<img src=x onerror")
    page.locator("#rows button").first.click()
    assert "<img src=x onerror=" in page.locator("#detail pre.prompt").text_content()
    page.fill("#search", "egnihsif")
    page.locator("#rows button").first.click()
    assert (
        "\\x1b[31m\\x1b]0;owned\\x07\\x9b2J\\u202egnihsif"
        in page.locator("#detail pre.prompt").text_content()
    )
    page.fill("#search", "aaaaaaaaaa")
    prompts = []
    for button in page.locator("#rows button").all():
        button.click()
        prompts.append(page.locator("#detail pre.prompt").text_content())
    assert "a" * 1500 + " … (998,500 more characters)" in prompts


def test_rows_are_filtered_ordered_searched_and_followed_through_the_steps(open_page, page_of):
    page = open_page(page_of["run"])
    ids = page.locator("#rows button > b:first-child")
    page.select_option("#split", "validation")
    assert ids.all_text_contents() == ["line-1", "line-4", "line-2", "line-3"]
    page.select_option("#kind", "lost")
    assert ids.all_text_contents() == ["line-3"]
    page.select_option("#kind", "ungraded")
    assert ids.all_text_contents() == ["line-4"]
    page.select_option("#kind", "all")
    page.select_option("#order", "lowest")
    assert ids.all_text_contents() == ["line-4", "line-3", "line-2", "line-1"]
    page.fill("#search", "text 0 at 4")
    assert page.locator("#count").text_content() == "1 of 5 rows"
    shots = page.locator("#detail .shot")
    assert shots.locator("pre").all_text_contents() == ["text 0 at 0", "text 0 at 4", "text 0 at 8"]
    assert shots.nth(0).locator("header b").all_text_contents() == ["base", "reward 0"]
    assert "best checkpoint" in shots.nth(2).text_content()
    page.fill("#search", "")
    page.select_option("#split", "training")
    assert shots.locator("pre").all_text_contents() == ["sampled better", "sampled"]


def test_the_keyboard_reaches_rows_search_and_theme(open_page, page_of):
    page = open_page(page_of["run"])
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.locator("#rows button").nth(1).get_attribute("aria-current") == "true"
    assert page.evaluate("document.activeElement.closest('#rows') !== null")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("jk")
    assert page.locator("#search").input_value() == "jk"
    page.keyboard.press("Escape")
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_curve_shows_the_values_under_the_cursor(open_page, page_of):
    page = open_page(page_of["run"])
    chart = page.locator(".chart").first
    chart.scroll_into_view_if_needed()
    box = chart.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 40)
    values = chart.locator(".u-legend .u-value")
    page.wait_for_function("document.querySelector('.u-legend .u-value').textContent === '8'")
    assert values.all_text_contents() == ["8", "0.8", "0.5 [0.25, 0.825]"]  # step, training, validation
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.u-legend .u-value').textContent === '7'")
    assert values.all_text_contents()[1] == "0.7"
    assert (
        chart.get_attribute("aria-label")
        == "Reward: training from 0.100 to 0.800; validation from 0.425 to 0.500"
    )


def test_a_run_of_one_step_has_points_and_whole_steps(open_page, tmp_path):
    run = make_run(tmp_path, lines=[line(1)], validations={0: [sample(0, 0.0)]}, finish=False)
    page = open_page(run_page(read_overview(run)))
    # a pixel of a curve's colour: training, accent, run1, run2
    drawn = """() => Array.from(document.querySelectorAll('.plot canvas')).every(canvas => {
        const at = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        for (let i = 0; i < at.length; i += 4) {
            const pixel = [at[i], at[i + 1], at[i + 2]].join(' ');
            if (['138 148 163', '31 86 216', '194 65 12', '11 122 85'].includes(pixel)) return true;
        }
        return false;
    })"""
    assert page.evaluate(drawn)
    assert page.said == []


def test_compared_runs_stand_side_by_side(open_page, page_of):
    page = open_page(page_of["comparison"])
    assert page.locator("h1").text_content() == "a against b"
    assert "b is better than a by 0.100" in page.locator(".lead").text_content()
    assert page.locator("#detail .shot header b:first-child").all_text_contents() == ["base", "a", "b"]
    assert page.locator(".chart .u-legend .u-label").filter(has_text="b validation").count() >= 1


@pytest.mark.parametrize("which", ["run", "comparison", "hostile run", "hostile comparison"])
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (800, False), (390, False), (390, True)]
)
def test_it_fits_and_is_accessible(open_page, page_of, which, width, dark):
    page = open_page(page_of[which], width, dark)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    serious = [
        (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
