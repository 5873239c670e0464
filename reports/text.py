"""Hostile text made safe to look at: controls become visible, long texts are cut with a note.

Model output may hold bidirectional overrides that reverse a line, terminal escapes, NUL, zero-width joins that hide words, or tag
characters that carry a hidden message (Boucher & Anderson 2023, "Trojan Source"; Unicode TR 36). None of these reaches the page as such:
each is written out as ``⟦U+202E⟧``. Line breaks and tabs stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

TEXT_LIMIT = 4_000  # characters of one prompt or completion that are shown
LINE_BREAKS = re.compile("\r\n?")
HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f\u205f-\u206f"
    "\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ue000-\uf8ff]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A text as it is shown: at most ``limit`` characters, and how many were cut."""

    text: str
    cut: int = 0


def _mark(match: re.Match[str]) -> str:
    return f"⟦U+{ord(match.group()):04X}⟧"


def visible(text: object) -> str:
    """The text with every invisible or direction-changing character written out as ``⟦U+XXXX⟧``."""
    return HIDDEN.sub(_mark, LINE_BREAKS.sub("\n", str(text)))


def visible_markup(text: object) -> Markup:
    """Like :func:`visible`, escaped, with each written-out character in a ``<mark>`` so that it stands out. Only for element content."""
    parts: list[Markup] = []
    source = LINE_BREAKS.sub("\n", str(text))
    start = 0
    for match in HIDDEN.finditer(source):
        parts.append(escape(source[start : match.start()]))
        parts.append(Markup('<mark class="ctl">{}</mark>').format(f"U+{ord(match.group()):04X}"))
        start = match.end()
    parts.append(escape(source[start:]))
    return Markup("").join(parts)


def cut(text: str, limit: int = TEXT_LIMIT) -> Shown:
    """The first ``limit`` characters, with the number left out."""
    if len(text) <= limit:
        return Shown(text=text)
    return Shown(text=text[:limit], cut=len(text) - limit)


def shorten(text: str, limit: int) -> str:
    """One line of at most ``limit`` characters, with an ellipsis where something is left out."""
    line = " ".join(visible(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


ACRONYMS = {
    word.lower(): word for word in ("AUROC", "BLEU", "CPU", "ECE", "GiB", "GPU", "ID", "KL", "LLM", "MB", "OS", "PPI", "PRM", "RAM", "URI")
}


def humanise(name: str) -> str:
    """A metric's or group's name as words: ``stance_flip`` -> ``Stance flip``, ``adaptive_ece`` -> ``Adaptive ECE``."""
    words = " ".join(ACRONYMS.get(word.lower(), word) for word in name.replace("_", " ").split())
    return words[:1].upper() + words[1:]


def lower_first(text: str) -> str:
    """A label inside a sentence: its capital goes, unless the first word is an acronym."""
    first = text.split(" ", 1)[0]
    return text if first in ACRONYMS.values() or first[1:2].isupper() else text[:1].lower() + text[1:]
