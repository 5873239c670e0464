"""A comparison on a terminal or in a job's log.

Model text stands behind a bar, so that no line of it begins with what a CI runner would take for a command (``::error``, ``##[group]``).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditor.cli.text import printable
from auditor.compare.result import Against, Change, Comparison
from auditor.reports.comparing import rows
from auditor.reports.text import cut, shorten

WIDTH = 180
CHANGES = 3
TEXT = 600
BAR = "│ "


def print_text(comparison: Comparison) -> None:
    """Print it, as wide as the terminal is."""
    _render(comparison, sys.stdout, None if sys.stdout.isatty() else WIDTH)


def as_text(comparison: Comparison) -> str:
    """The same as one text, for a file."""
    stream = io.StringIO()
    _render(comparison, stream, WIDTH)
    return stream.getvalue()


def _render(comparison: Comparison, stream: IO[str], width: int | None) -> None:
    console = Console(file=stream, width=width, highlight=False)
    letters = dict(comparison.letters)
    for run in (comparison.baseline, *(one.run for one in comparison.candidates)):
        _line(console, rows.run_line(run, letters[run.run_id]))
    _line(console, rows.policy_line(comparison))
    for against in comparison.candidates:
        _candidate(console, against, letters[against.run.run_id])
    if comparison.ranking:
        _table(console, "Ranking", rows.ranking_headers(list(letters.values())), [rows.ranking_row(one, letters) for one in comparison.ranking.metrics])
        _line(console, rows.ranking_note(comparison))
        _line(console, "Wins and losses: " + ", ".join(f"{letters[run]} {wins} and {losses}" for run, wins, losses in comparison.ranking.totals))
    console.print()
    _line(console, rows.headline(comparison))


def _candidate(console: Console, against: Against, letter: str) -> None:
    console.print()
    _line(console, f"{letter} against A: the gate {rows.EXITS[against.exit_code]}")
    for note in against.notes:
        _line(console, f"! {note}")
    decided = rows.decisions(against)
    if decided:
        _table(console, "Criteria", rows.DECISION_HEADERS, [rows.decision_row(one) for one in decided])
    others = rows.others(against)
    if others:
        _table(console, "Further measurements", rows.DIFFERENCE_HEADERS[:-1], [rows.difference_row(one)[:-1] for one in others])
    for reason, metrics in rows.not_compared(against):
        _line(console, f"Not compared ({len(metrics)}): {', '.join(metrics)}: {reason}")
    for word, chosen in (("worse", [one for one in against.changes if one.gain < 0]), ("better", [one for one in against.changes if one.gain > 0])):
        for change in chosen[:CHANGES]:
            _change(console, change, word)


def _change(console: Console, change: Change, word: str) -> None:
    """One item in both runs."""
    console.print()
    _line(console, f"Changed most, {word}: {change.metric}, item {shorten(change.baseline.sample_id, 80)}, gain {change.gain:+.3g}")
    asked = change.baseline.messages[-1]["content"] if change.baseline.messages else ""
    for name, text in (("asked", asked), ("baseline", change.baseline.completion), ("candidate", change.candidate.completion)):
        shown = cut(text, TEXT)
        _line(console, f"  {name}:")
        console.print(Text(quoted(shown.text) + (f"\n{BAR}({shown.cut:,} more characters)" if shown.cut else "")), soft_wrap=True)


def quoted(text: str) -> str:
    """Hostile text for a log: controls visible, each line behind a bar, and no ``##[`` that an old runner would act on."""
    return "\n".join(BAR + line for line in safe(text).split("\n"))


def safe(text: str) -> str:
    return printable(text).replace("##[", "##\u27e6")


def _line(console: Console, text: str) -> None:
    """One line, whatever breaks the text holds."""
    console.print(Text(" ".join(safe(text).split("\n"))), soft_wrap=True)


def _table(console: Console, title: str, headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """A table whose cells are plain text, never markup."""
    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(safe(cell)) for cell in row))
    console.print(drawn)
