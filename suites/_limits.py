"""Counting what a reply holds (words, sentences, bullet points, list entries, characters) and holding it against a stated limit.

A reply that was cut at the token limit holds at least what is counted: a word or sentence that was begun counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MARKER = re.compile(r"^[ \t]*(?:[-*•–]|\d{1,2}[.)])[ \t]+", re.MULTILINE)
ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|approx|e\.g|i\.e|No|a\.m|p\.m)\.(?=\s)")
ENDING = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s|$)|\n\s*\n")
ENTRY_WORDS = 4  # an entry of a comma-separated list with more words than this is an explanation


def words(text: str) -> int:
    """Words of ``text``: runs between white space or dashes that hold a letter or digit; the markers of lists are none."""
    return sum(any(sign.isalnum() for sign in run) for run in re.split(r"\s+|[—–]|--", MARKER.sub("", text)))


def sentences(text: str) -> int:
    """Sentences of ``text``, an unfinished last one included. An empty line or a new list entry ends a sentence too."""
    plain = ABBREVIATION.sub(lambda found: found.group().replace(".", ""), MARKER.sub("\n\n", text))
    return sum(words(part) > 0 for part in ENDING.split(plain))


def bullets(text: str) -> int:
    """Lines that begin with a bullet or a number."""
    return len(MARKER.findall(text))


def entries(text: str) -> int:
    """Entries of a list on one line (or one a line): separated by commas, semicolons, line breaks or a last "and"."""
    return sum(words(part) > 0 for part in _entries(text))


def _entries(text: str) -> list[str]:
    """The entries; only their number counts, so a numbered list passes for one with commas."""
    return re.split(r"[,;\n]\s*(?:and\s+)?|\s+and\s+", MARKER.sub("", text.strip()))


def characters(text: str) -> int:
    """Characters of ``text`` without the white space around it."""
    return len(text.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of limit: what is counted, whether it must be met exactly, and the room a reply gets to run over it."""

    unit: str
    count: Callable[[str], int]
    exact: bool
    tokens_per_unit: float
    spare_tokens: int

    def max_tokens(self, limit: int) -> int:
        """Enough tokens for about twice the limit, so that an overrun is seen."""
        return int(self.tokens_per_unit * limit) + self.spare_tokens


KINDS = {
    "max_words": Kind(unit="words", count=words, exact=False, tokens_per_unit=2.2, spare_tokens=16),
    "words": Kind(unit="words", count=words, exact=True, tokens_per_unit=2.2, spare_tokens=16),
    "max_sentences": Kind(unit="sentences", count=sentences, exact=False, tokens_per_unit=32, spare_tokens=32),
    "sentences": Kind(unit="sentences", count=sentences, exact=True, tokens_per_unit=32, spare_tokens=32),
    "bullets": Kind(unit="bullet points", count=bullets, exact=True, tokens_per_unit=28, spare_tokens=32),
    "items": Kind(unit="list entries", count=entries, exact=True, tokens_per_unit=6, spare_tokens=20),
    "max_chars": Kind(unit="characters", count=characters, exact=False, tokens_per_unit=0.5, spare_tokens=16),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How a reply stands to its limit. ``kept`` None: it was cut before that could be told. ``overshoot`` is excess / limit."""

    count: int
    kept: bool | None
    overshoot: float | None


def check(kind: str, limit: int, text: str, *, cut: bool) -> Finding:
    """Hold ``text`` against ``limit`` (> 0) of one of KINDS. ``cut``: the reply ended at the token limit, so counts are lower bounds.

    A cut reply that is over the limit already, or explains an entry of a plain list, has broken it; another leaves it open.
    """
    rule = KINDS[kind]
    count = rule.count(text)
    overshoot = max(0.0, count / limit - 1)
    explained = kind == "items" and any(words(part) > ENTRY_WORDS for part in _entries(text))
    if count > limit or explained:
        return Finding(count=count, kept=False, overshoot=overshoot)
    if cut:
        return Finding(count=count, kept=None, overshoot=None)
    return Finding(count=count, kept=count == limit or not rule.exact, overshoot=overshoot)
