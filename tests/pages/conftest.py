"""A run whose every text attacks, and pages made of runs."""

import pytest

from rft_cli.types import Grade, GradeError, Sample
from tests.pages.hostile import HOSTILE
from tests.view.made_runs import line, make_run

DRAWN = "document.querySelectorAll('.chart').length === document.querySelectorAll('.uplot').length"


def attacking(reward, texts):
    """A sample of each text, which also is its prompt, its id and the name of its component; some grades failed."""
    found = []
    for row, text in enumerate(texts):
        grade = Grade("graded", reward, {text[:200]: reward})
        if row % 5 == 4:
            grade = Grade("failed", error=GradeError("raised", text[:5000], text[:5000]))
        found.append(Sample(row, text[:300], text, text, 12, row % 3 == 0, grade))
    return found


def hostile_run(folder, name="job"):
    """A finished run in which the model, the data, the grader, its errors and every name attack."""
    texts = HOSTILE
    names = {f"reward/{text[:100]}": 0.5 for text in texts}
    run = make_run(
        folder,
        name,
        lines=[line(step, **names) for step in range(1, 9)],
        validations={0: attacking(0.0, texts), 4: attacking(0.5, texts[::-1]), 8: attacking(1.0, texts)},
        rollouts={0: attacking(0.2, texts), 4: attacking(0.4, texts)},
        best_step=8,
        model=texts[0] + texts[7],
        hashes={"train": texts[1], "grader": texts[7]},
        settings={"data.train": texts[1], "grader.path": texts[7], texts[7]: texts[1], "seed": texts[2]},
        versions={texts[7]: texts[0]},
        warnings=[{"step": 0, "text": text[:2000]} for text in texts],
        error=texts[21],
    )
    run.update(status=texts[7] + texts[21], algorithm=texts[0] + texts[21])
    return run


@pytest.fixture
def open_page(browser, tmp_path):
    """Open HTML as a file, as a reader does; what the console said and what was asked of the network come with it."""
    contexts = []

    def opened(html, width=1280, dark=False):
        file = tmp_path / f"page-{len(contexts)}.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_function(DRAWN)
        return page

    yield opened
    for context in contexts:
        context.close()
