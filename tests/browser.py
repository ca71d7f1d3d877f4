"""A headless browser, where there is one: what a page is after its scripts have run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright

from tests.waiting import PATIENCE_S

NAMES = (
    "chromium-headless-shell",  # without windows: less than half the CPU of the others
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
SCRIPTS_MS = 5_000
"""Virtual time that a page's scripts and requests get."""
_VIOLATIONS = """
axe.run({resultTypes: ["violations"], selectors: false}).then(
    found => found.violations.map(each => [each.id, each.nodes[0].html]))
"""
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def rendered(url: str, profile: Path) -> str:
    """Return the page's document as the browser has it; skip the test where there is no browser."""
    browser = _installed()
    shown = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",  # needs a kernel that lets it; the pages are our own
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            f"--virtual-time-budget={SCRIPTS_MS}",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return shown.stdout


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser that people's ways through pages are walked in; skip where there is none."""
    path = _installed()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


def check_page(page: Page) -> None:
    """Let axe-core look at a page, which is no wider than its window."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE_SCRIPT)
    assert page.evaluate(_VIOLATIONS) == [], page.url
    assert not page.evaluate(TOO_WIDE), page.url


def _installed() -> str:
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no browser is installed ({', '.join(NAMES)})")
    return browser
