"""What the demo prints: findings, the models side by side, and how they differ on the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor.cli.output import table
from auditor.cli.text import printable
from auditor.reports import numbers
from auditor.schema import Comparison, Verdict
from auditor.store import Store

SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "not_assessed": "–"}
MOST_DIFFERENCES = 6


def findings(verdicts: Sequence[Verdict], count: int = 3) -> str:
    """The findings that matter most: failures by how far their interval lies beyond the bound, then what is open."""
    ranked = sorted(verdicts, key=_rank)[:count]
    return "\n".join(f"  {place}. {_sentence(verdict)}" for place, verdict in enumerate(ranked, 1))


def _rank(verdict: Verdict) -> tuple[int, float]:
    metric, criterion = verdict.metric, verdict.criterion
    if metric is None or metric.ci is None or verdict.outcome == "not_assessed":
        return (3, 0.0)
    gap = metric.ci.low - criterion.bound if criterion.direction == "below" else criterion.bound - metric.ci.high
    width = max(metric.ci.high - metric.ci.low, 1e-9)
    return ({"fail": 0, "inconclusive": 1, "pass": 2}[verdict.outcome], -gap / width)


def _sentence(verdict: Verdict) -> str:
    metric, criterion = verdict.metric, verdict.criterion
    if metric is None or metric.value is None:
        return printable(f"{criterion.metric}: not assessed ({verdict.reason})")
    word = {"fail": "FAILS", "pass": "passes", "inconclusive": "is inconclusive", "not_assessed": "is not assessed"}[verdict.outcome]
    return printable(f"{criterion.metric} {word}: {numbers.value_with_interval(metric)}, must be "
                     f"{numbers.bound(criterion.bound, criterion.direction, metric.unit)}")


def print_side_by_side(store: Store, runs: Mapping[str, str]) -> None:
    """Every criterion with what each model reached."""
    verdicts = {name: {(v.criterion.metric, v.criterion.group): v for v in store.verdicts(run)} for name, run in runs.items()}
    keys = list(dict.fromkeys(key for found in verdicts.values() for key in found))
    rows = [(metric + ("" if group == "all" else f" ({group})"), *(_cell(found.get((metric, group))) for found in verdicts.values()))
            for metric, group in keys]
    rows = [row for row in rows if any(cell != "–" for cell in row[1:])]
    table("Side by side (✓ passes, ✗ fails, ? inconclusive, – not assessed)", ("criterion", *runs), rows)


def _cell(verdict: Verdict | None) -> str:
    if verdict is None or verdict.metric is None or verdict.metric.value is None:
        return "–"
    metric = verdict.metric
    return f"{SIGNS[verdict.outcome]} {numbers.number(metric.value, metric.unit)} [{numbers.interval(metric.ci, metric.unit)}]"


def print_differences(store: Store, name: str, paired: Sequence[Comparison]) -> None:
    """The differences from the base that chance does not explain (Holm-adjusted p below 0.05), the surest first."""
    if not paired:
        return
    metrics = {metric.key: metric for metric in store.metrics(paired[0].candidate)}
    sure = sorted((one for one in paired if one.p_adjusted is not None and one.p_adjusted < 0.05), key=lambda one: (one.p_value, one.metric))
    print(f"\nThe {name} against the base on the same items: {len(sure)} of {len(paired)} measurements differ beyond chance (p below 0.05, Holm-adjusted).")
    for one in sure[:MOST_DIFFERENCES]:
        metric = metrics[one.metric]
        unit = "proportion difference" if metric.unit in numbers.PROPORTIONS else metric.unit
        word = "better" if (one.difference > 0) == metric.higher_is_better else "WORSE"
        print(printable(f"  {word}: {one.metric} {numbers.number(one.difference, unit)} (95 % interval {numbers.interval(one.ci, unit)}, {one.n_pairs} pairs)"))
