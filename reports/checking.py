"""Where two pages differ: the lines, the sections they stand in, and the words around the first difference of each."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LISTED = 20  # differences that are described; all are counted
AROUND = 40  # characters shown on each side of the first that differs
_MOST_LINES = 20_000  # beyond this many lines between the first and the last difference, they are compared one by one
_HEADING = re.compile(r"<(?:h[1-4]|title)\b[^>]*>(.*?)</(?:h[1-4]|title)>", re.DOTALL)
_TAGS = re.compile("<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered:
    """A line of the page, from 1, the heading it stands under, and what it holds where the other one has something else.

    ``found`` is "" where a line is missing from the page, ``expected`` is "" where the page has one too many.
    """

    line: int
    section: str
    found: str
    expected: str


def compare_pages(found: str, expected: str) -> tuple[list[Altered], int]:
    """The first differences of the page ``found`` from the page that the store gives, and how many lines differ."""
    if found == expected:
        return [], 0
    lines, wanted = found.split("\n"), expected.split("\n")
    headings: list[str] = []
    result: list[Altered] = []
    count = 0
    for place, line, other in _pairs(lines, wanted):
        count += 1
        if len(result) < LISTED:
            headings = headings or _headings(lines)
            result.append(_altered(place, headings[min(place, len(lines) - 1)], line, other))
    return result, count


def _pairs(lines: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, str | None, str | None]]:
    """(place in ``lines``, its line, the line of ``wanted`` in its place); None where one of them has none."""
    first = next((k for k, (one, other) in enumerate(zip(lines, wanted, strict=False)) if one != other), min(len(lines), len(wanted)))
    last = next((k for k, (one, other) in enumerate(zip(lines[first:][::-1], wanted[first:][::-1], strict=False)) if one != other),
                min(len(lines), len(wanted)) - first)
    here, there = lines[first:len(lines) - last], wanted[first:len(wanted) - last]
    if len(here) == len(there) or max(len(here), len(there)) > _MOST_LINES:
        blocks: Sequence[tuple[str, int, int, int, int]] = [("replace", 0, len(here), 0, len(there))]
    else:
        blocks = difflib.SequenceMatcher(None, here, there, autojunk=False).get_opcodes()
    for kind, start, stop, other_start, other_stop in blocks:
        for k in range(max(stop - start, other_stop - other_start) if kind != "equal" else 0):
            line = here[start + k] if start + k < stop else None
            other = there[other_start + k] if other_start + k < other_stop else None
            if line != other:
                yield first + min(start + k, stop), line, other


def _headings(lines: Sequence[str]) -> list[str]:
    """For each line the last heading before its end."""
    current, result = "the head of the page", []
    for line in lines:
        for match in _HEADING.finditer(line):
            current = " ".join(html.unescape(_TAGS.sub("", match[1])).split())[:100]
        result.append(current)
    return result


def _altered(place: int, section: str, line: str | None, other: str | None) -> Altered:
    one, two = line or "", other or ""
    start = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    return Altered(line=place + 1, section=section, found=_around(one, start), expected=_around(two, start))


def _around(line: str, place: int) -> str:
    start, stop = max(0, place - AROUND), place + AROUND
    return ("…" if start else "") + line[start:stop] + ("…" if stop < len(line) else "")
