"""Every metric that two runs share, as a paired difference with its outcome, or with the reason why there is none.

The family of Holm's adjustment: the metrics of the policy's criteria over all candidates are one, fixed before the runs; whatever else is compared is
read beside them, adjusted over all comparisons made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from auditor.compare.naming import Chosen
from auditor.compare.outcomes import house_margin, read_outcome
from auditor.compare.pairing import Pairs, SuiteRun, Where, find_score, pair_up, places_in
from auditor.compare.result import Difference
from auditor.schema import ConfidenceInterval, Metric
from auditor.stats.paired import PairedResult, paired_test
from auditor.stats.power import n_to_settle
from auditor.stats.rare import allow_unseen
from auditor.stats.rerun import Noise, draw_noise
from auditor.store.columns import suite_scores

MOST_UNPAIRED = 0.1  # share of scores without a partner from which it is said
RECORDED = "recorded:"
LOST = "in the candidate alone "  # how the reason begins where the baseline has a number and the candidate has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One metric compared: the paired test, before anything is adjusted or decided."""

    metric: Metric
    candidate: Metric
    which: Where
    pairs: Pairs
    test: PairedResult
    noise: Noise | None
    higher_is_better: bool


@dataclass(slots=True)
class Runs:
    """Suites and metrics of runs, each read once, so that no database is open while the statistics are computed."""

    _suites: dict[tuple[str, str], SuiteRun] = field(default_factory=dict)
    _metrics: dict[str, list[Metric]] = field(default_factory=dict)

    def read(self, chosen: Chosen, suites: Sequence[str]) -> None:
        """Everything of these suites, in one session."""
        with chosen.store.session():
            self.metrics(chosen)
            for suite in suites:
                self.suite(chosen, suite)

    def suite(self, chosen: Chosen, suite: str) -> SuiteRun:
        key = (chosen.key, suite)
        if key not in self._suites:
            self._suites[key] = SuiteRun(scores=suite_scores(chosen.store, chosen.run.run_id, suite))
        return self._suites[key]

    def metrics(self, chosen: Chosen) -> list[Metric]:
        if chosen.key not in self._metrics:
            self._metrics[chosen.key] = chosen.store.metrics(chosen.run.run_id)
        return self._metrics[chosen.key]


def measure(runs: Runs, baseline: Chosen, candidate: Chosen, suite: str, directions: Mapping[str, bool | None]) -> Iterator[Measured | tuple[str, str]]:
    """Each metric of a suite, compared or as (metric, why not). ``directions``: the good side that the policy gives, by metric.

    Metrics of groups are compared only where the policy names them.
    """
    metrics = [{one.key: one for one in runs.metrics(chosen) if one.suite == suite} for chosen in (baseline, candidate)]
    sides = runs.suite(baseline, suite), runs.suite(candidate, suite)
    places = places_in(*sides)
    for key in dict.fromkeys([*metrics[0], *metrics[1]]):
        both = [found.get(key) for found in metrics]
        group = next(one.group for one in both if one is not None)
        if group != "all" and key not in directions:
            continue
        reason, better = _comparable(both, key, directions)
        if reason or both[0] is None or both[1] is None:
            yield key, reason
            continue
        which = find_score(both[0].name, group, [both[0], both[1]], sides)
        if isinstance(which, str):
            yield key, which
            continue
        yield _tested((both[0], both[1]), which, pair_up(which, *sides, places), better, recorded=_is_recorded(baseline, candidate))


def _is_recorded(*chosen: Chosen) -> bool:
    return any(one.run.spec.model.uri.startswith(RECORDED) for one in chosen)


def _comparable(both: Sequence[Metric | None], key: str, directions: Mapping[str, bool | None]) -> tuple[str, bool]:
    """(why the metric cannot be compared, or "", whether higher is better)."""
    lost = both[0] is not None and both[0].value is not None
    for who, one in zip(("baseline", "candidate"), both, strict=True):
        if lost and (one is None or one.value is None):
            return f"{LOST}it is missing: {(one.reason if one else '') or 'no such measurement'}", False
        if one is None:
            return f"the {who} has no such measurement", False
        if one.value is None:
            return f"it was not made in the {who}: {one.reason or 'no value'}", False
    own = next(one.higher_is_better for one in both if one is not None)
    better = own if directions.get(key) is None else directions[key]
    return ("", better) if better is not None else ("it has no good side: it describes, and neither way is better", False)


