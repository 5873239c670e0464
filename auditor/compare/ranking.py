"""Several runs in one order, metric by metric, on the items that all of them share.

A run's places are those that Holm-adjusted paired tests leave open: one more than the runs that surely beat it at best, and at worst the number of
runs less those that it surely beats. All of them hold at once with the family-wise confidence of the adjustment [1].

References
[1] Al Mohamad, Goeman & van Zwet (2022), Simultaneous confidence intervals for ranks with application to ranking institutions. Biometrics 78.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from auditor.compare.differences import Measured, Runs
from auditor.compare.naming import Chosen
from auditor.compare.outcomes import ALPHA
from auditor.compare.pairing import keyed_values, places_in
from auditor.compare.result import MetricRanking, Ranked, Ranking
from auditor.stats.intervals import mean_interval
from auditor.stats.multiplicity import holm
from auditor.stats.paired import paired_test

Table = tuple[np.ndarray, np.ndarray]  # values (runs, N), clusters (N,)


def rank(runs: Runs, chosen: Sequence[Chosen], measured: Mapping[str, Sequence[Measured]]) -> Ranking | None:
    """Rankings of the metrics that every candidate could be compared on (``measured``: by metric, one a candidate). None where there is none."""
    tables = {key: table for key, found in measured.items() if (table := _table(runs, chosen, found)) is not None}
    pairs = [(key, a, b) for key in tables for a in range(len(chosen)) for b in range(a)]
    if not pairs:
        return None
    tests = [_test(tables[key], a, b) for key, a, b in pairs]
    adjusted = holm([p for _, p in tests])
    metrics = []
    totals = np.zeros((len(chosen), 2), dtype=int)
    for key, table in tables.items():
        better = measured[key][0].higher_is_better
        score = np.zeros((len(chosen), 2), dtype=int)
        for (name, a, b), (difference, _), p in zip(pairs, tests, adjusted, strict=True):
            if name == key and p is not None and p <= ALPHA and difference:
                winner, loser = (a, b) if (difference > 0) == better else (b, a)
                score[winner, 0] += 1
                score[loser, 1] += 1
        totals += score
        metrics.append(_ranking(measured[key][0], chosen, table, score))
    listed = tuple((one.run.run_id, int(wins), int(losses)) for one, (wins, losses) in zip(chosen, totals, strict=True))
    return Ranking(metrics=tuple(metrics), totals=listed, tests=len(pairs))


def _table(runs: Runs, chosen: Sequence[Chosen], found: Sequence[Measured]) -> Table | None:
    """Values of all runs on the (sample, epoch) that all of them scored."""
    suite, which = found[0].metric.suite, found[0].which
    if len(found) != len(chosen) - 1 or any(one.which != which for one in found):
        return None
    sides = [runs.suite(one, suite) for one in chosen]
    columns = [keyed_values(side, which, places_in(sides[0], side)) for side in sides]
    shared = reduce(np.intersect1d, [keys for keys, _ in columns])
    if not len(shared):
        return None
    values = np.stack([values[np.searchsorted(keys, shared)] for keys, values in (_sorted(*column) for column in columns)])
    return values, sides[0].scores.clusters[shared >> 20]


def _sorted(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys)
    return keys[order], values[order]


def _test(table: Table, a: int, b: int) -> tuple[float, float | None]:
    """(difference a − b, p); p 1 where the two never differ."""
    values, clusters = table
    found = paired_test(values[a], values[b], clusters)
    return (found.difference, found.p_value) if found else (0.0, None)


def _ranking(one: Measured, chosen: Sequence[Chosen], table: Table, score: np.ndarray) -> MetricRanking:
    values, clusters = table
    order = np.argsort(-values.mean(1) if one.higher_is_better else values.mean(1), kind="stable")
    ranked = []
    for k in order:
        bounds = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else None
        estimate = mean_interval(values[k], clusters, bounds)
        wins, losses = (int(n) for n in score[k])
        ranked.append(Ranked(run_id=chosen[k].run.run_id, value=float(values[k].mean()), ci=estimate.ci if estimate else None, wins=wins, losses=losses,
                             places=(1 + losses, len(chosen) - wins)))
    return MetricRanking(metric=one.metric.key, unit=one.metric.unit, higher_is_better=one.higher_is_better, n=values.shape[1], runs=tuple(ranked))
