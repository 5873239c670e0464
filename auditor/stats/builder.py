"""From the scores of a suite to its metrics: selects rows, joins scorers, calls the right interval.

A row is one (sample, epoch); all epochs of a sample stay in the sample's cluster. A score that is not ``scored`` enters no
value and is counted in ``n_unscored``.

    b = MetricBuilder(suite="sycophancy", samples=data.samples, scores=data.scores, seed=data.context.seed)
    b.proportion("flip_rate", "flipped", higher_is_better=False, where=lambda sample: sample.metadata["task"] == "stance")
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from auditor.errors import InputError
from auditor.schema import NO_PASS, Metric, Sample, Score
from auditor.stats.bootstrap import Resampling, Statistic, bootstrap_interval, clip, paired_interval
from auditor.stats.intervals import Estimate, Floats, mean_interval, no_variation, proportion_interval
from auditor.stats.power import implied_error, minimum_detectable_effect

Key = tuple[str, int]
Table = Mapping[Key, Score]

FEW_CLUSTERS = 10


class MetricOptions(TypedDict, total=False):
    """What every method of :class:`MetricBuilder` takes by keyword; defaults in ``_Options``."""

    group: str
    where: Callable[[Sample], bool] | None
    higher_is_better: bool | None
    unit: str
    flags: Sequence[str]
    judge_based: bool
    bounds: tuple[float, float] | None
    no_pass: str  # why a pass may not rest on the metric, where it may not


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    group: str = "all"
    where: Callable[[Sample], bool] | None = None
    higher_is_better: bool | None = None
    unit: str = "proportion"
    flags: Sequence[str] = ()
    judge_based: bool = False
    bounds: tuple[float, float] | None = None
    no_pass: str = ""

    @property
    def all_flags(self) -> tuple[str, ...]:
        return (*self.flags, NO_PASS + self.no_pass) if self.no_pass else tuple(self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The scored rows a metric rests on, sorted by key: one (N,) column per scorer and the (N,) cluster ids."""

    keys: tuple[Key, ...]
    columns: tuple[Floats, ...]
    clusters: NDArray[np.str_]
    n_unscored: int


