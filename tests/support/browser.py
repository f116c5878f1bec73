"""The console on a real socket, and a headless Chromium to look at it."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from support.console import application
from tailorbird.processes.http_servers import Server, listen
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import key_path

#: Set to anything, the committed screenshots are taken anew.
TAKE = bool(os.environ.get("TAILORBIRD_SCREENSHOTS"))
SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1080, "height": 720}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless. Its absence fails, aloud: nothing of this can be seen without it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "no Chromium on this machine: install it with: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(deps: Dependencies) -> Iterator[str]:
    """The console's address while it is served by a thread."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = Server(application(deps, {url}))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield url
    finally:
        server.end()
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


@dataclass
class Person:
    """Somebody at a browser of their own. ``complaints`` are the errors on its console: scripts, policy, files not found."""

    deps: Dependencies
    url: str
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)

    def log_in(self, name: str, *, keep: bool = False) -> None:
        self.go("/console/login")
        self.page.get_by_label("Tenant").fill("acme")
        self.page.get_by_label("Identity").fill(name)
        self.page.get_by_label("Key file").set_input_files(key_path(self.deps, "acme", name))
        if keep:
            self.page.get_by_label("Let this browser sign for me").check()
        self.page.get_by_role("button", name="Sign and log in").click()
        self.page.wait_for_url(f"{self.url}/console")

    def head(self) -> str:
        return self.page.get_by_role("heading", level=1).inner_text()

    def overflow(self) -> int:
        """Pixels by which the page is wider than the screen."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def press_until(self, wanted: str, key: str = "Tab", most: int = 60) -> None:
        """Presses ``key`` until what has the focus says ``wanted``."""
        for _ in range(most):
            self.page.keyboard.press(key)
            if self.focused() == wanted:
                return
        raise AssertionError(f"{most} times {key} did not lead to {wanted}")

    def focused(self) -> str:
        script = "(e => e === document.body ? '' : (e.labels?.[0] ?? e).innerText.trim())(document.activeElement)"
        return str(self.page.evaluate(script)).split("\n")[0]

    def picture(self, name: str) -> None:
        """Takes the screenshot ``name``, where that was asked for."""
        if TAKE:
            SCREENSHOTS.mkdir(exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextmanager
def person(browser: Browser, deps: Dependencies, url: str, **options: Any) -> Iterator[Person]:
    """A fresh browser profile; whatever it complains of fails the test."""
    context = browser.new_context(**({"viewport": DESK} | options))
    page = context.new_page()
    someone = Person(deps, url, context, page)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            someone.complaints.append(message.text)

    def note_failure(request: Request) -> None:
        # A page that is left no longer wants its pictures: the browser gives those requests up.
        if request.failure != "net::ERR_ABORTED":
            someone.complaints.append(f"failed: {request.url}")

    page.on("console", note)
    page.on("pageerror", lambda error: someone.complaints.append(str(error)))
    page.on("requestfailed", note_failure)
    page.on("request", lambda request: request.url.startswith(url) or someone.complaints.append(f"elsewhere: {request.url}"))
    yield someone
    context.close()
    assert not someone.complaints, someone.complaints
