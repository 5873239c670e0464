"""What a reward's scores are worth on pairs it was not trained on: accuracy, calibration, accuracy by margin, and its taste for length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from auditor.stats.calibration import ece_interval
from auditor.stats.intervals import Estimate, mean_interval, proportion_interval
from auditor.training.core.pairs import EncodedPair


def measure_scores(pairs: Sequence[EncodedPair], scores_P2: np.ndarray) -> dict[str, Any]:
    """Measurements of scores (P, 2) of chosen and rejected; each an object with value, low, high and n, or None where it is not defined.

    ``accuracy`` (a tie counts half), ``ece`` of σ(r_w − r_l) as the probability that chosen is better, ``accuracy_by_margin`` in thirds of the
    predicted gap's size (``accuracy_by_gold_margin``: of the pairs' own margins, where these differ), ``accuracy_chosen_longer`` and
    ``accuracy_chosen_shorter`` (a reward that only counts words has 1 and 0), ``prefers_longer`` (how often the longer reply has the higher
    score) beside ``gold_prefers_longer``. Pairs labelled 0.5 are left out.
    """
    decided = [index for index, pair in enumerate(pairs) if pair.label != 0.5]
    if not decided:
        return {"accuracy": None, "n": 0}
    kept = [pairs[index] for index in decided]
    sign = np.array([1.0 if pair.label > 0.5 else -1.0 for pair in kept])
    gap = (scores_P2[decided, 0] - scores_P2[decided, 1]) * sign
    longer = np.array([len(pair.chosen.completion) - len(pair.rejected.completion) for pair in kept]) * sign
    clusters = np.array([pair.cluster for pair in kept])
    right = np.where(gap == 0, 0.5, (gap > 0).astype(float))
    measured: dict[str, Any] = {"n": len(kept), "accuracy": proportion(right, clusters)}
    measured["accuracy_by_margin"] = _in_thirds(np.abs(gap), right, clusters)
    margins = np.array([pair.margin for pair in kept])
    if np.ptp(margins) > 0:
        measured["accuracy_by_gold_margin"] = _in_thirds(margins, right, clusters)
    # The probability given to the side that was preferred, against certainty, tells nothing; each pair is shown the way its scores lean.
    confidence, hit = 1 / (1 + np.exp(-np.abs(gap))), right
    measured["ece"] = stated(ece_interval(confidence, hit, clusters))
    for name, part in (("accuracy_chosen_longer", longer > 0), ("accuracy_chosen_shorter", longer < 0)):
        measured[name] = proportion(right[part], clusters[part])
    apart = longer != 0
    measured["prefers_longer"] = proportion((gap[apart] * longer[apart] > 0).astype(float), clusters[apart])
    measured["gold_prefers_longer"] = proportion((longer[apart] > 0).astype(float), clusters[apart])
    return measured


def _in_thirds(sizes: np.ndarray, right: np.ndarray, clusters: np.ndarray) -> list[dict[str, Any] | None]:
    """Accuracy in thirds of the pairs by size, smallest first."""
    return [proportion(right[part], clusters[part]) for part in np.array_split(np.argsort(sizes, kind="stable"), 3)]


def above_chance(measured: Any) -> bool:
    """Whether the interval of ``accuracy`` lies above one half, on pairs that were not trained on."""
    if measured and measured.get("seen_in_training"):
        return False
    accuracy = measured.get("accuracy") if measured else None
    return bool(accuracy and accuracy["low"] is not None and accuracy["low"] > 0.5)


def proportion(values: np.ndarray, clusters: np.ndarray) -> dict[str, Any] | None:
    """Mean of values in [0, 1] with its interval over clusters, or None where there are none."""
    if not len(values):
        return None
    if np.isin(values, (0.0, 1.0)).all():
        return stated(proportion_interval(values, clusters))
    return stated(mean_interval(values, clusters, (0.0, 1.0)))


def stated(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate as plain data: value, low, high (None without an interval) and n."""
    if estimate is None:
        return None
    ci = estimate.ci
    return {"value": estimate.value, "low": ci.low if ci else None, "high": ci.high if ci else None, "n": estimate.n}
