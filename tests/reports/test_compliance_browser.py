"""The compliance report in headless Chromium: nothing runs or is loaded, it is accessible, it fits a phone, and it prints with its stamp."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from auditor.engine.suites import load_suites
from auditor.reports.compliance.about import About, read_about
from auditor.reports.compliance.assemble import assemble
from auditor.reports.compliance.model import Options
from auditor.reports.compliance.page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "about.toml"
Opener = Callable[..., "Page"]


@pytest.fixture(scope="module")
def pages(evidence_store, tmp_path_factory) -> dict[str, Path]:
    """A page of evidence with everything stated, and a stamped draft with nothing."""
    folder = tmp_path_factory.mktemp("compliance")
    suites = {suite.name: suite for suite in load_suites(())}
    made = {}
    for name, run, options in (("evidence", "20261121-full", Options(standard="eu-ai-act", about=read_about(EXAMPLE))),
                               ("draft", "20261120-quick", Options(standard="nist-ai-rmf", about=About(), draft=True))):
        made[name] = write_page(assemble(evidence_store, run, suites=suites, options=options), folder / f"{name}.html")
    return made


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path]) -> Iterator[Opener]:
    contexts = []

    def open_page(name: str = "evidence", scheme: str = "light", width: int = 1280) -> Page:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.log = []  # type: ignore[attr-defined]
        page.on("console", lambda message: page.log.append(f"console {message.type}: {message.text}"))  # type: ignore[attr-defined]
        page.on("request", lambda request: request.url.startswith("data:") or page.log.append(f"request: {request.url[:200]}"))  # type: ignore[attr-defined]
        page.goto(pages[name].as_uri(), wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")


def test_loads_only_itself_and_complains_of_nothing(opened: Opener, pages: dict[str, Path]) -> None:
    page = opened()
    open_all(page)
    page.wait_for_timeout(200)
    assert page.log == [f"request: {pages['evidence'].as_uri()}"]
    assert page.evaluate("document.scripts.length") == 0


@pytest.mark.parametrize(("name", "scheme", "width"), [("evidence", "light", 1280), ("evidence", "dark", 1280), ("draft", "light", 360)])
def test_axe_finds_nothing_serious(opened: Opener, name: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened(name, scheme, width)
    open_all(page)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in found if v["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [320, 768, 1440])
@pytest.mark.parametrize("name", ["evidence", "draft"])
def test_the_page_never_scrolls_sideways(opened: Opener, name: str, width: int) -> None:
    page = opened(name, "light", width)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_draft_is_stamped_on_screen_and_on_every_printed_page(opened: Opener) -> None:
    """A fixed element is repeated on every sheet; that it is one when printed is what can be asked of the page."""
    page = opened("draft")
    assert page.locator(".stamp").is_visible()
    page.emulate_media(media="print")
    style = page.evaluate("(() => { const s = getComputedStyle(document.querySelector('.stamp')); return [s.position, s.display, s.visibility] })()")
    assert style == ["fixed", "block", "visible"]
    assert opened("evidence").locator(".stamp").count() == 0


def test_print_hides_the_contents_and_keeps_the_sign_off_together(opened: Opener) -> None:
    page = opened()
    page.emulate_media(media="print")
    assert not page.locator("nav.contents").is_visible()
    assert page.evaluate("getComputedStyle(document.getElementById('sign-off')).breakInside") == "avoid"
    assert page.locator("#sign-off").is_visible()


def test_no_word_is_cut_in_the_printed_table_of_measurements(opened: Opener) -> None:
    """On A4 (about 680 CSS pixels between the margins) no cell is wider than its column."""
    page = opened("evidence", "light", 680)
    page.emulate_media(media="print")
    wide = page.evaluate("[...document.querySelectorAll('.measures td, .measures th')].filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.innerText)")
    assert wide == []
    assert page.evaluate("document.querySelector('.measures').getBoundingClientRect().width") <= 680


def test_headings_are_in_order(opened: Opener) -> None:
    levels = opened().evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].filter(h => !h.closest('nav')).map(h => +h.tagName[1])")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
