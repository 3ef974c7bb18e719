"""The report in a real browser: it loads nothing, fits a phone, and shows what the files say."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ragline import artifacts, io
from stages import report
from tests.fixtures.report_inputs import write_inputs

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the path"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_inputs(root, hostile=True)
    report.main(report.ReportParams(title="Ragline"), root)
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, root: Path) -> Iterator[Any]:
    """Open the page at a width in a colour scheme; afterwards nothing else was asked for and nothing complained."""
    requests: list[str] = []
    complaints: list[str] = []
    url = (root / artifacts.REPORT).as_uri()
    contexts = []

    def opened(width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 812}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert set(requests) == {url}
    assert complaints == []


@pytest.mark.parametrize("width", [320, 375, 768, 1280, 1920])
def test_page_never_scrolls_sideways(visit: Any, width: int) -> None:
    page = visit(width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_equal_the_metrics_file(visit: Any, root: Path) -> None:
    page = visit()
    rows = page.eval_on_selector_all(
        "table.levels tbody tr", "rows => rows.map(r => [...r.children].map(c => c.firstChild.textContent))"
    )
    sets = io.read_json(root / artifacts.METRICS)
    families = ("retrieval", "retrieval_document", "answers")
    values = [row for name in sets for family in families for row in sets[name].get(family, {}).values()]
    expected = {tuple(f"{x:.3f}" for x in row.values()) for row in values}
    assert len(rows) == len(values)
    assert {tuple(row[1:]) for row in rows} == expected


def test_hostile_question_is_text(visit: Any) -> None:
    page = visit(375)
    summary = page.locator("#failures summary").first
    assert summary.locator("bdi").first.inner_text().startswith("<script>document.title='owned'</script><img src=x")
    assert page.title() == "Ragline"
    assert page.locator("script, img").count() == 0


def test_details_open_by_keyboard(visit: Any) -> None:
    page = visit()
    page.locator("#failures summary").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#failures details").nth(1).get_attribute("open") is not None
    assert page.locator("#failures details").nth(1).locator("ol.passages > li").count() == 5


def test_every_wide_table_can_be_scrolled_by_keyboard(visit: Any) -> None:
    page = visit(375)
    loose = page.evaluate("[...document.querySelectorAll('table')].filter(t => !t.closest('.scroll[tabindex]')).length")
    assert loose == 0


def test_dark_scheme_is_dark_and_paper_is_white(visit: Any) -> None:
    page = visit(scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(22, 24, 28)"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 29, 33)"
    assert not page.locator("nav").is_visible()
