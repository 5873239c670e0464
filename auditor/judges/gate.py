"""May this judge's word be taken? Decided by the verdicts of its own audit (suite judge_agreement), before it judges anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from auditor.schema import Verdict

# Every criterion on these measurements (over all items) must be a pass: an inconclusive one is no licence.
GATE_CRITERIA = ("agreement", "order_consistency", "first_position_bias", "share_unparseable")


class Gate(NamedTuple):
    """Whether a judge passed, and why or why not."""

    passed: bool
    reason: str


def gate(verdicts: Iterable[Verdict]) -> Gate:
    """The gate's answer from the verdicts of one judge_agreement run, whatever suite name the run gave it.

    Verdicts on other measurements, or on a group of the items, do not count. No verdict at all on one of GATE_CRITERIA is not a pass.
    """
    found: dict[str, list[Verdict]] = {name: [] for name in GATE_CRITERIA}
    for verdict in verdicts:
        name = verdict.criterion.metric.rpartition(".")[2]
        if name in found and verdict.criterion.group == "all":
            found[name].append(verdict)
    problems = [f"{name} was not measured" for name, given in found.items() if not given]
    problems += [_problem(name, verdict) for name, given in found.items() for verdict in given if verdict.outcome != "pass"]
    if problems:
        return Gate(passed=False, reason="the judge did not pass its own audit: " + "; ".join(problems))
    return Gate(passed=True, reason="the judge passed its own audit: " + ", ".join(GATE_CRITERIA))


def _problem(name: str, verdict: Verdict) -> str:
    side = "at least" if verdict.criterion.direction == "above" else "at most"
    metric = verdict.metric
    measured = f"{metric.value:.3f}" if metric is not None and metric.value is not None else "not measured"
    return f"{name} is {measured}, {side} {verdict.criterion.bound:g} is needed ({verdict.outcome.replace('_', ' ')})"
