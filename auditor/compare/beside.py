"""Paired differences for pages that show runs beside each other: whatever can be compared, without a policy and without refusing the rest."""

from __future__ import annotations

from dataclasses import replace

from auditor.compare.differences import Measured, Runs, measure
from auditor.compare.naming import Chosen
from auditor.schema import Comparison
from auditor.stats.multiplicity import holm
from auditor.store import Store


def compare_runs(store: Store, baseline: str, candidate: str) -> list[Comparison]:
    """Paired differences candidate − baseline of the whole-sample metrics that have a good side, Holm-adjusted among each other.

    Suites of different versions or items are left out, and so is what cannot be compared by item. Raises UnknownNameError for an unknown run.
    """
    first, second = (Chosen(store=store, run=store.run(name)) for name in (baseline, candidate))
    suites = [suite for suite in first.run.spec.suites if _asked(first, suite) == _asked(second, suite)]
    runs = Runs()
    for one in (first, second):
        runs.read(one, suites)
    measured = [one for suite in suites for one in measure(runs, first, second, suite, {}) if isinstance(one, Measured)]
    adjusted = holm([one.test.p_value for one in measured])
    found = [one.test.comparison(one.metric.key, first.run.run_id, second.run.run_id) for one in measured]
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True) if one is not None]


def _asked(chosen: Chosen, suite: str) -> tuple[str | None, tuple[str, ...]]:
    """What version of the suite a run asked, and which items."""
    spec = chosen.run.spec
    return dict(zip(spec.suites, spec.suite_versions, strict=True)).get(suite), tuple(sha for name, _, sha in spec.items if name == suite)
