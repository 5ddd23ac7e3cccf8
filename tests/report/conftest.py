"""A headless Chromium, and pages that fail a test for whatever they should not do."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "ROADMAP_REQUIRE_BROWSER"  # set in CI, where a missing browser is no reason to skip


# no longer than a module: its driver ends with a pipe that the processes which later tests fork hold open
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        missing = f"no Chromium on the PATH ({', '.join(NAMES)}); on Debian: apt-get install chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{missing}; {REQUIRED} is set")
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # root in a container has no sandbox
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a report; at the test's end nothing may have been logged, asked of a network, or shown as a dialog."""
    heard: list[str] = []
    contexts = []

    def opened(file: Path, width: int = 1200, **settings: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **settings)
        context.set_default_timeout(120_000)  # milliseconds; the machine may be busy
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: heard.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not heard
