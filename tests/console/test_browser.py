"""The console as people meet it: a real browser, a real socket, keys that stay where they are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request, expect

from support.browser import PHONE, chromium, person, served
from support.console import copied, release_of, request_id, run_named
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import StepProgress
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import key_path

pytestmark = pytest.mark.slow

PAGES = ("Objectives", "Data", "Runs", "Releases", "Traffic", "Signals", "Audit log")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dependencies]:
    deps = copied(furnished, tmp_path_factory.mktemp("shared"))
    yield deps
    deps.ledger.close()


@pytest.fixture(scope="module")
def address(shared: Dependencies) -> Iterator[str]:
    with served(shared) as url:
        yield url


@pytest.fixture
def own_address(deps: Dependencies) -> Iterator[str]:
    with served(deps) as url:
        yield url


def release_path(deps: Dependencies) -> str:
    return f"/console/releases/{release_of(deps).removeprefix('sha256:')}"


def state_of(deps: Dependencies) -> ReleaseState:
    with deps.ledger.work("acme", write=False) as work:
        return work.releases.all()[0].state


def every_path(deps: Dependencies) -> list[str]:
    fixed = ["/console", *(f"/console/{name}" for name in ("data", "runs", "releases", "traffic", "signals", "audit", "nothing"))]
    return [
        *fixed,
        *(f"/console/runs/{run_named(deps, name)}" for name in ("desk", "triage")),
        release_path(deps),
        f"/console/requests/{request_id(1)}",
    ]


def test_a_viewer_logs_in_and_walks_all_pages(browser: Browser, shared: Dependencies, address: str) -> None:
    with person(browser, shared, address) as viewer:
        viewer.log_in("viewer")
        for name in PAGES:
            viewer.page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()
            assert viewer.head() == name
            expect(viewer.page.get_by_role("navigation", name="Main").locator("[aria-current=page]")).to_have_text(name)
        viewer.page.get_by_role("button", name="Verify the whole log").click()
        assert viewer.head() == "The log is intact"
        viewer.go("/console")
        viewer.page.get_by_role("link", name=run_named(shared, "desk")).click()
        ladder = viewer.page.locator(".card table").first
        expect(ladder.locator("tbody tr")).to_have_count(8)
        assert [row.split()[0] for row in ladder.locator("tbody tr").all_inner_texts()][:3] == ["floor", "prompt", "lora"]
        ladder.scroll_into_view_if_needed()
        viewer.picture("run")
        viewer.go("/console/traffic")
        viewer.picture("traffic")
        viewer.page.get_by_role("link", name=request_id(1)[-12:]).click()
        assert viewer.head() == "What stands behind an answer"
        viewer.page.get_by_role("button", name="Log out").click()
        assert viewer.head() == "Log in"
        viewer.go("/console/signals")
        assert viewer.head() == "Log in"


def test_the_private_key_is_not_sent(browser: Browser, shared: Dependencies, address: str) -> None:
    secret = "".join(key_path(shared, "acme", "viewer").read_text().splitlines()[1:-1])
    sent: list[str] = []

    def note(request: Request) -> None:
        sent.append(request.url + (request.post_data or ""))

    with person(browser, shared, address) as viewer:
        viewer.page.on("request", note)
        viewer.log_in("viewer", keep=True)
        assert any("/console/login" in told for told in sent)
        assert not any(piece in "".join(sent) for piece in (secret, secret[-32:], "PRIVATE"))
        kept = """new Promise(done => { const o = indexedDB.open("tailorbird"); o.onsuccess = () => {
            const r = o.result.transaction("keys").objectStore("keys").get("own");
            r.onsuccess = () => crypto.subtle.exportKey("pkcs8", r.result.key).then(() => done("read"), e => done(e.name)); }; })"""
        assert viewer.page.evaluate(kept) == "InvalidAccessError"


def test_a_key_that_is_not_the_persons_logs_nobody_in(browser: Browser, shared: Dependencies, address: str, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.key"
    nonsense.write_text("not a key")
    with person(browser, shared, address) as stranger:
        stranger.go("/console/login")
        stranger.page.get_by_label("Tenant").fill("acme")
        stranger.page.get_by_label("Identity").fill("operator")
        stranger.page.get_by_label("Key file").set_input_files(nonsense)
        stranger.page.get_by_role("button", name="Sign and log in").click()
        expect(stranger.page.get_by_role("alert")).to_contain_text("This is not a key file")
        stranger.page.get_by_label("Key file").set_input_files(key_path(shared, "acme", "viewer"))
        stranger.page.get_by_role("button", name="Sign and log in").click()
        expect(stranger.page.get_by_role("alert")).to_contain_text("does not prove an identity")
        # The browser notes the status 401 of the answer: that is all it may complain of.
        assert [text for text in stranger.complaints if "401" not in text] == []
        stranger.complaints.clear()


def test_approving_with_the_keyboard_alone(browser: Browser, deps: Dependencies, own_address: str) -> None:
    """The key is kept at the login (the file is chosen there, in a dialog of the system); from there on only keys are pressed."""
    with person(browser, deps, own_address) as approver:
        approver.log_in("approver", keep=True)
        approver.page.keyboard.press("Tab")
        assert approver.focused() == "Skip to the content"
        approver.press_until("Releases")
        approver.page.keyboard.press("Enter")
        expect(approver.page.get_by_role("heading", level=1)).to_have_text("Releases")
        approver.press_until("Skip to the content")
        approver.page.keyboard.press("Enter")
        approver.press_until(release_of(deps)[7:19])
        approver.page.keyboard.press("Enter")
        expect(approver.page.get_by_role("heading", level=1)).to_contain_text("Release")
        approver.press_until("Approve")
        approver.page.keyboard.press("Space")
        approver.press_until("Why")
        approver.page.keyboard.type("Read on the train.")
        approver.press_until("Continue to the statement")
        approver.page.keyboard.press("Enter")
        expect(approver.page.locator("[data-kept]")).to_be_visible()
        approver.picture("statement")
        approver.press_until("Sign and approve")
        approver.page.keyboard.press("Enter")
        expect(approver.page.get_by_role("status")).to_have_text("Your approval is filed.")
        assert state_of(deps) is ReleaseState.APPROVED


def test_what_has_the_focus_shows_it(browser: Browser, shared: Dependencies, address: str) -> None:
    with person(browser, shared, address) as viewer:
        viewer.log_in("viewer")
        viewer.go(release_path(shared))
        seen: list[str] = []
        viewer.page.keyboard.press("Tab")
        while not viewer.page.evaluate("document.activeElement === document.body") and len(seen) < 60:
            assert viewer.page.evaluate(OUTLINED), viewer.focused()
            seen.append(viewer.focused())
            viewer.page.keyboard.press("Tab")
        assert 12 < len(seen) < 60


def test_nothing_is_signed_that_is_not_shown(browser: Browser, deps: Dependencies, own_address: str) -> None:
    with person(browser, deps, own_address) as approver:
        approver.log_in("approver", keep=True)
        approver.go(release_path(deps))
        approver.page.get_by_label("Reject").check()
        approver.page.get_by_role("button", name="Continue to the statement").click()
        approver.page.evaluate("document.querySelector('[data-text]').textContent += ' '")
        approver.page.get_by_role("button", name="Sign and reject").click()
        expect(approver.page.get_by_role("alert")).to_contain_text("Nothing was signed")
        assert state_of(deps) is ReleaseState.GATED


def test_logging_out_forgets_the_key(browser: Browser, deps: Dependencies, own_address: str) -> None:
    count = """new Promise(done => { const o = indexedDB.open("tailorbird", 1);
        o.onupgradeneeded = () => o.result.createObjectStore("keys");
        o.onsuccess = () => { const r = o.result.transaction("keys").objectStore("keys").count(); r.onsuccess = () => done(r.result) } })"""
    with person(browser, deps, own_address) as approver:
        approver.log_in("approver", keep=True)
        assert approver.page.evaluate(count) == 1
        approver.page.get_by_role("button", name="Log out").click()
        assert approver.head() == "Log in"
        approver.page.wait_for_function(f"async () => await ({count}) === 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_every_page_without_scrolling_sideways(browser: Browser, shared: Dependencies, address: str, scheme: str) -> None:
    with person(browser, shared, address, viewport=PHONE, color_scheme=scheme, has_touch=True) as viewer:
        viewer.log_in("viewer")
        for path in every_path(shared):
            viewer.go(path)
            assert viewer.overflow() <= 0, path
        viewer.complaints = [text for text in viewer.complaints if "404" not in text]
        viewer.go(f"/console/runs/{run_named(shared, 'desk')}")
        viewer.page.locator(".card table").first.scroll_into_view_if_needed()
        if scheme == "dark":
            viewer.picture("run-on-a-phone")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, shared: Dependencies, address: str, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for every piece of text on every page."""
    with person(browser, shared, address, color_scheme=scheme) as viewer:
        viewer.log_in("viewer")
        for path in every_path(shared):
            viewer.go(path)
            assert viewer.page.evaluate(FAINT) == [], path
        viewer.complaints = [text for text in viewer.complaints if "404" not in text]


