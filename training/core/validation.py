"""Who labels, and may it? A labeller's accuracy on gold pairs that it was not trained on, and the refusal of one at chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from auditor.errors import InputError
from auditor.judges.pairwise import TIE_BAND
from auditor.schema import ModelSpec, Preference
from auditor.training.core.asking import Labeller, gold_comparison
from auditor.training.core.constitution import Principle
from auditor.training.core.held_out import above_chance, proportion
from auditor.training.core.noncontextual import measure_context, questions
from auditor.training.core.overlap import all_whole, known_whole, shared, sketches_of
from auditor.training.data import data_hash, split


def split_gold(gold: Sequence[Preference], share: float, seed: int, spec: ModelSpec) -> tuple[list[Preference], list[Preference]]:
    """(rest, held out) of gold pairs. For a labeller whose lineage says how its own pairs were split, the split is that one.

    With one seed the topics held out at a smaller share are among those held out at a larger one, so the smaller share of the two is taken.
    """
    lineage = spec.lineage
    if lineage.get("method") == "labeller":
        share, seed = min(share, float(lineage["config"]["held_out"])), int(lineage["seed"])
    return split(gold, share, seed)


def unseen(gold: Sequence[Preference], held: Sequence[Preference], spec: ModelSpec, *, listed: bool = True) -> tuple[list[Preference], dict[str, Any]]:
    """The pairs ``held`` out of ``gold`` on which a model may be measured, and what is added to the measurement where it learned from some.

    The lineage's sketches tell single pairs, also of a part of the set or from another file: those and all of their
    topics are left out and counted (``left_out_as_seen``).
    ``seen_in_training``, which makes an accuracy worth nothing, is added where none would be left, or where what is known of the set that taught it is a
    sample. So it is, unless not ``listed``, where the lineage names the very set ``gold`` and not all that was learned of it (a large set, a lineage from
    before there were sketches): only a labeller is then taken to have left its held-out topics alone, and only one whose body did not learn from pairs before.
    """
    sketches = sketches_of(spec.lineage)
    known, whole = shared([*gold, *held], sketches)
    ids, topics = {item.id for item in known}, {item.cluster_id for item in known}
    left = [item for item in held if item.id not in ids and item.cluster_id not in topics]
    told = {"left_out_as_seen": len(held) - len(left)} if len(left) < len(held) else {}
    if (told and not (left and whole)) or (listed and _listed(data_hash(gold), spec.lineage, sketches)):
        return list(held), {"seen_in_training": True}
    return left, told


def _listed(digest: str, lineage: Mapping[str, Any], sketches: Sequence[Mapping[str, Any]]) -> bool:
    if digest not in lineage.get("data_hashes", {}).values() or (known_whole(digest, sketches) and all_whole(sketches)):
        return False
    before = lineage.get("history", [])[:-1]
    return lineage.get("method") != "labeller" or bool({"dpo", "labeller", "ppo"} & set(before))


def measure_comparisons(labeller: Labeller, gold: Sequence[Preference], principles: Sequence[Principle] = (), seed: int = 0) -> dict[str, Any]:
    """How well both orders together find the better answer of ``gold`` pairs; every number an object with value, low, high and n, or None.

    ``accuracy``: soft label ½·[P(better | shown first) + P(better | shown second)] above one half; within TIE_BAND of it counts half.
    ``position_bias``: mean of |P(a | a first) − P(a | b first)|. ``prefers_first``: mean probability given to the place shown first, .5 without
    bias; both None where answers are rated one by one, in no order. ``by_kind``: accuracy by the pairs' metadata ``kind``. ``unscored`` pairs
    had no verdict in some order; ``not_asked`` ones are undecided, or no principle speaks to them.
    """
    asked = [(item, comparison) for item in gold if (comparison := gold_comparison(item, principles, seed)) is not None]
    opinions = labeller.compare([comparison for _, comparison in asked])
    judged = [(item, opinion.judgment) for (item, _), opinion in zip(asked, opinions, strict=True) if opinion.judgment.prefers_a is not None]
    soft = [float(judgment.prefers_a) for _, judgment in judged if judgment.prefers_a is not None]
    orders = np.array([[judgment.ab, judgment.ba] for _, judgment in judged], dtype=float).reshape(-1, 2)
    clusters, ordered = np.array([item.cluster_id for item, _ in judged]), labeller.manner.ask == "pairwise"
    return {**_accuracy([item for item, _ in judged], np.array([_hit(value - 0.5, TIE_BAND) for value in soft])),
            "position_bias": proportion(np.abs(orders[:, 0] - orders[:, 1]), clusters) if ordered else None,
            "prefers_first": proportion((orders[:, 0] + 1 - orders[:, 1]) / 2, clusters) if ordered else None,
            "unscored": len(asked) - len(judged), "not_asked": len(gold) - len(asked)}


def measure_ratings(labeller: Labeller, gold: Sequence[Preference]) -> dict[str, Any]:
    """How often the better answer of a ``gold`` pair has the higher expected rating (a tie counts half): as :func:`measure_comparisons`."""
    asked = [(item, comparison) for item in gold if (comparison := gold_comparison(item)) is not None]
    values = labeller.rate([pair for _, item in asked for pair in ((item.messages, item.a), (item.messages, item.b))])
    gaps = [(item, left - right) for (item, _), left, right in zip(asked, values[::2], values[1::2], strict=True) if left is not None and right is not None]
    return {**_accuracy([item for item, _ in gaps], np.array([_hit(gap) for _, gap in gaps])),
            "unscored": len(asked) - len(gaps), "not_asked": len(gold) - len(asked)}


def measure_rated_context(labeller: Labeller, gold: Sequence[Preference], seed: int) -> dict[str, Any]:
    """Do the labeller's ratings follow from the question? As :func:`auditor.training.core.noncontextual.measure_context`."""
    asked = questions(gold, seed)
    return measure_context(gold, asked, labeller.rate([(gold[index].prompt, text) for index, _, text in asked]))


