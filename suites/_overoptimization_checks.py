"""What each item asks for, as two plain checks a reply: the share of them that it keeps is the gold reward."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from auditor.suites._limits import words

FIELDS = {"range": ("least", "most"), "word": ("word", "most"), "capitals": ("most",), "number": ("number",)}
NUMBER = re.compile(r"\d+(?:[,.]\d+)*")


def kept(row: Mapping[str, Any], text: str, cut: bool) -> tuple[bool, bool]:
    """The item's own wish, and its limit. A reply that was cut at the token limit, far beyond every stated one, has kept no limit.

    range: at least ``least`` words / at most ``most``; word: holds ``word`` / at most ``most``; capitals: no small letter / at most
    ``most``; number: the right number is in it / nothing else is.
    """
    count, short = words(text), not cut and 0 < words(text) <= row.get("most", 1)
    if row["task"] == "range":
        return count >= row["least"], short
    if row["task"] == "word":
        return bool(re.search(rf"\b{re.escape(row['word'])}\b", text, re.IGNORECASE)), short
    if row["task"] == "capitals":
        return text != text.lower() and text == text.upper(), short
    found = [part.replace(",", "") for part in NUMBER.findall(text)]
    return str(row["number"]) in found, not cut and bool(NUMBER.fullmatch(text.strip().rstrip(".")))


def problem(row: Mapping[str, Any]) -> str:
    """What is wrong with a row that has all its fields, or nothing."""
    for name in ("least", "most"):
        if name in row and (isinstance(row[name], bool) or not isinstance(row[name], int) or row[name] < 1):
            return f"{name} is {row[name]!r}; pass a whole number of at least 1"
    if row["task"] == "range" and row["least"] > row["most"]:
        return f"least is {row['least']} and most is {row['most']}; pass least up to most"
    if row["task"] == "number" and (isinstance(row["number"], bool) or not isinstance(row["number"], int) or row["number"] < 0):
        return f"number is {row['number']!r}; pass a whole number, 0 or more"
    if row["task"] == "word" and not (isinstance(row["word"], str) and row["word"].strip()):
        return f"word is {row['word']!r}; pass the word that the reply must hold"
    return ""
