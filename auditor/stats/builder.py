"""From the scores of a suite to its metrics: selects rows, joins scorers, calls the right interval.

A row is one (sample, epoch); all epochs of a sample stay in the sample's cluster. A score that is not ``scored`` is
counted in ``n_unscored`` and enters no value.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np

from auditor.errors import InputError
from auditor.schema import Metric, Sample, Score
from auditor.stats.bootstrap import Statistic, bootstrap_interval, weighted_mean
from auditor.stats.intervals import Estimate, Floats, mean_interval, no_variation_interval, proportion_interval

Key = tuple[str, int]


class MetricOptions(TypedDict, total=False):
    """What every method of :class:`MetricBuilder` takes by keyword."""

    group: str
    where: Callable[[Sample], bool] | None
    higher_is_better: bool | None
    unit: str
    flags: Sequence[str]
    judge_based: bool
    bounds: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    group: str = "all"
    where: Callable[[Sample], bool] | None = None
    higher_is_better: bool | None = None
    unit: str = "proportion"
    flags: Sequence[str] = ()
    judge_based: bool = False
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The scored rows that a metric rests on: ``columns`` one (N,) array per scorer, ``clusters`` (N,) ids."""

    keys: tuple[Key, ...]
    columns: tuple[Floats, ...]
    clusters: np.ndarray
    n_unscored: int


