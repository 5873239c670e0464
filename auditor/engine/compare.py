"""Two runs on the same items: the paired difference of every measurement that is an average of one score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from auditor.schema import Comparison, Metric, Sample, Score
from auditor.stats import holm, paired_test
from auditor.store import Store, StoredRun

Values = dict[tuple[str, int], float]  # (sample_id, epoch) -> value


def compare_runs(store: Store, baseline: str, candidate: str) -> list[Comparison]:
    """Paired differences candidate − baseline of the whole-sample metrics that have a good side, Holm-adjusted among each other.

    A metric is compared where in both runs it is the plain average of one score (over all items, or over those of one task); the
    pairs are the items that both runs scored. Suites of different versions or items are left out, and so is a metric whose
    differences have no interval. Raises UnknownNameError for an unknown run.
    """
    runs = store.run(baseline), store.run(candidate)
    found = [one for suite in runs[0].spec.suites if _same_items(suite, *runs) for one in _of_suite(store, suite, *runs)]
    adjusted = holm([one.p_value for one in found])
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _same_items(suite: str, *runs: StoredRun) -> bool:
    """Whether every run asked the same items of the same version of the suite."""
    asked = {(dict(zip(run.spec.suites, run.spec.suite_versions, strict=True)).get(suite), tuple(sha for name, _, sha in run.spec.items if name == suite))
             for run in runs}
    return len(asked) == 1 and (None, ()) not in asked


def _of_suite(store: Store, suite: str, baseline: StoredRun, candidate: StoredRun) -> Iterator[Comparison]:
    runs = baseline.run_id, candidate.run_id
    metrics = [{metric.name: metric for metric in store.metrics(run) if metric.suite == suite and metric.group == "all"} for run in runs]
    shared = [name for name, metric in metrics[0].items() if metric.higher_is_better is not None and name in metrics[1]]
    if not any(metrics[0][name].n for name in shared):
        return
    samples = {sample.id: sample for run in runs for sample in store.samples(run, suite)}
    tables = [_tables(store.baseline(run, suite).scores, samples) for run in runs]
    for name in shared:
        which = _scorer(name, [found[name] for found in metrics], tables)
        if which is None:
            continue
        first, second = (table[which] for table in tables)
        pairs = sorted(first.keys() & second.keys())
        binary = all(value in (0.0, 1.0) for values in (first, second) for value in values.values())
        result = paired_test([second[key] for key in pairs], [first[key] for key in pairs], [samples[key[0]].cluster_id for key in pairs],
                             bounds=(-1.0, 1.0) if binary else None)
        comparison = result.comparison(metrics[0][name].key, *runs) if result else None
        if comparison is not None:
            yield comparison


def _tables(scores: Sequence[Score], samples: Mapping[str, Sample]) -> dict[tuple[str, str], Values]:
    """Scored values by (scorer, task); task "" holds all of a scorer's."""
    tables: dict[tuple[str, str], Values] = {}
    for score in scores:
        if score.value is None or not math.isfinite(score.value):
            continue
        for task in {"", str(samples[score.sample_id].metadata.get("task", ""))}:
            tables.setdefault((score.scorer, task), {})[score.sample_id, score.epoch] = score.value
    return tables


def _scorer(name: str, metrics: Sequence[Metric], tables: Sequence[Mapping[tuple[str, str], Values]]) -> tuple[str, str] | None:
    """The scorer and task whose average is the metric's value in every run, the one of the metric's own name first."""
    fitting = [which for which in tables[0] if all(_is_average(metric, table.get(which)) for metric, table in zip(metrics, tables, strict=True))]
    same_values = all(table[which] == table[fitting[0]] for table in tables for which in fitting)
    return next((which for which in fitting if which[0] == name), fitting[0] if fitting and same_values else None)


def _is_average(metric: Metric, values: Values | None) -> bool:
    return bool(values) and metric.value is not None and len(values or ()) == metric.n and math.isclose(
        sum((values or {}).values()) / metric.n, metric.value, rel_tol=1e-9, abs_tol=1e-12)
