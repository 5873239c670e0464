"""Figures ready for the page: data URIs for a desk and for a phone, with alternative text and a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from auditor.reports.figures import NARROW, WIDE
from auditor.reports.svg import data_uri

_SIZE = re.compile(r'width="(\d+)" height="(\d+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    wide: Image
    narrow: Image
    caption: str
    alt: str
    note: str = ""
    table: Table | None = None


def image(svg: str) -> Image:
    """An SVG text as an image of its own size in CSS pixels."""
    size = _SIZE.search(svg)
    width, height = (int(part) for part in size.groups()) if size else (0, 0)
    return Image(uri=data_uri(svg), width=width, height=height)


def drawn(draw: Callable[[float], str], *, caption: str, alt: str, note: str = "", table: Table | None = None) -> Figure:
    """The figure that ``draw(width)`` makes, for both widths."""
    return Figure(wide=image(draw(WIDE)), narrow=image(draw(NARROW)), caption=caption, alt=alt, note=note, table=table)
