"""A comparison as Markdown, for a CI job's summary. All text of models and files is made harmless: cells are escaped, transcripts fenced."""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditor.compare.result import DEFAULT_WHY, Against, Change, Comparison
from auditor.reports.comparing import rows
from auditor.reports.compliance.markdown import text as plain
from auditor.reports.text import cut, shorten, visible
from auditor.schema import to_dict

MARKS = {"fail": "❌", "pass": "✅", "inconclusive": "❔", "not_assessed": "➖"}
CHANGES = 3
TEXT = 1_500


def markdown(comparison: Comparison) -> str:
    """The whole comparison; transcripts of the most changed items are folded."""
    letters = dict(comparison.letters)
    lines = [f"## {plain(rows.headline(comparison))}", "", *(f"- {plain(rows.run_line(run, letters[run.run_id]))}" for run in
             (comparison.baseline, *(one.run for one in comparison.candidates))), f"- {plain(rows.policy_line(comparison))}", ""]
    for against in comparison.candidates:
        lines += _candidate(against, letters[against.run.run_id])
    if comparison.ranking:
        headers = rows.ranking_headers(list(letters.values()))
        lines += ["### Ranking", "", plain(rows.ranking_note(comparison)), "",
                  *table(headers, [rows.ranking_row(one, letters) for one in comparison.ranking.metrics]), ""]
        lines += table(("Run", "Wins", "Losses"), [(letters[run], str(wins), str(losses)) for run, wins, losses in comparison.ranking.totals])
    return "\n".join(lines).rstrip() + "\n"


def _candidate(against: Against, letter: str) -> list[str]:
    lines = [f"### {letter} against A: the gate {rows.EXITS[against.exit_code]}", "", *(f"> ⚠ {plain(note)}\n" for note in against.notes)]
    decided = rows.decisions(against)
    if decided:
        cells = [(f"{MARKS[one.decided]} {cells[0]}", *cells[1:]) for one, cells in ((one, rows.decision_row(one)) for one in decided)]
        lines += [*table(rows.DECISION_HEADERS, cells), ""]
        asked = [one.rule for one in decided if one.rule.why != DEFAULT_WHY]
        lines += [f"- {plain(rule.metric)}: {plain(rule.why)}{f' Owner: {plain(rule.owner)}.' if rule.owner else ''}" for rule in asked]
        lines.append("")
    others = rows.others(against)
    if others:
        lines += [f"<details><summary>{len(others)} further measurements</summary>", "",
                  *table(rows.DIFFERENCE_HEADERS, [rows.difference_row(one) for one in others]), "", "</details>", ""]
    left = rows.not_compared(against)
    if left:
        lines += [f"<details><summary>{len(against.not_compared)} measurements could not be compared</summary>", ""]
        lines += [*(f"- {plain(reason)}: {plain(', '.join(metrics))}" for reason, metrics in left), "", "</details>", ""]
    return lines + _changes(against.changes)


def _changes(changes: Sequence[Change]) -> list[str]:
    lines = []
    for title, chosen in (("worse", [one for one in changes if one.gain < 0]), ("better", [one for one in changes if one.gain > 0])):
        for one in chosen[:CHANGES]:
            asked = one.baseline.messages[-1]["content"] if one.baseline.messages else ""
            lines += [f"<details><summary>{title}: {plain(one.metric)}, item {plain(shorten(one.baseline.sample_id, 80))}, gain {one.gain:+.3g}</summary>", "",
                      "Asked:", *fenced(asked), "", "Baseline:", *fenced(one.baseline.completion), "", "Candidate:", *fenced(one.candidate.completion), "",
                      "</details>", ""]
    return lines


def fenced(text: str, limit: int = TEXT) -> list[str]:
    """A code block that the text cannot close: its fence is longer than any run of backticks inside."""
    shown = cut(text, limit)
    body = visible(shown.text)
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    more = [f"({shown.cut:,} more characters)"] if shown.cut else []
    return ["", f"{fence}text", body, fence, *more]


def table(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(plain(head) for head in headers) + " |", "|" + " --- |" * len(headers)]
    return lines + ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in cells]


def as_json(comparison: Comparison) -> dict[str, object]:
    """The JSON object: everything that was found, transcripts of the most changed items included."""
    return {"headline": rows.headline(comparison), **to_dict(comparison)}
