"""The whole comparison: check, pair, test, adjust, decide, rank, pick what changed most."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from auditor.compare.changes import most_changed, most_important
from auditor.compare.comparable import shared_suites
from auditor.compare.differences import LOST, Measured, Runs, difference_of, measure
from auditor.compare.gate import decision, directions, exit_code, worst
from auditor.compare.naming import Chosen
from auditor.compare.policy import check_metrics, default_policy
from auditor.compare.ranking import rank
from auditor.compare.result import Against, Comparison, Difference, Policy
from auditor.errors import InputError
from auditor.stats.multiplicity import holm

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the runs. ``policy`` None: no worse on any of ``headlines``; ``known``: the names of all suites; ``hidden``: suites whose
    transcripts are left out; ``only``: the suites to compare (none: all that are shared)."""

    policy: Policy | None = None
    strict: bool = False
    headlines: Sequence[str] = ()
    known: Collection[str] = ()
    hidden: Collection[str] = ()
    only: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One candidate's metrics, tested. ``dropped``: those that the baseline has in suites that the candidate did not run."""

    chosen: Chosen
    measured: tuple[Measured, ...]
    not_compared: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    dropped: frozenset[str]


def compare(chosen: Sequence[Chosen], question: Question) -> Comparison:
    """The first run against the others.

    Raises InputError where runs were not asked the same (naming every setting and both values) or share nothing, and UnknownNameError for a
    policy's metric that does not exist.
    """
    baseline, candidates = chosen[0], chosen[1:]
    if len(chosen) > len(LETTERS):
        raise InputError(f"{len(chosen)} runs are too many to compare at once; pass at most {len(LETTERS)}")
    shared = [shared_suites(baseline, one, question.only) for one in candidates]
    _check_only(question.only, [suites for suites, _ in shared])
    policy = question.policy
    runs = Runs()
    runs.read(baseline, list(dict.fromkeys(suite for suites, _ in shared for suite in suites)))
    for one, (suites, _) in zip(candidates, shared, strict=True):
        runs.read(one, suites)
    if policy is not None:
        check_metrics(policy, {metric.key for one in chosen for metric in runs.metrics(one)}, question.known)
    good = directions(policy.rules) if policy else {}
    found = [_measured(runs, baseline, one, good, part) for one, part in zip(candidates, shared, strict=True)]
    if policy is None:
        expected = _expected(found)
        policy = default_policy([key for key in question.headlines if key in expected and (not question.only or _suite_of(key) in question.only)])
    _check_directions(policy, found)
    against = [_against(part, baseline, policy, question, p) for part, p in zip(found, _adjusted(found, policy), strict=True)]
    return Comparison(
        baseline=baseline.facts, candidates=tuple(against), policy=policy, strict=question.strict, exit_code=worst([one.exit_code for one in against]),
        ranking=rank(runs, chosen, _by_metric(found, policy)) if len(candidates) > 1 else None, redacted=tuple(sorted(question.hidden)),
        letters={one.run.run_id: letter for one, letter in zip(chosen, LETTERS, strict=False)})


def _check_only(only: Sequence[str], shared: Sequence[Sequence[str]]) -> None:
    missing = [suite for suite in only if not all(suite in suites for suites in shared)]
    if missing:
        raise InputError(f"--suite {missing[0]}: not all of these runs have it; they share {', '.join(sorted(set.intersection(*map(set, shared)))) or 'none'}")


def _measured(runs: Runs, baseline: Chosen, candidate: Chosen, good: Mapping[str, bool | None], part: tuple[list[str], list[str]]) -> _Found:
    suites, notes = part
    every = [one for suite in suites for one in measure(runs, baseline, candidate, suite, good)]
    sizes = [_overlap(runs, baseline, candidate, suite) for suite in suites]
    return _Found(chosen=candidate, measured=tuple(one for one in every if isinstance(one, Measured)),
                  not_compared=tuple(one for one in every if not isinstance(one, Measured)), notes=(*notes, *filter(None, sizes)),
                  dropped=frozenset(one.key for one in runs.metrics(baseline) if one.value is not None and one.suite not in candidate.run.spec.suites))


