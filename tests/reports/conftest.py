"""Fixtures of the report's tests: a demo store, its page, and headless Chromium."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from auditor.reports import write_report
from auditor.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LAUNCH = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NEEDED = "install Chromium, `pip install playwright axe-playwright-python`, or set AUDITOR_CHROMIUM to the browser's path"


VOID = {"meta", "link", "img", "br", "source", "path", "rect", "circle", "hr", "input"}


class Elements(HTMLParser):
    """A page's start tags with their attributes, its text, and the tags left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag
        self.words.append(" " if tag in {"td", "th", "li", "dt", "dd", "p"} else "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\u00a0", " ").split())


@pytest.fixture(scope="session")
def parse() -> type[Elements]:
    """``parse(html)``: the page's elements."""
    return Elements


@pytest.fixture(scope="session")
def demo() -> ModuleType:
    """The module demo.py beside this file."""
    spec = importlib.util.spec_from_file_location("reports_demo", Path(__file__).with_name("demo.py"))
    if spec is None or spec.loader is None:
        raise RuntimeError("demo.py is missing beside conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reports_demo"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def store(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with three runs; ``20261121-demo`` is the one to report on."""
    path = tmp_path_factory.mktemp("store") / "demo.duckdb"
    demo.demo(path)
    return Store.open(path)


@pytest.fixture(scope="session")
def report(demo: ModuleType, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo run's report beside the two other runs."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(store, "20261121-demo", out, suites=demo.SUITES, others={"20261119-base": (), "20261120-organism": ()})


def _unavailable(reason: str) -> None:
    if os.environ.get("AUDITOR_REQUIRE_BROWSER") == "1":
        pytest.fail(f"AUDITOR_REQUIRE_BROWSER=1, but {reason}: {NEEDED}")
    pytest.skip(f"NO BROWSER TEST WAS RUN: {reason}: {NEEDED}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium; skips loudly without one, fails under AUDITOR_REQUIRE_BROWSER=1."""
    executable = (
        os.environ.get("AUDITOR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    )
    if executable is None:
        _unavailable("no Chromium was found")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _unavailable("the package playwright is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(LAUNCH))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def evidence_store(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a complete run ``20261121-full`` of every item, a trained checkpoint's lineage, and other runs of the same weights."""
    path = tmp_path_factory.mktemp("evidence") / "evidence.duckdb"
    demo.evidence(path)
    return Store.open(path)
