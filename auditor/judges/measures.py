"""What one judgment on one labelled pair says about the judge: scores, and the columns that the suite's statistics are made of.

Shapes: N items, R resamples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from auditor.judges.labels import Label, read_verdict
from auditor.judges.pairwise import TIE_BAND, judgment
from auditor.schema import Judgment, JudgmentStatus, Sample, Score, ScoreStatus
from auditor.stats import krippendorff_alpha
from auditor.stats.agreement import pairwise_agreement
from auditor.stats.annotator_test import MIN_ITEMS

CODES: Mapping[str, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}
GAP = -1.0  # in the column of a rater who did not label the item


def label_of(preference: float) -> Label:
    """The judge's word from its soft label for a; opposite verdicts that balance are a tie too."""
    return "tie" if abs(preference - 0.5) <= TIE_BAND else _side(preference)


def _side(p: float) -> Label:
    return "a" if p > 0.5 else "b" if p < 0.5 else "tie"


def recorded_judgment(sample: Sample, judge: str) -> Judgment:
    """The judgment that the item records for ``judge``: status ``error`` where it records none."""
    orders = sample.metadata.get("judges", {}).get(judge)
    a, b = sample.choices
    if not orders:
        return Judgment(a=a, b=b, status="error", explanation="no recorded verdict")
    ab, ba = (read_verdict(orders[order]) if order in orders else _absent() for order in ("ab", "ba"))
    return judgment(a, b, ab, ba)


def _absent() -> tuple[None, JudgmentStatus]:
    return None, "error"


def measure(sample: Sample, given: Judgment, epoch: int = 0) -> list[Score]:
    """Scores of one judgment.

    ``preference``: probability that a is better. ``agreement``: whether the verdict is the human label, a tie being a label of its own
    (none for an unlabelled item). ``one_order_agreement``: mean over the orders of whether the verdict in that order alone is the
    human label. ``order_consistency``: whether both orders give the same verdict. ``first_position_bias``: probability of
    preferring the answer shown first, less one half. ``unparseable``: whether an order has no verdict (refused, off the schema).
    """
    values = dict.fromkeys(("preference", "order_consistency", "first_position_bias"))
    if sample.target is not None:
        values |= dict.fromkeys(("agreement", "one_order_agreement"))
    if given.ab is not None and given.ba is not None:
        values = {name: _value(name, sample, given.ab, given.ba) for name in values}
    scores = [_score(sample, epoch, name, value, given) for name, value in values.items()]
    lost = None if given.status == "error" else float(given.status in ("unparseable", "refused"))
    return [*scores, _score(sample, epoch, "unparseable", lost, given)]


def _value(name: str, sample: Sample, ab: float, ba: float) -> float:
    if name == "preference":
        return (ab + ba) / 2
    if name == "order_consistency":
        return float(_side(ab) == _side(ba))
    if name == "first_position_bias":
        return (ab + 1 - ba) / 2 - 0.5
    if name == "agreement":
        return float(label_of((ab + ba) / 2) == sample.target)
    return (float(_side(ab) == sample.target) + float(_side(ba) == sample.target)) / 2


def _score(sample: Sample, epoch: int, scorer: str, value: float | None, given: Judgment) -> Score:
    told = "" if given.ab is None or given.ba is None else f"P(a is better): {given.ab:.3f} with a first, {given.ba:.3f} with b first"
    status: ScoreStatus = given.status if given.status in ("refused", "unparseable") else "error"
    explanation = "; ".join(part for part in (told, given.explanation) if part)
    answer = "" if given.prefers_a is None else label_of(given.prefers_a)
    return Score(sample_id=sample.id, scorer=scorer, value=value, epoch=epoch, answer=answer,
                 explanation=explanation, status="scored" if value is not None else status)


