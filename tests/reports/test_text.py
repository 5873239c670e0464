"""Hostile text is written out, escaped and cut."""

from __future__ import annotations

import pytest

from auditor.reports.text import HIDDEN, cut, humanise, lower_first, shorten, visible, visible_markup


@pytest.mark.parametrize(
    "character",
    [0x00, 0x07, 0x1B, 0x7F, 0x85, 0xAD, 0x200B, 0x200D, 0x200E, 0x202A, 0x202E, 0x2028, 0x2066, 0x2069, 0xFEFF, 0xD800, 0xE0041],
)
def test_a_hidden_character_is_written_out(character: int) -> None:
    assert visible(f"a{chr(character)}b") == f"a⟦U+{character:04X}⟧b"
    assert f'<mark class="ctl">U+{character:04X}</mark>' in visible_markup(f"a{chr(character)}b")


@pytest.mark.parametrize("text", ["plain", "line\nbreak\tand tab", "Größe 漢字 العربية 😀", "a < b & c"])
def test_ordinary_text_stays(text: str) -> None:
    assert visible(text) == text


def test_line_ends_are_made_one() -> None:
    assert visible("a\r\nb\rc") == "a\nb\nc"


def test_markup_is_escaped_around_the_marks() -> None:
    marked = str(visible_markup("<b>\u202e</b>\"'"))
    assert marked == '&lt;b&gt;<mark class="ctl">U+202E</mark>&lt;/b&gt;&#34;&#39;'


def test_nothing_hidden_survives() -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert HIDDEN.search(visible(everything)) is None


def test_cut_counts_what_it_leaves_out() -> None:
    assert cut("x" * 4_000).cut == 0
    shown = cut("x" * 4_010)
    assert (len(shown.text), shown.cut) == (4_000, 10)


def test_shorten_keeps_to_one_line() -> None:
    assert shorten("a\nb   c", 20) == "a b c"
    assert shorten("abcdefgh", 5) == "abcd…"


@pytest.mark.parametrize(
    ("name", "words"),
    [("stance_flip_vs_neutral", "Stance flip vs neutral"), ("adaptive_ece", "Adaptive ECE"), ("auroc", "AUROC"), ("", "")],
)
def test_humanise(name: str, words: str) -> None:
    assert humanise(name) == words


def test_lower_first_spares_acronyms() -> None:
    assert lower_first("Stance flip") == "stance flip"
    assert lower_first("AUROC of the judge") == "AUROC of the judge"