def _hit(difference: float, band: float = 0.0) -> float:
    return 0.5 if abs(difference) <= band else float(difference > 0)


def _accuracy(items: Sequence[Preference], hits: np.ndarray) -> dict[str, Any]:
    clusters = np.array([item.cluster_id for item in items])
    kinds = np.array([str(item.metadata.get("kind", "")) for item in items])
    by_kind = {str(kind): proportion(hits[kinds == kind], clusters[kinds == kind]) for kind in sorted(set(kinds)) if kind}
    return {"n": len(items), "accuracy": proportion(hits, clusters), "by_kind": by_kind}


def shown(measured: Mapping[str, Any]) -> str:
    """An accuracy in words."""
    accuracy = measured.get("accuracy")
    if measured.get("seen_in_training"):
        return "not measured (its lineage lists the gold pairs among its training data: other gold pairs are needed)"
    if not accuracy:
        unscored = measured.get("unscored")
        return f"not measured ({unscored} held-out pairs without a verdict)" if unscored else "not measured (no held-out pair has a better side)"
    interval = f"{accuracy['low']:.3f} to {accuracy['high']:.3f}" if accuracy["low"] is not None else "no interval"
    return f"{accuracy['value']:.3f} ({interval}) on {accuracy['n']} held-out pairs"


def refuse_at_chance(measured: Mapping[str, Any], uri: str, place: str, allowed: bool) -> tuple[str, ...]:
    """Notes for the lineage on a labeller's right to label. Raises InputError where its accuracy is not above one half, unless ``allowed``."""
    told = f"labeller {uri}: accuracy {shown(measured)}"
    if above_chance(measured):
        return (told,)
    if not allowed:
        raise InputError(f"{place}: {told}, which is not above chance; fine-tune it first (method labeller), pass a better model, "
                         "or set allow_unvalidated_labeller = true, which the lineage records")
    return (f"NOT VALIDATED: {told}, which is not above chance; used because allow_unvalidated_labeller = true",)
