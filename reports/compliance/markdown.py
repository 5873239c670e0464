"""Text that a Markdown reader shows as it is: hostile text can open no tag, link, image, table cell, heading or list.

Markdown has no quoting that holds everywhere, so every character that can begin a construct is written with a backslash (CommonMark 0.31,
section 2.4) or as an entity, and names go into code spans.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditor.reports.text import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#!|~$^=])")
_STARTS = re.compile(r"^(\s*)([-+]|\d{1,9}[.)](?=\s|$))", re.MULTILINE)
_LINKS = re.compile(r"(?i)(://|\bwww\.|\bmailto:|@)")


def text(value: object) -> str:
    """One line of prose."""
    line = " ".join(visible(value).split())
    line = _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    line = _STARTS.sub(lambda found: found[1] + (f"\\{found[2]}" if len(found[2]) == 1 else f"{found[2][:-1]}\\{found[2][-1]}"), line)
    return _LINKS.sub(_unlinked, line)


def _unlinked(found: re.Match[str]) -> str:
    """Addresses stay text: their mark is broken by an escape that no reader shows."""
    mark = found[0]
    return {"://": ":\\//", "@": "\\@"}.get(mark, mark[:-1] + "\\" + mark[-1])


def code(value: object) -> str:
    """A name, path or hash in a code span that nothing inside can close."""
    line = " ".join(visible(value).split()) or "–"
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\u2223") if "|" in line else f"{fence}{pad}{line}{pad}{fence}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; cells are Markdown already."""
    cells = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def bullets(entries: Sequence[str]) -> str:
    return "\n".join(f"- {entry}" for entry in entries)
