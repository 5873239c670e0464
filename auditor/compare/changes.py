"""The items whose score changed most between two runs, both ways, with both transcripts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from zlib import crc32

import numpy as np

from auditor.compare.differences import Measured
from auditor.compare.naming import Chosen
from auditor.compare.result import Change, Decision, Difference
from auditor.store.columns import transcripts_at

METRICS, EACH = 6, 3  # measurements shown, and items of each, each way
SPARE, MOST_TIES = 4, 5000  # more items than shown, since some are shown elsewhere; equal ones among which the shown are picked


def most_important(differences: Sequence[Difference], decisions: Sequence[Decision]) -> list[str]:
    """The metrics worth looking at: those of failed rules, then whatever differs, the surest first; nothing where no item changed."""
    failed = {one.rule.metric for one in decisions if one.decided == "fail"}
    asked = {one.rule.metric for one in decisions}
    changed = [one for one in differences if one.n_changed]
    decided = ("worse", "better")
    changed.sort(key=lambda one: (one.metric not in failed, one.outcome not in decided, one.metric not in asked, one.p_value, one.metric))
    return [one.metric for one in changed[:METRICS]]


def most_changed(metrics: Sequence[str], measured: Sequence[Measured], runs: tuple[Chosen, Chosen], hidden: Collection[str] = ()) -> tuple[Change, ...]:
    """For each metric the items that lost most, then those that gained most. ``hidden``: suites whose texts are not to be shown.

    An item is shown once, under the first metric that it stands out in.
    """
    found = {one.metric.key: one for one in measured}
    changes: list[Change] = []
    seen: set[tuple[str, str, int]] = set()
    for key in metrics:
        one = found[key]
        if one.metric.suite in hidden:
            continue
        for change in _with_texts(one, _extremes(one, seen), runs):
            changes.append(change)
            seen.add((one.metric.suite, change.baseline.sample_id, change.baseline.epoch))
    return tuple(changes)


def _extremes(one: Measured, seen: Collection[tuple[str, str, int]]) -> list[tuple[tuple[str, int], float]]:
    """((sample_id, epoch), gain) of the greatest losses and the greatest gains; equal ones in an arbitrary, fixed order."""
    pairs = one.pairs
    gain = (pairs.candidate - pairs.baseline) * (1 if one.higher_is_better else -1)
    order = np.argsort(gain, kind="stable")
    chosen = []
    for ranked in (order, order[::-1]):
        sign = -1 if ranked is order else 1
        bound = gain[ranked[min(EACH * SPARE, len(ranked)) - 1]]
        near = [place for place in np.flatnonzero(sign * gain >= sign * bound) if sign * gain[place] > 0][:MOST_TIES]
        near.sort(key=lambda place: (-sign * gain[place], crc32(str(pairs.ids[place]).encode("utf-8", "replace"))))
        keys = [((str(pairs.ids[place]), int(pairs.epochs[place])), float(gain[place])) for place in near]
        chosen += [(key, size) for key, size in keys if (one.metric.suite, *key) not in seen][:EACH]
    return chosen


def _with_texts(one: Measured, chosen: Sequence[tuple[tuple[str, int], float]], runs: tuple[Chosen, Chosen]) -> list[Change]:
    if not chosen:
        return []
    keys = [key for key, _ in chosen]
    ours, theirs = (transcripts_at(run.store, run.run.run_id, one.metric.suite, one.pairs.scorer, keys) for run in runs)
    return [Change(metric=one.metric.key, scorer=one.pairs.scorer, gain=gain, baseline=ours[key], candidate=theirs[key]) for key, gain in chosen]
