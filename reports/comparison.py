"""Several runs beside each other: the same measurements of, say, a base model, a candidate and a model organism."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from auditor.reports import charts, numbers, wording
from auditor.reports.charts import LETTERS, Bar
from auditor.reports.images import Figure, Table, drawn
from auditor.reports.judge import GATE
from auditor.reports.view import Comparison
from auditor.schema import Comparison as Paired
from auditor.schema import Metric
from auditor.store import Store, StoredRun

MOST_ROWS, MOST_RUNS, MOST_FIGURES = 14, 4, 3


def comparison(store: Store, runs: Sequence[StoredRun], first: Sequence[str], paired: Sequence[Paired] = ()) -> Comparison | None:
    """Values of the whole-sample measurements that at least two of the runs share; the keys in ``first`` lead.

    ``paired`` are differences from the first run on the same items, tested elsewhere; overlapping intervals show nothing.
    """
    if len(runs) < 2:
        return None
    by_run = [{m.key: m for m in store.metrics(run.run_id) if m.group == "all" and m.suite != GATE} for run in runs]
    shared = [
        key
        for key in dict.fromkeys(k for found in by_run for k in found)
        if sum(key in found and numbers.is_number(found[key].value) for found in by_run) >= 2
    ]
    keys = sorted(shared, key=lambda key: first.index(key) if key in first else len(first))
    letters = LETTERS[: len(runs)]
    names = tuple((letter, run.spec.model.uri, run.run_id) for letter, run in zip(letters, runs, strict=True))
    headers = ("Measurement", *(f"{letter} (95 % interval)" for letter in letters))
    rows = tuple((_label(key), *(_cell(found.get(key)) for found in by_run)) for key in keys)
    units = {key: metric.unit for found in by_run for key, metric in found.items()}
    differences = tuple(
        (f"{letter} {numbers.MINUS} {letters[0]}", _differences([one for one in paired if one.candidate == run.run_id], units, keys))
        for letter, run in list(zip(letters, runs, strict=True))[1:]
        if any(one.candidate == run.run_id for one in paired)
    )
    return Comparison(runs=names, headers=headers, rows=rows, figures=tuple(_figures(keys, by_run, letters)), differences=differences)


def _differences(paired: Sequence[Paired], units: Mapping[str, str], keys: Sequence[str]) -> Table:
    rows = []
    for one in sorted(paired, key=lambda one: keys.index(one.metric) if one.metric in keys else len(keys)):
        unit = "proportion difference" if units[one.metric] in numbers.PROPORTIONS else units[one.metric]
        held = one.ci.low <= 0 <= one.ci.high
        smallest = numbers.number(one.minimum_detectable_effect, unit) if held and one.minimum_detectable_effect is not None else "–"
        rows.append((_label(one.metric), f"{numbers.number(one.difference, unit)} ({numbers.interval(one.ci, unit)})", wording.p_value(one.p_value),
                     wording.p_value(one.p_adjusted), f"{one.n_pairs:,}", smallest))
    return Table(headers=("Measurement", "Difference (95 % interval)", "p", "p, adjusted", "Pairs", "Smallest detectable"), rows=tuple(rows))


def _label(key: str) -> str:
    suite, _, name = key.partition(".")
    return f"{wording.metric_label(name)} · {suite.replace('_', ' ')}"


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "not in this run"
    value = numbers.number(metric.value, metric.unit)
    return value if metric.ci is None else f"{value} ({numbers.interval(metric.ci, metric.unit)})"


def _figures(keys: Sequence[str], by_run: Sequence[dict[str, Metric]], letters: str) -> list[Figure]:
    units = {key: next(found[key].unit for found in by_run if key in found) for key in keys}
    figures = []
    for unit in list(dict.fromkeys(units.values()))[:MOST_FIGURES]:
        groups = [(_label(key), _bars(key, by_run, letters)) for key in keys if units[key] == unit][:MOST_ROWS]
        rows = tuple((label, *(f"{bar.letter}: {numbers.number(bar.value, unit)}" for bar in bars)) for label, bars in groups)
        width = max(len(row) for row in rows)
        table = Table(headers=("Measurement", *(["Value"] * (width - 1))), rows=tuple(row + ("–",) * (width - len(row)) for row in rows))
        caption = "The runs beside each other" + ("" if len(set(units.values())) == 1 else f" ({unit or 'number'})")
        figures.append(
            drawn(
                partial(charts.bars, groups, unit=unit),
                caption=caption,
                table=table,
                note="Bars show the value, lines the 95 % interval; the letters are those of the list above.",
                alt=f"Grouped bars of {numbers.plural(len(groups), 'measurement')} for {len(letters)} runs. The table holds the values.",
            )
        )
    return figures


def _bars(key: str, by_run: Sequence[dict[str, Metric]], letters: str) -> list[Bar]:
    bars = []
    for letter, found in zip(letters, by_run, strict=True):
        metric = found.get(key)
        if metric is not None and numbers.is_number(metric.value):
            ends = (metric.ci.low, metric.ci.high) if metric.ci is not None else (None, None)
            bars.append(Bar(value=metric.value or 0.0, low=ends[0], high=ends[1], letter=letter))
    return bars