def columns(sample: Sample, preference: float, judge: str, most_raters: int) -> dict[str, float]:
    """Further numbers of one item on which the judge gave a verdict; those that do not exist for it are left out.

    ``judge``, ``human``: verdict and majority label as 1 (a), 0.5 (tie), 0 (b). ``agreement_without_ties``: where neither is a tie.
    ``human_ceiling``, ``rater_agreement``: share of pairs of people who agree, and of people with whom the judge agrees, where two or
    more labelled the item. ``vote_0``, …: the labels of the judge and up to ``most_raters`` people, GAP beyond. ``judge_longer``,
    ``human_longer``: their preference for the longer answer. ``self_preference``: judge's less people's preference for the answer by
    the judge's own model, where one of the two is.
    """
    label = label_of(preference)
    raters: list[Label] = list(sample.metadata.get("humans", {}).values())
    values = {"judge": CODES[label]}
    if sample.target is not None:
        values["human"] = CODES[sample.target]
        if "tie" not in (label, sample.target):
            values["agreement_without_ties"] = float(label == sample.target)
    if raters:
        votes = [CODES[given] for given in (label, *raters)]
        values |= {f"vote_{k}": votes[k] if k < len(votes) else GAP for k in range(most_raters + 1)}
    if len(raters) > 1:
        values["human_ceiling"] = float(pairwise_agreement([[CODES[rater]] for rater in raters])[0])
        values["rater_agreement"] = sum(rater == label for rater in raters) / len(raters)
    return {**values, **_of_the_longer(sample, label), **_of_its_own(sample, preference, judge)}


def _of_the_longer(sample: Sample, label: Label) -> dict[str, float]:
    a, b = map(len, sample.choices)
    if a == b or sample.target is None:
        return {}
    judge, human = CODES[label], CODES[sample.target]
    return {"judge_longer": judge if a > b else 1 - judge, "human_longer": human if a > b else 1 - human}


def _of_its_own(sample: Sample, preference: float, judge: str) -> dict[str, float]:
    own = own_answer(sample, judge)
    if own is None or sample.target is None:
        return {}
    difference = preference - CODES[sample.target]
    return {"self_preference": difference if own == "a" else -difference}


def alpha(votes: tuple[np.ndarray, ...], weights_RN: np.ndarray) -> np.ndarray:
    """Nominal Krippendorff's α, (R,), of the columns ``vote_0``, …: GAP is no label, and who gave a label does not matter to it."""
    return krippendorff_alpha("nominal")(tuple(np.where(vote == GAP, np.nan, vote) for vote in votes), weights_RN)


def advantage_columns(judge_N: np.ndarray, humans_KN: np.ndarray) -> tuple[np.ndarray, ...]:
    """Two columns (N,) for each annotator with MIN_ITEMS shared items, for :func:`advantage`: whether the annotator and another person
    labelled the item, and whether the judge then agrees with at least as many of the others as the annotator does. Gaps are NaN."""
    columns: list[np.ndarray] = []
    for j, own_N in enumerate(humans_KN):
        others = np.delete(humans_KN, j, axis=0)
        seen_N = ~np.isnan(own_N) & (~np.isnan(others)).any(0)
        if seen_N.sum() >= MIN_ITEMS:
            wins_N = (others == judge_N).sum(0) >= (others == own_N).sum(0)
            columns += [seen_N.astype(float), (seen_N & wins_N).astype(float)]
    return tuple(columns)


def advantage(columns: tuple[np.ndarray, ...], weights_RN: np.ndarray) -> np.ndarray:
    """Average advantage probability ρ, (R,) (Calderon et al. 2025, arXiv 2501.10970, section 3): mean over annotators of their share of wins."""
    with np.errstate(invalid="ignore"):
        return np.mean([(weights_RN @ wins_N) / (weights_RN @ seen_N) for seen_N, wins_N in zip(columns[::2], columns[1::2], strict=True)], axis=0)


def own_answer(sample: Sample, judge: str) -> Label | None:
    """Which answer, if exactly one, comes from the judge's own model."""
    authors = sample.metadata.get("authors", {})
    own: list[Label] = [side for side in ("a", "b") if same_model(judge, str(authors.get(side, "")))]
    return own[0] if len(own) == 1 else None


def same_model(judge: str, author: str) -> bool:
    """Whether two names mean one model: equal but for case and punctuation, wholly or in one part of the judge's path (``hf:org/name``)."""
    plain = _plain(author)
    return bool(plain) and plain in {_plain(judge), *map(_plain, re.split(r"[/:]", judge))}


def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "", name.lower())