class MetricBuilder:
    """Builds the metrics of one suite from its samples and scores.

    ``seed`` and the metric's name and group decide the bootstrap's draws, so a metric never depends on which others are
    built. Raises InputError for two scores of one scorer on the same sample and epoch, and for a score of an unknown sample.
    """

    def __init__(self, *, suite: str, samples: Iterable[Sample], scores: Iterable[Score], seed: int = 0) -> None:
        self.suite = suite
        self.seed = seed
        self.samples: Mapping[str, Sample] = {sample.id: sample for sample in samples}
        self._tables = _by_scorer(scores)

    def rows(self, scorers: str | Sequence[str], where: Callable[[Sample], bool] | None = None) -> Rows:
        """The rows that have a score of every scorer; those with any score unscored (or not finite) are only counted.

        A (sample, epoch) that lacks a score of one of the scorers altogether is no row.
        """
        names = (scorers,) if isinstance(scorers, str) else tuple(scorers)
        return self._join([self._tables.get(name, {}) for name in names], where)

    def proportion(self, name: str, scorer: str, **options: Unpack[MetricOptions]) -> Metric:
        """Share of ones among values in {0, 1}: Wilson, cluster-robust Wilson, or exact (see proportion_interval)."""
        chosen = _Options(**options)
        rows = self.rows(scorer, chosen.where)
        return self._metric(name, rows, proportion_interval(rows.columns[0], rows.clusters), chosen)

    def mean(self, name: str, scorer: str, **options: Unpack[MetricOptions]) -> Metric:
        """Mean of real values: cluster-robust t (see mean_interval). ``bounds`` of the quantity clip it and keep it from vanishing."""
        chosen = _Options(**options)
        rows = self.rows(scorer, chosen.where)
        return self._metric(name, rows, mean_interval(rows.columns[0], rows.clusters, chosen.bounds), chosen)

    def statistic(self, name: str, scorers: str | Sequence[str], fn: Statistic, **options: Unpack[MetricOptions]) -> Metric:
        """Any ``fn(columns, weights (R, N)) -> (R,)`` of joined scorers, with a clustered BCa interval.

        ``weights`` are the resample counts of each row's cluster, ones for the value itself. Without variation between clusters the
        interval is the conservative one of ``bounds`` (meant for statistics that are averages), or none and a flag.
        """
        chosen = _Options(**options)
        rows = self.rows(scorers, chosen.where)
        plan = Resampling(seed=self._draws(name, chosen.group))
        return self._metric(name, rows, _bounded(bootstrap_interval(rows.columns, fn, rows.clusters, plan), chosen.bounds), chosen)

    def paired_difference(self, name: str, scorer: str, baseline_scores: Iterable[Score], **options: Unpack[MetricOptions]) -> Metric:
        """Mean of value − baseline value over the (sample, epoch) in both, with a clustered BCa interval.

        ``bounds`` are those of the difference; when both sides are 0 or 1 throughout they are (−1, 1). A pair with an unscored
        side counts as unscored. A difference whose interval holds 0 is flagged with the minimum detectable effect.
        """
        chosen = _Options(**options)
        rows = self._join([self._tables.get(scorer, {}), _by_scorer(baseline_scores).get(scorer, {})], chosen.where)
        binary = all(np.isin(column, (0.0, 1.0)).all() for column in rows.columns)
        bounds = chosen.bounds or ((-1.0, 1.0) if binary else None)
        plan = Resampling(seed=self._draws(name, chosen.group))
        estimate = paired_interval(rows.columns[0] - rows.columns[1], rows.clusters, bounds, plan)
        return self._metric(name, rows, _with_mde(estimate), chosen)

    def not_made(self, name: str, reason: str, **options: Unpack[MetricOptions]) -> Metric:
        """A measurement that was not made: value None with its reason, which no criterion can pass."""
        chosen = _Options(**options)
        return Metric(suite=self.suite, name=name, value=None, group=chosen.group, higher_is_better=chosen.higher_is_better,
                      unit=chosen.unit, judge_based=chosen.judge_based, reason=reason, flags=chosen.all_flags)

    def from_estimate(self, name: str, estimate: Estimate | None, n_unscored: int = 0, reason: str = "",
                      **options: Unpack[MetricOptions]) -> Metric:
        """A metric from an estimate computed elsewhere; None gives ``not_made`` with ``reason``."""
        chosen = _Options(**options)
        if estimate is None:
            return replace(self.not_made(name, reason or "not defined on these data", **options), n_unscored=n_unscored)
        return Metric(suite=self.suite, name=name, value=estimate.value, ci=estimate.ci, group=chosen.group, n=estimate.n,
                      n_clusters=estimate.n_clusters, n_unscored=n_unscored, higher_is_better=chosen.higher_is_better, unit=chosen.unit,
                      design_effect=estimate.design_effect, judge_based=chosen.judge_based, flags=(*chosen.all_flags, *_warnings(estimate)))

    def _metric(self, name: str, rows: Rows, estimate: Estimate | None, chosen: _Options) -> Metric:
        options: MetricOptions = {"group": chosen.group, "higher_is_better": chosen.higher_is_better, "unit": chosen.unit,
                                  "flags": chosen.flags, "no_pass": chosen.no_pass, "judge_based": chosen.judge_based}
        metric = self.from_estimate(name, estimate, rows.n_unscored, _reason(rows), **options)
        return replace(metric, n=len(rows.keys), n_clusters=len(np.unique(rows.clusters)))

    def _join(self, tables: Sequence[Table], where: Callable[[Sample], bool] | None) -> Rows:
        kept: list[Key] = []
        values: list[list[float]] = []
        unscored = 0
        for key in sorted(set(tables[0]).intersection(*tables[1:])):
            if where is not None and not where(self._sample(key[0])):
                continue
            row = [table[key].value for table in tables]
            numbers = [value for value in row if value is not None and math.isfinite(value)]
            if len(numbers) == len(row):
                kept.append(key)
                values.append(numbers)
            else:
                unscored += 1
        matrix = np.array(values, dtype=float).reshape(len(kept), len(tables))
        clusters = np.array([self._sample(sample_id).cluster_id for sample_id, _ in kept], dtype=np.str_)
        return Rows(keys=tuple(kept), columns=tuple(matrix.T), clusters=clusters, n_unscored=unscored)

    def _sample(self, sample_id: str) -> Sample:
        if sample_id not in self.samples:
            raise InputError(f"suite {self.suite!r}: score of unknown sample {sample_id!r}: pass scores of the suite's own samples")
        return self.samples[sample_id]

    def _draws(self, name: str, group: str) -> int:
        digest = hashlib.sha256(f"{self.seed}|{self.suite}|{name}|{group}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


def _by_scorer(scores: Iterable[Score]) -> dict[str, dict[Key, Score]]:
    tables: dict[str, dict[Key, Score]] = {}
    for score in scores:
        table, key = tables.setdefault(score.scorer, {}), (score.sample_id, score.epoch)
        if key in table:
            raise InputError(f"two scores of scorer {score.scorer!r} for sample {key[0]!r}, epoch {key[1]}: give each its own scorer name")
        table[key] = score
    return tables


def _bounded(estimate: Estimate | None, bounds: tuple[float, float] | None) -> Estimate | None:
    if estimate is None or bounds is None:
        return estimate
    if estimate.flag.startswith("no variation"):
        return no_variation(estimate, bounds)
    return clip(estimate, bounds)


def _with_mde(estimate: Estimate | None) -> Estimate | None:
    if estimate is None or estimate.ci is None or not estimate.ci.low <= 0 <= estimate.ci.high:
        return estimate
    df = max(estimate.n_clusters - 1 if estimate.df is None else estimate.df, 1)
    effect = minimum_detectable_effect(implied_error(estimate.ci, df), df=df)
    return replace(estimate, flag=f"not significant; minimum detectable effect {effect:.3g} (power 80 %)")


def _warnings(estimate: Estimate) -> list[str]:
    rough = ""
    if estimate.ci is not None and estimate.df is not None and estimate.df < FEW_CLUSTERS - 1:
        rough = f"only {estimate.df:.2g} degrees of freedom: the interval is rough"
    elif estimate.ci is not None and estimate.df is None and estimate.n_clusters < FEW_CLUSTERS:
        rough = f"only {estimate.n_clusters} clusters: the interval is rough"
    return [text for text in (estimate.flag, rough) if text]


def _reason(rows: Rows) -> str:
    if rows.keys:
        return f"not defined on the {len(rows.keys)} scored rows"
    return f"none of {rows.n_unscored} rows could be scored" if rows.n_unscored else "no sample has this score"
