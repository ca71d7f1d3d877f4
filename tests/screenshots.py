"""`make screenshots`: the pictures in docs/console.md and README, of a day in the demo's world."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect

from demo.keeper import Interrupts, Keeper
from demo.story import Demo, make_customers, write_csv
from demo.world import environment_of
from tests.browser import chromium
from tests.waiting import wait_until
from tests.worker_process import TOP

DOCS = TOP / "docs"
ROWS = 240
SIZE = ViewportSize(width=1120, height=760)
PATIENCE_MS = 120_000


def walk(page: Page, demo: Demo, folder: Path) -> None:
    """Go through the day, and take a picture at each of its stations."""
    page.goto("/login")
    page.fill("#name", demo.user)
    page.fill("#password", demo.password)
    page.press("#password", "Enter")
    page.wait_for_url(f"{demo.web_url}/")

    file = folder / "july.csv"
    write_csv(file, make_customers(ROWS))
    page.goto("/batches/new")
    page.set_input_files("#file", file)
    page.locator("form:has(#file) button").click()
    expect(page.locator(".verdict")).to_be_visible()
    take(page, "check")

    page.locator("main a.button").click()
    page.locator("form.terms button").click()
    page.locator("form[action$='/confirm'] button").click()
    page.click("#now")
    batch = page.url
    page.goto(batch)
    done = page.locator("main progress")
    wait_until(lambda: int(done.get_attribute("value") or 0) > ROWS // 3, "a third of the codes")
    take(page, "batch")
    page.goto("/")
    take(page, "home")

    page.goto(batch)
    expect(page.locator(".phase")).to_contain_text("Done")
    page.goto("/dead")
    take(page, "failed")


def take(page: Page, name: str) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    path = DOCS / f"pictures/console-{name}.png"
    page.screenshot(path=path)
    print(f"{path.relative_to(TOP)}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Start the world, walk, and end it."""
    expect.set_options(timeout=PATIENCE_MS)
    with (
        tempfile.TemporaryDirectory(prefix="sendcode-") as folder,
        Keeper(environment_of(), Interrupts()) as keeper,
        Demo(Path(folder), ROWS, keeper) as demo,
        chromium() as browser,
    ):
        context = browser.new_context(base_url=demo.web_url, viewport=SIZE)
        context.set_default_timeout(PATIENCE_MS)
        walk(context.new_page(), demo, Path(folder))


if __name__ == "__main__":
    main()
