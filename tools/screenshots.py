"""The pictures of the report in the README, from the last run: `python -m tools.screenshots`."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from ragline.artifacts import REPORT
from ragline.io import require

IMAGES = Path("docs/images")
WIDTH, HEIGHT = 1280, 800
DARK = "#q=gold/g046"
"""The question that is shown opened, in the dark."""


def main(root: Path = Path()) -> None:
    """Write the first screen, and a question opened."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        sys.exit("screenshots: expected chromium on the path, got none; install it")
    (root / IMAGES).mkdir(parents=True, exist_ok=True)
    url = require(REPORT, root).resolve().as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(url)
        page.screenshot(path=root / IMAGES / "report.png")
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark")
        page.goto(url + DARK)
        page.screenshot(path=root / IMAGES / "question.png")
        browser.close()


if __name__ == "__main__":
    main()