class MetricBuilder:
    """Builds the metrics of one suite.

    ``samples`` and ``scores`` as in SuiteData. ``seed`` decides the bootstrap's draws, together with the metric's name, so a
    metric does not depend on which others are built. Raises InputError for a score whose sample is unknown, or for
    two scores of the same scorer, sample and epoch.
    """

    def __init__(self, *, suite: str, samples: Iterable[Sample], scores: Iterable[Score], seed: int = 0) -> None:
        self.suite = suite
        self.seed = seed
        self.samples: Mapping[str, Sample] = {sample.id: sample for sample in samples}
        self._scores = _by_scorer(scores)

    def rows(self, scorers: Sequence[str], where: Callable[[Sample], bool] | None = None) -> Rows:
        """Rows that have a score of every one of ``scorers``, sorted by (sample id, epoch).

        A row counts as unscored when any of its scores has no finite value; a row absent from a scorer is no row.
        """
        tables = [self._scores.get(scorer, {}) for scorer in scorers]
        shared = sorted(set(tables[0]).intersection(*tables[1:])) if tables else []
        kept: list[Key] = []
        values: list[list[float]] = []
        unscored = 0
        for key in shared:
            if where is not None and not where(self._sample(key[0])):
                continue
            row = [table[key].value for table in tables]
            numbers = [value for value in row if value is not None and math.isfinite(value)]
            if len(numbers) < len(row):
                unscored += 1
                continue
            kept.append(key)
            values.append(numbers)
        matrix = np.array(values, dtype=float).reshape(len(kept), len(scorers))
        clusters = np.array([self._sample(sample_id).cluster_id for sample_id, _ in kept], dtype=object).astype(str)
        return Rows(keys=tuple(kept), columns=tuple(matrix.T), clusters=clusters, n_unscored=unscored)

    def proportion(self, name: str, scorer: str, **options: Unpack[MetricOptions]) -> Metric:
        """Share of ones among values in {0, 1}: Wilson, cluster-robust Wilson, or exact (see proportion_interval)."""
        chosen = _Options(**options)
        rows = self.rows((scorer,), chosen.where)
        return self._metric(name, rows, proportion_interval(rows.columns[0], rows.clusters), chosen, scorer)

    def mean(self, name: str, scorer: str, **options: Unpack[MetricOptions]) -> Metric:
        """Mean of any real values: cluster-robust t; ``bounds`` of the quantity keep the interval inside and never empty."""
        chosen = _Options(**options)
        rows = self.rows((scorer,), chosen.where)
        return self._metric(name, rows, mean_interval(rows.columns[0], rows.clusters, chosen.bounds), chosen, scorer)

    def statistic(self, name: str, scorers: Sequence[str], fn: Statistic, **options: Unpack[MetricOptions]) -> Metric:
        """Any statistic ``fn(columns, weights (R, N)) -> (R,)`` of joined scorers, with a clustered BCa interval.

        ``weights`` are the resample counts of each row's cluster (all ones for the point estimate). With ``bounds`` a
        statistic that does not vary gets the no-variation interval, otherwise none and a flag.
        """
        chosen = _Options(**options)
        rows = self.rows(scorers, chosen.where)
        estimate = bootstrap_interval(rows.columns, fn, rows.clusters, seed=self._seed(name, chosen.group))
        return self._metric(name, rows, _bounded(estimate, chosen.bounds), chosen, "+".join(scorers))

    def paired_difference(self, name: str, scorer: str, baseline_scores: Iterable[Score], **options: Unpack[MetricOptions]) -> Metric:
        """Mean of value − baseline value over the (sample, epoch) scored in both; clustered BCa.

        ``bounds`` are those of the difference; values that are all 0 or 1 imply (−1, 1). Rows absent from the baseline
        are no pairs; a pair with an unscored side is counted in ``n_unscored``.
        """
        chosen = _Options(**options)
        paired = MetricBuilder(suite=self.suite, samples=self.samples.values(), scores=(), seed=self.seed)
        paired._scores = {"candidate": self._scores.get(scorer, {}), "baseline": _by_scorer(baseline_scores).get(scorer, {})}
        rows = paired.rows(("candidate", "baseline"), chosen.where)
        difference_N = rows.columns[0] - rows.columns[1]
        bounds = chosen.bounds or ((-1.0, 1.0) if np.isin(rows.columns, (0.0, 1.0)).all() else None)
        estimate = bootstrap_interval((difference_N,), weighted_mean, rows.clusters, seed=self._seed(name, chosen.group))
        return self._metric(name, rows, _bounded(estimate, bounds), chosen, scorer)

    def not_made(self, name: str, reason: str, **options: Unpack[MetricOptions]) -> Metric:
        """A measurement that was not made: value None, never a pass."""
        chosen = _Options(**options)
        return Metric(suite=self.suite, name=name, value=None, group=chosen.group, higher_is_better=chosen.higher_is_better,
                      unit=chosen.unit, judge_based=chosen.judge_based, reason=reason, flags=tuple(chosen.flags))

    def _metric(self, name: str, rows: Rows, estimate: Estimate | None, chosen: _Options, scorer: str) -> Metric:
        common = {"suite": self.suite, "name": name, "group": chosen.group, "higher_is_better": chosen.higher_is_better,
                  "unit": chosen.unit, "judge_based": chosen.judge_based}
        n_clusters = len(set(rows.clusters.tolist()))
        if estimate is None:
            reason = _reason(len(rows.keys), rows.n_unscored, scorer)
            return Metric(value=None, n=len(rows.keys), n_clusters=n_clusters, n_unscored=rows.n_unscored, reason=reason,
                          flags=tuple(chosen.flags), **common)  # type: ignore[arg-type]
        flags = tuple(chosen.flags) + ((estimate.flag,) if estimate.flag else ())
        return Metric(value=estimate.value, ci=estimate.ci, n=estimate.n, n_clusters=n_clusters, n_unscored=rows.n_unscored,
                      design_effect=estimate.design_effect, flags=flags, **common)  # type: ignore[arg-type]

    def _sample(self, sample_id: str) -> Sample:
        if sample_id not in self.samples:
            raise InputError(f"suite {self.suite!r}: score of unknown sample {sample_id!r}: pass scores of the suite's own samples")
        return self.samples[sample_id]

    def _seed(self, name: str, group: str) -> int:
        digest = hashlib.sha256(f"{self.seed}|{self.suite}|{name}|{group}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


def _by_scorer(scores: Iterable[Score]) -> dict[str, dict[Key, Score]]:
    tables: dict[str, dict[Key, Score]] = {}
    for score in scores:
        table = tables.setdefault(score.scorer, {})
        key = (score.sample_id, score.epoch)
        if key in table:
            raise InputError(f"two scores of scorer {score.scorer!r} for sample {key[0]!r}, epoch {key[1]}: give each its own scorer name")
        table[key] = score
    return tables


def _bounded(estimate: Estimate | None, bounds: tuple[float, float] | None) -> Estimate | None:
    if estimate is None or bounds is None or not estimate.flag.startswith("no variation"):
        return estimate
    ci = no_variation_interval(estimate.value, estimate.n_clusters, bounds)
    return Estimate(value=estimate.value, ci=ci, n=estimate.n, n_clusters=estimate.n_clusters)


def _reason(n: int, n_unscored: int, scorer: str) -> str:
    if n:
        return f"{scorer}: not defined on the {n} scored rows"
    if n_unscored:
        return f"{scorer}: none of {n_unscored} rows could be scored"
    return f"{scorer}: no rows"