def _tested(metrics: tuple[Metric, Metric], which: Where, pairs: Pairs, better: bool, *, recorded: bool) -> Measured | tuple[str, str]:
    key = metrics[0].key
    if not len(pairs.places):
        return key, "no item was scored in both runs"
    test = paired_test(pairs.candidate, pairs.baseline, pairs.clusters, bounds=pairs.bounds)
    if test is None or test.ci is None:
        return key, f"its difference has no interval ({test.flag if test else 'no pair'}, {len(pairs.places)} pairs)"
    test = replace(test, ci=allow_unseen(test.ci, pairs.candidate - pairs.baseline, pairs.clusters))
    noise = draw_noise(pairs.candidate - pairs.baseline, pairs.places) if pairs.drawn or recorded else None
    return Measured(metric=metrics[0], candidate=metrics[1], which=which, pairs=pairs, test=test, noise=noise, higher_is_better=better)


def difference_of(one: Measured, p_adjusted: float | None, margin: float | None) -> Difference:
    """The finished difference with its outcome; ``margin`` None: the house default."""
    test, pairs = one.test, one.pairs
    if test.ci is None:
        raise ValueError("a measured difference has an interval")
    source = "policy"
    if margin is None:
        margin, source = house_margin(one.metric.unit, float(np.std(pairs.baseline, ddof=1)) if len(pairs.baseline) > 1 else 0.0)
    gain = test.ci if one.higher_is_better else replace(test.ci, low=0.0 - test.ci.high, high=0.0 - test.ci.low)
    reading = read_outcome((gain.low, gain.high), margin, n_clusters=test.n_clusters, error=one.noise.error if one.noise else 0.0, p_adjusted=p_adjusted)
    open_question = reading.outcome == "inconclusive" and not reading.undecided
    value = test.difference if one.higher_is_better else -test.difference
    return Difference(
        metric=one.metric.key, unit=one.metric.unit, higher_is_better=one.higher_is_better, baseline=float(pairs.baseline.mean()),
        candidate=float(pairs.candidate.mean()), difference=test.difference, ci=test.ci, p_value=test.p_value, p_adjusted=p_adjusted,
        n_pairs=test.n_pairs, n_clusters=test.n_clusters, n_changed=pairs.n_changed, unpaired=pairs.unpaired,
        margin=margin, margin_source=source, outcome=reading.outcome,
        reason=reading.undecided, minimum_detectable_effect=test.minimum_detectable_effect, flip=reading.flip,
        flip_is_bound=bool(one.noise and one.noise.bound),
        n_needed=pairs_needed(value, gain, margin, test.n_pairs) if open_question else None, notes=tuple(_notes(one)))


def pairs_needed(gain: float, ci: ConfidenceInterval, margin: float, n: int) -> int | None:
    """Pairs at which the gain's interval would decide, if estimate and clustering stayed: it then excludes the margins that it now holds and
    that lie between it and an outcome. None where the gain is a margin."""
    near = [math.copysign(margin, gain)] if abs(gain) > margin else [-margin, margin]
    needed = [n_to_settle(gain, end, n, ci) for end in near if ci.low <= end <= ci.high]
    found = [one for one in needed if one is not None]
    return max(found) if found and len(found) == len(needed) else None


def _notes(one: Measured) -> Iterator[str]:
    """What a reader has to know beside the number."""
    pairs, n = one.pairs, len(one.pairs.places)
    if pairs.unpaired > MOST_UNPAIRED * (2 * n + pairs.unpaired):
        yield f"{pairs.unpaired} scores have no partner in the other run: the pairs are those items that both runs could be scored on"
    if one.test.flag:
        yield one.test.flag
    if not pairs.n_changed:
        yield f"no pair differs; the interval allows for what {n} pairs cannot show"
    if one.noise and one.noise.bound:
        yield ("how the recorded replies were drawn is not known" if not pairs.drawn else "drawn at random with one epoch") \
            + ": the chance of another outcome in a re-run is an upper bound; several epochs (--profile full) would measure it"
    for who, metric in (("baseline", one.metric), ("candidate", one.candidate)):
        if metric.no_pass:
            yield f"in the {who} no pass may rest on it: {metric.no_pass}"