def test_pages_work_without_scripts(browser: Browser, shared: Dependencies, address: str) -> None:
    with person(browser, shared, address) as viewer:
        viewer.log_in("viewer")
        cookies = viewer.context.cookies()
    with person(browser, shared, address, java_script_enabled=False) as viewer:
        viewer.context.add_cookies([{"name": c["name"], "value": c["value"], "url": address} for c in cookies])
        for path in every_path(shared)[:6]:
            viewer.go(path)
            assert viewer.page.locator("h1").inner_text() in PAGES
        viewer.go(f"/console/runs/{run_named(shared, 'triage')}")
        assert "http-equiv" in viewer.page.content()
        viewer.go("/console/login")
        assert viewer.page.locator("noscript p").bounding_box() is not None


def test_progress_moves_on_by_itself(browser: Browser, deps: Dependencies, own_address: str) -> None:
    run = run_named(deps, "triage")
    with person(browser, deps, own_address) as viewer:
        viewer.log_in("viewer")
        viewer.go(f"/console/runs/{run}")
        expect(viewer.page.get_by_text("training step 12 of 40")).to_be_visible()
        with deps.ledger.work("acme") as work:
            (step,) = work.steps.of(run)
            work.steps.heartbeat(step, timedelta(minutes=5), StepProgress(text="cleaning rows", done=900, total=1600))
        expect(viewer.page.get_by_text("900 of 1,600")).to_be_visible(timeout=10_000)
        with deps.ledger.work("acme") as work:
            taken = work.steps.of(run_named(deps, "desk"))[0].result
            assert taken is not None
            work.steps.complete(step, taken, 3.0)
        expect(viewer.page.get_by_text("1 step done")).to_be_visible(timeout=10_000)


OUTLINED = """() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
}"""

#: Pieces of text whose colour is too close to what is behind them, each with its contrast.
FAINT = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const channels = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const linear = (v) => v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
    const bright = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
    const ground = (element) => {
        const colour = channels(getComputedStyle(element).backgroundColor);
        return colour[3] === 255 || !element.parentElement ? colour : ground(element.parentElement);
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const [text, element] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
        if (!text || !element.checkVisibility() || element.closest("noscript, .skip")) continue;
        const [low, high] = [bright(channels(getComputedStyle(element).color)), bright(ground(element))].sort((a, b) => a - b);
        const contrast = (high + .05) / (low + .05);
        if (contrast < 4.5) faint.push(`${text.slice(0, 30)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""
