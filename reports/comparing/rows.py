"""What a comparison says, as sentences and rows of text that every form prints. Nothing is escaped here and nothing computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from auditor.compare.result import Against, Comparison, Decided, Decision, Difference, MetricRanking, Outcome, RunFacts
from auditor.reports import numbers, wording
from auditor.reports.text import shorten

DECIDED: dict[Decided, str] = {"fail": "fails", "inconclusive": "inconclusive", "pass": "passes", "not_assessed": "not assessed"}
OUTCOMES: dict[Outcome, str] = {"worse": "worse", "better": "better", "equivalent": "equivalent", "inconclusive": "inconclusive"}
DECISION_HEADERS = ("Gate", "Measurement", "Baseline", "Candidate", "Gain (95 % interval)", "Test, margin", "p adj.", "Detectable", "Pairs", "Because")
DIFFERENCE_HEADERS = ("Outcome", "Measurement", "Baseline", "Candidate", "Gain (95 % interval)", "Margin", "p adj.", "Detectable", "Pairs", "Notes")
UNDECIDED = 4
EXITS = {0: "passes", 1: "FAILS", UNDECIDED: "is UNDECIDED"}
MODEL = 60


def headline(comparison: Comparison) -> str:
    """``The gate FAILS: 1 of 7 criteria fails, 4 pass, 2 are inconclusive.``"""
    decisions = [one for against in comparison.candidates for one in against.decisions if one.rule.required]
    if not decisions:
        return "The gate is UNDECIDED: no criterion could be tested."
    counts = Counter(one.decided for one in decisions)
    words: dict[Decided, tuple[str, str]] = {
        "fail": ("fails", "fail"), "pass": ("passes", "pass"), "inconclusive": ("is inconclusive", "are inconclusive"),
        "not_assessed": ("is not assessed", "are not assessed")}
    parts = [f"{counts[key]} {forms[counts[key] > 1]}" for key, forms in words.items() if counts[key]]
    total = numbers.plural(len(decisions), "required criterion", "required criteria")
    several = f" over {len(comparison.candidates)} candidates" if len(comparison.candidates) > 1 else ""
    strict = " (strict)" if comparison.strict else ""
    reasons = dict.fromkeys(filter(None, (part_only(comparison, one) for one in comparison.candidates if one.exit_code == UNDECIDED)))
    return " ".join([f"The gate {EXITS[comparison.exit_code]}{strict}: of {total}{several} {', '.join(parts)}.", *reasons])


def part_only(comparison: Comparison, against: Against) -> str:
    """Why a strict gate passes no run on a part of the items; "" where it may pass."""
    parts = [who for who, run in (("baseline", comparison.baseline), ("candidate", against.run)) if not run.evidence]
    return f"NOT EVIDENCE: the {' and the '.join(parts)} asked only a part of the items." if parts and comparison.strict else ""


def run_line(run: RunFacts, letter: str) -> str:
    """``A: run 20261121-… on smollm2, 21 Nov 2026, standard profile, in base.duckdb``."""
    limit = f", limit {run.limit}" if run.limit else ""
    judge = f", judge {shorten(run.judge, MODEL)}" if run.judge else ""
    return f"{letter}: run {run.run_id} on {shorten(run.model, MODEL)}, {run.created[:10]}, {run.profile} profile{limit}{judge}, in {run.db}"


def difference_unit(unit: str) -> str:
    return "proportion difference" if unit in numbers.PROPORTIONS else unit


def gain(one: Difference) -> str:
    """The gain with its interval: above 0 the candidate is better."""
    unit = difference_unit(one.unit)
    return f"{'+' if one.gain > 0 else ''}{numbers.number(one.gain, unit)} ({numbers.span(*one.gain_interval, unit)})"


def margin(one: Difference) -> str:
    return f"±{numbers.number(one.margin, difference_unit(one.unit))}"


def detectable(one: Difference) -> str:
    effect = one.minimum_detectable_effect
    if effect is None:
        return "all differ alike" if one.n_changed else "none differs"
    return numbers.number(effect, difference_unit(one.unit))


def decision_row(one: Decision) -> tuple[str, ...]:
    """A cell for each of DECISION_HEADERS."""
    word = DECIDED[one.decided] + ("" if one.rule.required else " (advisory)")
    found = one.difference
    if found is None:
        return (word, one.rule.metric, "–", "–", "–", one.rule.test, "–", "–", "–", one.reason)
    values = (numbers.number(found.baseline, found.unit), numbers.number(found.candidate, found.unit))
    return (word, one.rule.metric, *values, gain(found), f"{one.rule.test}, {margin(found)}", wording.p_value(found.p_adjusted), detectable(found),
            f"{found.n_pairs:,}", one.reason)


def difference_row(one: Difference) -> tuple[str, ...]:
    """A cell for each of DIFFERENCE_HEADERS."""
    values = (numbers.number(one.baseline, one.unit), numbers.number(one.candidate, one.unit))
    needed = f"about {one.n_needed:,} pairs would settle it" if one.n_needed else ""
    notes = "; ".join(filter(None, (one.reason, needed, *one.notes)))
    return (OUTCOMES[one.outcome], one.metric, *values, gain(one), margin(one), wording.p_value(one.p_adjusted), detectable(one), f"{one.n_pairs:,}", notes)


def decisions(against: Against) -> list[Decision]:
    """Failures first, then what is open."""
    order = list(DECIDED)
    return sorted(against.decisions, key=lambda one: (order.index(one.decided), not one.rule.required))


def others(against: Against) -> list[Difference]:
    """What was compared beside the policy's criteria: worse first, then better, within each the surest first."""
    asked = {one.rule.metric for one in against.decisions}
    order = list(OUTCOMES)
    return sorted((one for one in against.differences if one.metric not in asked), key=lambda one: (order.index(one.outcome), one.p_value, one.metric))


def not_compared(against: Against) -> list[tuple[str, list[str]]]:
    """(reason, metrics), the reason of most metrics first."""
    found: dict[str, list[str]] = {}
    for metric, reason in against.not_compared:
        found.setdefault(reason, []).append(metric)
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))


def ranking_headers(letters: Sequence[str]) -> tuple[str, ...]:
    return ("Measurement", *(f"Place {k}" for k in range(1, len(letters) + 1)), "Items")


def ranking_row(one: MetricRanking, letters: dict[str, str]) -> tuple[str, ...]:
    """``B 4.0 % (1.2 % to 9.8 %), places 1 to 2`` in the order of the values."""
    cells = []
    for run in one.runs:
        places = f"place {run.places[0]}" if run.places[0] == run.places[1] else f"places {run.places[0]} to {run.places[1]}"
        cells.append(f"{letters[run.run_id]}: {numbers.number(run.value, one.unit)} ({numbers.interval(run.ci, one.unit)}), {places}")
    return (one.metric, *cells, f"{one.n:,}")


def ranking_note(comparison: Comparison) -> str:
    tests = comparison.ranking.tests if comparison.ranking else 0
    return (f"In order of the values on the items that all runs share. The places are those that {tests} paired tests leave open after Holm's adjustment: "
            "all of them hold at once.")


def policy_line(comparison: Comparison) -> str:
    policy = comparison.policy
    digest = f" (sha256 {policy.sha256[:16]})" if policy.sha256 else ""
    return f"Policy{f' {policy.title!r}' if policy.title else ''}: {policy.source}{digest}"
