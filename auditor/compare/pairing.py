"""Which score stands behind a metric, and its values on the items that two runs share.

A metric can be compared by pairs where in each run it is the plain average of one score, over all items or over those of one kind (a task, a type, a
group: any field of their metadata). The score is found by the average itself, so no suite has to declare it.

Shapes: N pairs or samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from auditor.schema import Metric
from auditor.store.columns import ScoreColumn, SuiteScores

Where = tuple[str, str, str]  # (scorer, field, value): field "" is all samples, else those whose metadata say so
EPOCHS = 2**20  # more than any run has
FEW_KINDS = 4
NO_AVERAGE = "it is not the plain average of one score, so there is no difference by item"


@dataclass(frozen=True)
class SuiteRun:
    """One suite of a run, read once."""

    scores: SuiteScores

    @cached_property
    def averages(self) -> dict[Where, tuple[int, float]]:
        """(number of scored rows, their sum) of every scorer, over all samples and over those of each kind."""
        found: dict[Where, tuple[int, float]] = {}
        coded = {name: pd.factorize(values) for name, values in self.scores.facets.items()}
        for scorer, column in self.scores.scores.items():
            scored = np.isfinite(column.values)
            values, positions = column.values[scored], column.positions[scored]
            found[scorer, "", ""] = (len(values), math.fsum(values))
            for name, (codes_N, kinds) in coded.items():
                codes = codes_N[positions]
                counts, totals = np.bincount(codes, minlength=len(kinds)), np.bincount(codes, weights=values, minlength=len(kinds))
                found |= {(scorer, name, str(kind)): (int(n), float(total)) for kind, n, total in zip(kinds, counts, totals, strict=True) if kind and n}
        return found

    def rows(self, which: Where) -> tuple[ScoreColumn, np.ndarray]:
        """The scorer's column, and the mask of its rows that belong to the kind."""
        scorer, name, kind = which
        column = self.scores.scores[scorer]
        mask = self.scores.facets[name][column.positions] == kind if name else np.ones(len(column.values), dtype=bool)
        return column, mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Values of two runs on the same (sample, epoch), (N,) each; ``places`` are among the baseline's samples.

    ``unpaired``: how many were scored in one run only. ``drawn``: replies were drawn at random.
    """

    scorer: str
    places: np.ndarray
    ids: np.ndarray
    epochs: np.ndarray
    baseline: np.ndarray
    candidate: np.ndarray
    clusters: np.ndarray
    unpaired: int
    drawn: bool

    @property
    def n_changed(self) -> int:
        return int((self.candidate != self.baseline).sum())

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Least and greatest possible difference: of shares by their scale, else by the range of the values seen; None where none varies."""
        both = np.concatenate([self.baseline, self.candidate])
        low, high = float(both.min()), float(both.max())
        if low >= 0 and high <= 1:
            return (-1.0, 1.0)
        return (low - high, high - low) if high > low else None


def find_score(metric: str, group: str, metrics: Sequence[Metric], suites: Sequence[SuiteRun]) -> Where | str:
    """The score whose average is the metric's value in every run; a reason where there is none, or more than one.

    A metric of a group is looked for among the samples whose metadata name the group, any other among all samples and those of fields with few
    values. Of several with the same average that of the metric's own name counts, else the one that shares most words with it.
    """
    places = [suite.averages for suite in suites]
    fitting = [which for which in places[0] if _belongs(which, group, suites[0])
               and all(_is_average(one, place.get(which)) for one, place in zip(metrics, places, strict=True))]
    if not fitting:
        return NO_AVERAGE
    alike = {which: _likeness(metric, which) for which in fitting}
    chosen = [which for which in fitting if alike[which] == max(alike.values())]
    chosen.sort(key=lambda which: (which[1] != "", which[1] != "task"))
    first = [_values(suite, chosen[0]) for suite in suites]
    if not alike[chosen[0]] and all(np.ptp(values[2]) == 0 for values in first):
        return "all values of what could stand behind it are alike, so it is not known which score it averages"
    if all(_same(_values(suite, which), values) for which in chosen[1:] for suite, values in zip(suites, first, strict=True)):
        return chosen[0]
    return f"several scores have this average ({', '.join(sorted({' '.join(filter(None, which)) for which in chosen}))}): which one is meant is not known"


def _belongs(which: Where, group: str, suite: SuiteRun) -> bool:
    _, name, kind = which
    if group != "all":
        return group in (kind, f"{name}:{kind}")
    return not name or name == "task" or len(set(pd.unique(suite.scores.facets[name])) - {""}) <= FEW_KINDS


def _likeness(metric: str, which: Where) -> int:
    """How alike the names are: the words that the metric shares with score and kind; more than any number of them where the score has its name."""
    words = set(metric.split("_"))
    return 100 * (metric == which[0]) + len(words & set(which[0].split("_"))) + len(words & set(which[2].split("_")))


def _values(suite: SuiteRun, which: Where) -> tuple[np.ndarray, ...]:
    """(positions, epochs, values) of the scored rows."""
    column, mask = suite.rows(which)
    mask = mask & np.isfinite(column.values)
    return column.positions[mask], column.epochs[mask], column.values[mask]


def _same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(one, other, strict=True))


def _is_average(metric: Metric, found: tuple[int, float] | None) -> bool:
    if found is None or metric.value is None or not found[0] or found[0] != metric.n:
        return False
    return math.isclose(found[1] / found[0], metric.value, rel_tol=1e-9, abs_tol=1e-12)


def places_in(baseline: SuiteRun, other: SuiteRun) -> np.ndarray:
    """For each sample of ``other`` (N,) its place among the baseline's samples, −1 where it is not among them."""
    return pd.Index(baseline.scores.ids).get_indexer(pd.Index(other.scores.ids))


def keyed_values(suite: SuiteRun, which: Where, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(key, value) of the scored rows whose sample has a place; the key is of place and epoch."""
    column, mask = suite.rows(which)
    at = places[column.positions]
    mask = mask & np.isfinite(column.values) & (at >= 0)
    return at[mask].astype(np.int64) * EPOCHS + column.epochs[mask], column.values[mask]


def pair_up(which: Where, baseline: SuiteRun, candidate: SuiteRun, places: np.ndarray) -> Pairs:
    """The pairs of a score: the (sample, epoch) that both runs scored, in the baseline's order. ``places`` are the candidate's."""
    first, values = keyed_values(baseline, which, np.arange(len(baseline.scores.ids)))
    second, others = keyed_values(candidate, which, places)
    shared, one, two = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    at = shared // EPOCHS
    return Pairs(scorer=which[0], places=at, ids=baseline.scores.ids[at], epochs=shared % EPOCHS, baseline=values[one], candidate=others[two],
                 clusters=baseline.scores.clusters[at], unpaired=len(first) + len(second) - 2 * len(shared),
                 drawn=any(suite.scores.scores[which[0]].drawn for suite in (baseline, candidate)))
