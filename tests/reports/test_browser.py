"""The report in headless Chromium: nothing runs, nothing is loaded, everybody can read it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Opener = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opener]:
    """Opens the report in a fresh page and records complaints and requests on the page object's ``log``."""
    contexts = []

    def open_page(scheme: str = "light", width: int = 1280, height: int = 900) -> Page:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.log = []  # type: ignore[attr-defined]
        page.on("console", lambda message: page.log.append(f"console {message.type}: {message.text}"))  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: page.log.append(f"error: {error}"))  # type: ignore[attr-defined]
        page.on("request", lambda request: request.url.startswith("data:") or page.log.append(f"request: {request.url[:200]}"))  # type: ignore[attr-defined]
        page.goto(report.as_uri(), wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")


def open_some(page: Page) -> None:
    """Every kind of part opened, but only two transcripts of a suite: axe takes a second for each hundred visible elements."""
    page.evaluate("document.querySelectorAll('details:not(.transcript)').forEach(d => { d.open = true })")
    page.evaluate("document.querySelectorAll('h4 + .transcript').forEach(d => { d.open = true })")


def violations(page: Page, **options: object) -> list[dict]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    return axe.Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]


def test_loads_only_itself_and_complains_of_nothing(opened: Opener, report: Path) -> None:
    page = opened()
    open_all(page)
    page.mouse.wheel(0, 20_000)
    page.wait_for_timeout(200)
    assert page.log == [f"request: {report.as_uri()}"]


def test_hostile_output_does_not_run_and_hides_nothing(opened: Opener) -> None:
    page = opened()
    open_all(page)
    page.wait_for_timeout(200)
    assert page.evaluate("typeof window.__pwned") == "undefined"
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.querySelectorAll('style').length") == 1
    assert page.evaluate("document.querySelectorAll('main *[onerror], main *[onload], main a[href^=\"javascript\"]').length") == 0
    text = page.inner_text("main")
    assert "<script>window.__pwned = 1</script>" in text
    assert "U+202E" in text
    assert "\u202e" not in text
    assert page.locator("h1").is_visible()


def test_the_policy_refuses_an_injected_script(opened: Opener) -> None:
    page = opened()
    page.evaluate("() => { const s = document.createElement('script'); s.textContent = 'window.__pwned = 9'; document.body.append(s) }")
    page.evaluate("() => { const i = new Image(); i.src = 'https://example.invalid/x.png'; document.body.append(i) }")
    page.wait_for_timeout(200)
    assert page.evaluate("typeof window.__pwned") == "undefined"
    assert sum("Content Security Policy" in line for line in page.log) >= 2


def test_every_image_is_drawn(opened: Opener) -> None:
    page = opened()
    broken = page.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 0, () => false)))"
        ".then(drawn => drawn.filter(x => !x).length)"
    )
    assert page.evaluate("document.images.length") > 15
    assert broken == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_nothing_serious(opened: Opener, scheme: str, width: int) -> None:
    page = opened(scheme, width)
    open_some(page)
    serious = [f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in violations(page) if v["impact"] in ("serious", "critical")]
    assert serious == []


def test_axe_would_notice(opened: Opener) -> None:
    """The check above can fail: an image without a text alternative is found."""
    page = opened()
    page.evaluate("document.querySelector('figure img').removeAttribute('alt')")
    found = violations(page, runOnly=["image-alt"])
    assert [v["impact"] for v in found] == ["critical"]


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
def test_the_page_never_scrolls_sideways(opened: Opener, width: int) -> None:
    page = opened("light", width)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_images_follow_the_colour_scheme(opened: Opener) -> None:
    shots = {scheme: opened(scheme).locator("figure img").first.screenshot() for scheme in ("light", "dark")}
    assert shots["light"] != shots["dark"]


def test_keyboard_reaches_the_skip_link_and_a_transcript(opened: Opener) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(400):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.transcript > summary')"):
            break
    assert page.evaluate("document.activeElement.matches('.transcript > summary')")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open") is True


def test_headings_are_in_order_and_landmarks_are_there(opened: Opener) -> None:
    page = opened()
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].filter(h => !h.closest('nav')).map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert page.locator(landmark).count() == 1


def test_prints_to_pdf_with_the_details_opened(opened: Opener, tmp_path: Path) -> None:
    page = opened("dark")
    page.emulate_media(media="print")
    assert page.locator(".contents").is_hidden()
    assert page.locator(".figure-data").first.is_hidden()
    assert page.locator("details:not(.figure-data):not(.not-printed) table").first.is_visible()
    assert page.locator(".print-only").first.is_visible()
    page.emulate_media(media="screen")
    pdf = page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) > 50_000