def _overlap(runs: Runs, baseline: Chosen, candidate: Chosen, suite: str) -> str:
    """What is left out of a suite because only one of the runs asked it."""
    ours, theirs = (set(runs.suite(one, suite).scores.ids.tolist()) for one in (baseline, candidate))
    if ours == theirs:
        return ""
    return (f"LEFT OUT: suite {suite}: {len(ours & theirs):,} items are in both runs and compared; {len(ours - theirs):,} only in the baseline and "
            f"{len(theirs - ours):,} only in the candidate are not")


def _suite_of(key: str) -> str:
    return key.partition(".")[0]


def _expected(found: Sequence[_Found]) -> set[str]:
    """The metrics that were compared, and those that only a candidate lacks, alone or with their whole suite: a number that was lost is an open
    question, not one never asked."""
    return {key for part in found for key in (*(one.metric.key for one in part.measured), *(key for key, why in part.not_compared if why.startswith(LOST)),
                                              *part.dropped)}


def _check_directions(policy: Policy, found: Sequence[_Found]) -> None:
    own = {one.metric.key: one.metric.higher_is_better for part in found for one in part.measured}
    for rule in policy.rules:
        given, metric = rule.higher_is_better, own.get(rule.metric)
        if given is not None and metric is not None and given != metric:
            words = {True: "higher", False: "lower"}
            raise InputError(f"{policy.source}: direction of {rule.metric} is {words[given]!r}, but its suite says that {words[metric]} is better; "
                             "leave it out")


def _adjusted(found: Sequence[_Found], policy: Policy) -> list[dict[str, float | None]]:
    """Holm-adjusted p-values by metric, one dict a candidate: the policy's metrics among each other, the others among all."""
    wanted = {rule.metric for rule in policy.rules}
    places = [(k, one) for k, part in enumerate(found) for one in part.measured]
    everything = holm([one.test.p_value for _, one in places])
    ruled = [(k, one) for k, one in places if one.metric.key in wanted]
    result: list[dict[str, float | None]] = [{} for _ in found]
    for (k, one), p in zip(places, everything, strict=True):
        result[k][one.metric.key] = p
    for (k, one), p in zip(ruled, holm([one.test.p_value for _, one in ruled]), strict=True):
        result[k][one.metric.key] = p
    return result


def _against(part: _Found, baseline: Chosen, policy: Policy, question: Question, adjusted: Mapping[str, float | None]) -> Against:
    margins = {rule.metric: rule.margin for rule in reversed(policy.rules)}  # beside the decisions a metric stands once, by its first rule
    differences = {one.metric.key: difference_of(one, adjusted[one.metric.key], margins.get(one.metric.key)) for one in part.measured}
    measured = {one.metric.key: one for one in part.measured}
    reasons = dict(part.not_compared)
    decisions = []
    for rule in policy.rules:
        one = measured.get(rule.metric)
        what: Difference | str = difference_of(one, adjusted[rule.metric], rule.margin) if one else reasons.get(rule.metric, "its suite is not in both runs")
        lost = rule.metric in part.dropped or reasons.get(rule.metric, "").startswith(LOST)
        decisions.append(decision(rule, what, one, part.chosen, lost=lost))
    changes = most_changed(most_important(list(differences.values()), decisions), part.measured, (baseline, part.chosen), question.hidden)
    return Against(run=part.chosen.facts, decisions=tuple(decisions), differences=tuple(differences.values()), not_compared=part.not_compared,
                   notes=part.notes, changes=changes,
                   exit_code=exit_code(decisions, question.strict, evidence=baseline.run.evidence and part.chosen.run.evidence))


def _by_metric(found: Sequence[_Found], policy: Policy) -> dict[str, list[Measured]]:
    """The policy's metrics that every candidate could be compared on."""
    table: dict[str, list[Measured]] = {rule.metric: [] for rule in policy.rules}
    for part in found:
        for one in part.measured:
            if one.metric.key in table:
                table[one.metric.key].append(one)
    return {key: measured for key, measured in table.items() if measured}
