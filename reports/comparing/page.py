"""A comparison as one HTML page: like the report it loads nothing, runs nothing, and shows hostile text as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from auditor.compare.result import DEFAULT_WHY, Against, Change, Comparison, Decided, Decision, Difference
from auditor.reports import figures, numbers, wording
from auditor.reports.comparing import rows
from auditor.reports.figures import Row
from auditor.reports.images import Figure, Table, drawn
from auditor.reports.page import policy, template_environment
from auditor.reports.text import shorten
from auditor.reports.transcripts import TranscriptView, transcript_view
from auditor.schema import Outcome

MOST_ROWS = 24
SYMBOLS: dict[str, Outcome] = {"worse": "fail", "better": "pass", "equivalent": "pass", "inconclusive": "inconclusive"}
METHOD = (
    "Both runs answered the same items. Each item's difference is averaged over the items that both were scored on; the interval is a clustered bootstrap "
    "(BCa) of those differences, and each side is widened where changes are too rare to be seen. A gain above 0 is a change for the better.",
    "Worse: the whole 95 % interval lies beyond the margin on the bad side. Better: beyond it on the good side. Equivalent: inside the margins. Everything "
    "else is inconclusive: the runs cannot tell. The smallest detectable difference is what this many pairs would show four times in five.",
    "Better and worse must also hold after Holm's adjustment, for the policy's criteria among each other and for all other measurements among all "
    "comparisons made. What an independent re-run on the same items would turn around with more than 10 % probability is reported inconclusive.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    metric: str
    decided: Decided
    statement: str
    reason: str
    why: str
    owner: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """One changed item with the transcript of each run."""

    title: str
    teaser: str
    sides: tuple[tuple[str, TranscriptView], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    id: str
    title: str
    notes: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    decisions: Table
    others: Table
    notes_on_others: tuple[str, ...]
    figures: tuple[Figure, ...]
    not_compared: tuple[tuple[str, str], ...]
    changes: tuple[Sides, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePage:
    headline: str
    baseline: str
    runs: tuple[str, ...]
    policy: str
    redacted: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    ranking: Table | None
    totals: Table | None
    ranking_note: str
    method: tuple[str, ...] = METHOD


def page(comparison: Comparison) -> str:
    """The page's HTML."""
    environment = template_environment()
    css = environment.get_template("style.css").render()
    context = {"page": view(comparison), "css": Markup(css), "csp": policy(css), "words": wording.WORDS, "headings": wording.HEADINGS}
    return environment.get_template("compare.html").render(context)


def view(comparison: Comparison) -> ComparePage:
    """What the template prints."""
    letters = dict(comparison.letters)
    runs = (comparison.baseline, *(one.run for one in comparison.candidates))
    ranking = totals = None
    if comparison.ranking:
        ranking = Table(headers=rows.ranking_headers(list(letters.values())), rows=tuple(rows.ranking_row(one, letters) for one in comparison.ranking.metrics))
        totals = Table(headers=("Run", "Wins", "Losses"), rows=tuple((letters[run], str(wins), str(losses)) for run, wins, losses in comparison.ranking.totals))
    return ComparePage(
        headline=rows.headline(comparison), baseline="A", runs=tuple(rows.run_line(run, letters[run.run_id]) for run in runs),
        policy=wording.sentence(rows.policy_line(comparison)), redacted=comparison.redacted,
        candidates=tuple(_candidate(one, letters[one.run.run_id]) for one in comparison.candidates), ranking=ranking, totals=totals,
        ranking_note=rows.ranking_note(comparison))


def _candidate(against: Against, letter: str) -> Candidate:
    decided, others = rows.decisions(against), rows.others(against)
    return Candidate(
        id=f"candidate-{letter}", title=f"{letter} against A: the gate {rows.EXITS[against.exit_code]}", notes=against.notes,
        criteria=tuple(_criterion(one) for one in decided),
        decisions=Table(headers=_turned(rows.DECISION_HEADERS), rows=tuple(_turned(rows.decision_row(one)) for one in decided)),
        others=Table(headers=_turned(rows.DIFFERENCE_HEADERS), rows=tuple(_turned(rows.difference_row(one)) for one in others)),
        notes_on_others=tuple(wording.sentence(rows.difference_row(one)[-1]) for one in others),
        figures=tuple(_figures([one.difference for one in decided if one.difference], others)),
        not_compared=tuple((wording.sentence(reason), ", ".join(metrics)) for reason, metrics in rows.not_compared(against)),
        changes=tuple(_sides(one, letter) for one in against.changes))


def _turned(cells: Sequence[str]) -> tuple[str, ...]:
    """The measurement first, for it heads its row, and without the last cell, whose text is too long for a column."""
    return (*cells[1:-1], cells[0])


def _criterion(one: Decision) -> Criterion:
    found = one.difference
    statement = f"Gain {rows.gain(found)}, {one.rule.test} within {rows.margin(found).removeprefix('±')}, {found.n_pairs:,} pairs." if found else ""
    why = "" if one.rule.why == DEFAULT_WHY else wording.sentence(one.rule.why)
    return Criterion(metric=one.rule.metric, decided=one.decided, statement=statement, reason=wording.sentence(one.reason), why=why,
                     owner=one.rule.owner, required=one.rule.required)


def _figures(asked: Sequence[Difference], others: Sequence[Difference]) -> list[Figure]:
    found = []
    for chosen, caption in ((asked, "The criteria's measurements: gain of the candidate"), (others, "Further measurements: gain of the candidate")):
        shown = [_row(one) for one in chosen][:MOST_ROWS]
        if not shown:
            continue
        table = Table(headers=("Measurement", "Gain (95 % interval)", "Margin", "Outcome"),
                      rows=tuple((one.metric, rows.gain(one), rows.margin(one), rows.OUTCOMES[one.outcome]) for one in chosen[:MOST_ROWS]))
        found.append(drawn(
            partial(figures.forest, shown), caption=caption, table=table,
            alt=f"Gains of {numbers.plural(len(shown), 'measurement')}. The table holds the values.",
            note="Square: worse. Disc: better, or equivalent. Diamond: inconclusive. Right of 0 is better; beyond the shaded line a loss exceeds the margin."))
    return found


def _row(one: Difference) -> Row:
    suite, _, name = one.metric.partition(".")
    low, high = one.gain_interval
    return Row(label=wording.metric_label(name), sub=f"{suite.replace('_', ' ')} · {one.outcome}", value=one.gain, low=low, high=high,
               unit=rows.difference_unit(one.unit), bound=-one.margin, direction="above", outcome=SYMBOLS[one.outcome])


def _sides(change: Change, letter: str) -> Sides:
    word = "Better" if change.gain > 0 else "Worse"
    asked = next((message["content"] for message in change.baseline.messages if message["role"] == "user"), "")
    sides = (("A, baseline", change.baseline), (f"{letter}, candidate", change.candidate))
    views = tuple((name, transcript_view(one, "", printed=False)) for name, one in sides)
    return Sides(title=f"{word}: {change.metric} {change.gain:+.3g}".replace("-", numbers.MINUS), teaser=f"· {shorten(asked, 70)}", sides=views)
