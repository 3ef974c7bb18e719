"""The report in a real browser: it loads nothing, fits a phone, can be used by anyone, and shows what the files say."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ragline import artifacts, io
from ragline.reporting.failures import FINE
from stages import report
from tests.fixtures.report_inputs import write_inputs

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ROWS = "#rows tr"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the path"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_inputs(root, n_test=180, n_gold=70, hostile=True)
    report.main(report.ReportParams(title="Ragline"), root)
    return root


@pytest.fixture(scope="module")
def predictions(root: Path) -> list[dict[str, Any]]:
    return io.read_frame(root / artifacts.PREDICTIONS)


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

    def opened(width: int = 1280, scheme: str = "light", at: str = "", script: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url.split("#")[0]))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url + at)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert set(requests) == {url}
    assert complaints == []


# --- looks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 375, 768, 1280, 1920])
def test_page_never_scrolls_sideways(visit: Any, width: int) -> None:
    page = visit(width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page = visit(width, at="#q=gold/0-hostile")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inside = page.evaluate("[document.getElementById('one')].map(d => [d.scrollWidth, d.clientWidth])[0]")
    assert inside[0] <= inside[1]


def test_no_table_is_cut_on_a_laptop(visit: Any) -> None:
    page = visit()
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    cut = "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth).map(s => s.ariaLabel)"
    assert page.evaluate(cut) == []


@pytest.mark.parametrize("width", [375, 1280])
def test_no_choice_is_cut(visit: Any, width: int) -> None:
    page = visit(width)
    needed = """s => { const c = document.createElement("canvas").getContext("2d"); c.font = getComputedStyle(s).font;
        return [c.measureText(s.selectedOptions[0].textContent).width + 25, s.clientWidth]; }"""
    for text, room in page.locator("#filters select").evaluate_all(f"selects => selects.map({needed})"):
        assert text <= room


def test_first_screen_of_a_laptop_says_it_all(visit: Any) -> None:
    page = visit()
    assert page.evaluate("document.getElementById('overview').getBoundingClientRect().bottom") <= 800


def test_dark_scheme_is_dark_and_paper_is_white(visit: Any) -> None:
    page = visit(scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(22, 24, 28)"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 29, 33)"
    assert not page.locator("nav").first.is_visible()


def test_switch_of_colours_is_remembered(visit: Any) -> None:
    page = visit()
    page.get_by_role("button", name="Switch between light and dark").click()
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(22, 24, 28)"
    page.reload()
    assert page.evaluate(background) == "rgb(22, 24, 28)"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 29, 33)"


def test_print_has_the_worst_failures_in_place_of_the_explorer(visit: Any) -> None:
    page = visit()
    assert page.locator("#questions").is_visible()
    assert not page.locator("#failures").is_visible()
    page.emulate_media(media="print")
    assert not page.locator("#questions").is_visible()
    assert page.locator("#failures").is_visible()


def test_every_table_fits_the_paper(visit: Any) -> None:
    page = visit(688)  # A4 less its margins: 182 mm of 96 pixels an inch
    page.emulate_media(media="print")
    wide = "[...document.querySelectorAll('table')].filter(t => t.offsetWidth > 688).map(t => t.caption?.textContent)"
    assert page.evaluate(wide) == []
    case = page.locator("#failures .case").first
    assert case.locator("dl").is_visible()
    assert not case.locator(".passages").first.is_visible()


def test_without_script_the_worst_failures_stand_there(visit: Any) -> None:
    page = visit(script=False)
    assert not page.locator("#questions").is_visible()
    assert page.locator("#failures details").first.is_visible()
    page.locator("#failures summary").nth(1).click()
    assert page.locator("#failures details").nth(1).locator("ol.passages > li").count() == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "scheme", "at"),
    [(1280, "light", ""), (375, "dark", ""), (1280, "dark", "#q=gold/0-hostile"), (375, "light", "#q=gold/0-hostile")],
)
def test_axe_finds_nothing_serious(visit: Any, width: int, scheme: str, at: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = visit(width, scheme, at)
    found = axe.Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, json.dumps([(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in serious])


# --- numbers ---------------------------------------------------------------------------------------


def test_tables_equal_the_metrics_file(visit: Any, root: Path) -> None:
    tables = visit().eval_on_selector_all(
        "table",
        """tables => tables.map(t => [t.caption?.textContent ?? "",
             [...t.rows].map(r => [...r.cells].map(c => c.firstChild?.textContent ?? ""))])""",
    )
    for name, label in (("test", "test questions"), ("gold", "gold set")):
        metrics = io.read_json(root / artifacts.METRICS)[name]
        for family, caption in (
            ("retrieval", f"A passage that holds the answer, {label}"),
            ("retrieval_document", f"Any passage of a document that answers, {label}"),
        ):
            if family in metrics:
                (rows,) = [rows for title, rows in tables if title.startswith(caption)]
                shown = {row[0]: row[1:] for row in rows[1:]}
                for metric in next(iter(metrics[family].values())):
                    expected = [f"{values[metric]:.3f}" for values in metrics[family].values()]
                    assert [cell.strip() for cell in shown[metric]] == expected


def test_list_equals_the_predictions(visit: Any, predictions: list[dict[str, Any]]) -> None:
    page = visit(at="#set=gold&sort=id")
    gold = sorted((row for row in predictions if row["set"] == "gold"), key=lambda row: row["question_id"])
    rows = page.eval_on_selector_all(ROWS, "rows => rows.map(r => [...r.cells].map(c => c.textContent))")
    assert len(rows) == len(gold) == 70
    for cells, row in zip(rows, gold, strict=True):
        f1 = f"{row['extractive_f1']:.3f}" if row["answerable"] else "—"
        rank = (str(row["rank_hybrid"]) if row["rank_hybrid"] else "–") if row["answerable"] else "—"
        assert [cells[2], cells[3], cells[4]] == [f1, rank, f"{row['confidence']:.3f}"]
        assert cells[5:] == [row["kind"], "gold set"]


def test_one_question_equals_its_row(visit: Any, predictions: list[dict[str, Any]]) -> None:
    row = next(r for r in predictions if r["set"] == "test" and r["gold_position"] == 2)
    page = visit(at=f"#q=test/{row['question_id']}")
    text = page.locator("#one").inner_text()
    assert row["question"] in text
    for who in ("extractive", "generator"):
        assert f"EM {row[f'{who}_em']:.3f} · F1 {row[f'{who}_f1']:.3f} · grounded {row[f'{who}_grounded']:.3f}" in text
    ranks = [f"{name} {row[f'rank_{name.lower()}'] or 'not found'}" for name in ("BM25", "base", "tuned", "hybrid")]
    assert f"First gold passage at rank: {' · '.join(ranks)}." in text
    passages = page.locator("#one ol.passages > li")
    assert passages.count() == 5
    assert passages.nth(1).get_attribute("class") == "gold"
    marked = passages.nth(1).locator("mark.m0").first.inner_text()
    assert marked == "to stop early; the default keeps everything"


# --- the explorer by hand --------------------------------------------------------------------------


def test_filters_say_how_many_and_travel_in_the_address(visit: Any, predictions: list[dict[str, Any]]) -> None:
    page = visit()
    page.locator("#filters [name=outcome]").select_option("ignored")
    page.locator("#filters [name=set]").select_option("test")
    n = sum(row["set"] == "test" and row["extractive_outcome"] == "ignored" for row in predictions)
    assert (
        page.get_by_role("status").inner_text().startswith(f"{n} question{'' if n == 1 else 's'} of 250, {n} of them")
    )
    assert page.locator(ROWS).count() == n
    address = page.evaluate("location.hash.slice(1)")
    assert set(address.split("&")) == {"set=test", "outcome=ignored"}
    assert visit(at=f"#{address}").locator(ROWS).count() == n
    page.get_by_role("button", name="Clear").click()
    assert page.locator(ROWS).count() == 100


def test_a_document_that_is_listed_is_that_one_alone(browser: Any, tmp_path: Path) -> None:
    write_inputs(tmp_path, n_test=20, n_gold=0)
    rows = io.read_frame(tmp_path / artifacts.PREDICTIONS)
    names = ["quarry.Row", "quarry.Row.sort", "quarry.Row.sort", *("quarry.Table" for _ in rows[3:])]
    columns = {name: [row[name] for row in rows] for name in rows[0]} | {"document": names}
    io.write_frame(columns, tmp_path / artifacts.PREDICTIONS)
    report.main(report.ReportParams(title="Ragline"), tmp_path)
    page = browser.new_page()
    for asked, n in (("quarry.Row", 1), ("quarry.Row.sort", 2), ("quarry.row", 3), ("Row.so", 2)):
        page.goto(f"{(tmp_path / artifacts.REPORT).as_uri()}#document={asked}")
        page.reload()
        assert page.locator(ROWS).count() == n, asked
    page.close()


def test_an_address_with_filters_opens_its_question_among_them(visit: Any, predictions: list[dict[str, Any]]) -> None:
    page = visit(at="#q=gold/0-hostile&set=gold&answerer=generator&sort=id&kind=nonsense")
    assert page.locator("#one .place").inner_text() == "1 of 70"
    page.keyboard.press("Escape")
    page.wait_for_function("!location.hash.includes('q=')")
    assert set(page.evaluate("location.hash.slice(1)").split("&")) == {"set=gold", "answerer=generator", "sort=id"}
    wrong = sum(row["set"] == "gold" and row["generator_outcome"] not in FINE for row in predictions)
    assert (
        page.get_by_role("status").inner_text()
        == f"70 questions of 250, {wrong} of them wrong with the generator answers."
    )


def test_search_needs_every_word(visit: Any, predictions: list[dict[str, Any]]) -> None:
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("RENAME  index")
    words = [f"{row['question']} {row['document']}".lower() for row in predictions]
    n = sum("rename" in text and "index" in text for text in words)
    assert 0 < page.locator(ROWS).count() <= n
    page.keyboard.type(" nothing of the kind")
    assert page.get_by_role("status").inner_text().startswith("0 questions of 250")


def test_pages_of_a_hundred(visit: Any) -> None:
    page = visit()
    assert page.locator(ROWS).count() == 100
    page.locator("#pager").get_by_role("button", name="Next").click()
    page.locator("#pager").get_by_role("button", name="Next").click()
    assert page.locator(ROWS).count() == 50
    assert page.locator("#pager").inner_text().split() == ["Previous", "3", "of", "3", "Next"]
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 1


def test_a_whole_visit_by_keyboard(visit: Any) -> None:
    page = visit()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "text"
    page.keyboard.press("Escape")  # to the first question
    page.keyboard.press("j")
    second = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert page.locator("#one h2").inner_text() == second
    assert page.evaluate("document.activeElement.id") == "one-title"
    page.keyboard.press("j")
    third = page.locator("#one h2").inner_text()
    assert page.locator("#one .place").inner_text() == "3 of 250"
    page.keyboard.press("k")
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    assert not page.locator("#one").is_visible()
    assert page.evaluate("document.activeElement.textContent") == third
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.textContent") == second


def test_back_closes_a_question(visit: Any) -> None:
    page = visit()
    page.locator(f"{ROWS} a").first.click()
    assert page.locator("#one").is_visible()
    page.go_back()
    assert not page.locator("#one").is_visible()


def test_a_link_to_no_question_says_so(visit: Any) -> None:
    page = visit(at="#q=test/nobody")
    assert not page.locator("#one").is_visible()
    assert page.get_by_role("status").inner_text() == "Question test/nobody is not among those on this page."


def test_hostile_question_is_text(visit: Any) -> None:
    page = visit(375, at="#q=gold/0-hostile")
    assert page.locator("#one h2").inner_text().startswith("<script>document.title='owned'</script><img src=x")
    assert page.title() == "Ragline"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


def test_every_wide_table_can_be_scrolled_by_keyboard(visit: Any) -> None:
    page = visit(375)
    loose = page.evaluate("[...document.querySelectorAll('table')].filter(t => !t.closest('.scroll[tabindex]')).length")
    assert loose == 0


@pytest.mark.slow
def test_a_thousand_questions_paint_within_a_second(browser: Any, tmp_path: Path) -> None:
    write_inputs(tmp_path, n_test=800, n_gold=200)
    report.main(report.ReportParams(title="Ragline"), tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / artifacts.REPORT).as_uri())
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 1000
    assert page.get_by_role("status").inner_text().startswith("1,000 questions of 1,000")
    page.close()
