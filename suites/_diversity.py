"""The measures and metrics of the diversity suite within a prompt: of this run, and against a baseline run.

Two models are compared on the same prompts with completions cut to the same lengths, since variety grows with length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditor.schema import Embedder, Generation, Metric, Score, SuiteData
from auditor.stats import MetricBuilder
from auditor.stats.collapse import answer_key, distinct_groups, loops, match_lengths
from auditor.stats.diversity import (
    compression_ratio,
    distinct_n,
    entropy,
    mean_pairwise_cosine,
    normalise_answer,
    repeated_share,
    self_bleu,
    vendi_score,
)

NAME = "diversity"
DRAWS = 4
MEANING_COSINE = 0.8  # on NoveltyBench's classes of outputs of ≤ 30 words: balanced accuracy .87, flat from .75 to .90
NO_BASELINE = "needs --baseline RUN: diversity is judged only against an earlier run"
NO_VALUES = "the baseline run has nothing to compare on these items"
SHARE = (0.0, 1.0)
LOW_MASS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measured quantity. ``bounds`` are its possible values; ``matched``: its change is taken at matched lengths."""

    name: str
    unit: str = "proportion"
    higher_is_better: bool | None = False
    bounds: tuple[float, float] | None = None
    embedded: bool = False
    matched: bool = False

    @property
    def change_bounds(self) -> tuple[float, float] | None:
        return None if self.bounds is None else (self.bounds[0] - self.bounds[1], self.bounds[1] - self.bounds[0])

    @property
    def change_unit(self) -> str:
        return "proportion difference" if self.unit == "proportion" else self.unit


MEASURES = (
    Measure(name="vendi", unit="answers", higher_is_better=True, bounds=(1.0, DRAWS), embedded=True, matched=True),
    Measure(name="distinct_meanings", unit="answers", higher_is_better=True, bounds=(1.0, DRAWS), embedded=True, matched=True),
    Measure(name="distinct_answers", unit="answers", higher_is_better=True, bounds=(1.0, DRAWS)),
    Measure(name="answer_entropy", unit="nats", higher_is_better=True, bounds=(0.0, math.log(DRAWS))),
    Measure(name="cosine", unit="index", bounds=(-1.0, 1.0), embedded=True, matched=True),
    Measure(name="distinct_2", unit="ratio", higher_is_better=True, matched=True),
    Measure(name="self_bleu", unit="index", bounds=SHARE, matched=True),
    Measure(name="compression_ratio", unit="ratio", matched=True),
    Measure(name="empty_completions", bounds=SHARE),
    Measure(name="repetition", bounds=SHARE, matched=True),
    Measure(name="loops", bounds=SHARE, matched=True),
    Measure(name="greedy_repetition", bounds=SHARE, matched=True),
    Measure(name="greedy_loops", bounds=SHARE, matched=True),
    Measure(name="rare_share", higher_is_better=True, bounds=SHARE),
    Measure(name="right_entropy", unit="nats", higher_is_better=True),
    Measure(name="right_mass", higher_is_better=None, bounds=SHARE),
    Measure(name="coverage", higher_is_better=True, bounds=SHARE),
    Measure(name="rare_logprob", unit="nats", higher_is_better=True),
    Measure(name="rare_gap", unit="nats"),
    Measure(name="human_loss_common", unit="nats/word"),
    Measure(name="human_loss_mid", unit="nats/word"),
    Measure(name="human_loss_rare", unit="nats/word"),
    Measure(name="human_gap", unit="nats/word"),
)

# -- one item -----------------------------------------------------------------------------------------------------------


def set_values(texts: Sequence[str], embed: Embedder | None, short: bool) -> dict[str, float | None]:
    """Each measure of a set of completions to one prompt; all None where one is empty. ``short``: they name something."""
    whole = all(normalise_answer(text) for text in texts)
    values: dict[str, float | None] = dict.fromkeys(("distinct_2", "self_bleu", "compression_ratio"))
    if whole:
        values |= {"distinct_2": distinct_n(texts, 2), "self_bleu": self_bleu(texts), "compression_ratio": compression_ratio(texts)}
    if short:
        keys = [answer_key(text) for text in texts]
        values |= {"distinct_answers": float(len(set(keys))) if all(keys) else None, "answer_entropy": entropy(keys) if all(keys) else None}
    if embed is not None:
        values |= _embedded_values(texts, embed) if whole else dict.fromkeys(("vendi", "cosine", "distinct_meanings"))
    return {name: None if value is None or not math.isfinite(value) else float(value) for name, value in values.items()}


def _embedded_values(texts: Sequence[str], embed: Embedder) -> dict[str, float | None]:
    rows_KD = np.asarray(embed(texts), dtype=float)
    return {"vendi": _inside(vendi_score(rows_KD), 1, len(texts)), "cosine": _inside(mean_pairwise_cosine(rows_KD), -1, 1),
            "distinct_meanings": float(distinct_groups(rows_KD, MEANING_COSINE))}


def _inside(value: float | None, low: float, high: float) -> float | None:
    """Rounding may step over the ends of what is possible."""
    return None if value is None else min(max(value, low), high)


def repetition_values(text: str) -> dict[str, float | None]:
    """Share of repeated four-word runs, and whether the text loops; None for both below four words and punctuation marks."""
    repeated = repeated_share(text, 4)
    return {"repetition": repeated, "loops": None if repeated is None else float(loops(text))}


# -- metrics ------------------------------------------------------------------------------------------------------------


def levels(data: SuiteData, no_embedder: str) -> list[Metric]:
    """Every measure of this run. ``no_embedder``: why there are no embeddings, or ""."""
    builder = builder_of(data, data.scores)
    return [not_made(builder, measure, no_embedder) if measure.embedded and no_embedder else _level(builder, measure)
            for measure in MEASURES]


def _level(builder: MetricBuilder, measure: Measure) -> Metric:
    if measure.name.endswith("loops"):
        return builder.proportion(measure.name, measure.name, higher_is_better=False)
    flags = _mass_flag(builder) if measure.name in ("rare_share", "right_entropy") else ()
    return builder.mean(measure.name, measure.name, unit=measure.unit, bounds=measure.bounds, higher_is_better=measure.higher_is_better,
                        flags=flags)


def _mass_flag(builder: MetricBuilder) -> tuple[str, ...]:
    """Shares among the listed answers say little where the model would rather say something else."""
    masses = builder.rows(("right_mass",)).columns[0]
    low = len(masses) > 0 and masses.mean() < LOW_MASS
    return (f"the listed right answers hold {masses.mean():.1%} of the probability",) if low else ()


def changes(data: SuiteData, no_embedder: str) -> list[Metric]:
    """The change of every measure against the baseline run, paired by item; not made without one."""
    builder, baseline = builder_of(data, data.scores), data.context.baseline
    if baseline is None:
        return [not_made(builder, measure, NO_BASELINE, "_change") for measure in MEASURES]
    candidate, reference = matched_scores(data)
    matched = builder_of(data, candidate)
    metrics = []
    for measure in MEASURES:
        if measure.embedded and no_embedder:
            metrics.append(not_made(builder, measure, no_embedder, "_change"))
            continue
        source, against = (matched, reference) if measure.matched else (builder, baseline.scores)
        metric = source.paired_difference(f"{measure.name}_change", measure.name, against, unit=measure.change_unit,
                                          bounds=measure.change_bounds, higher_is_better=measure.higher_is_better)
        metrics.append(replace(metric, reason=NO_VALUES) if metric.value is None and not metric.n_unscored else metric)
    return metrics


def builder_of(data: SuiteData, scores: Sequence[Score]) -> MetricBuilder:
    return MetricBuilder(suite=NAME, samples=data.samples, scores=scores, seed=data.context.seed)


def not_made(builder: MetricBuilder, measure: Measure, reason: str, suffix: str = "") -> Metric:
    unit = measure.change_unit if suffix else measure.unit
    return builder.not_made(measure.name + suffix, reason, unit=unit, higher_is_better=measure.higher_is_better)


def matched_scores(data: SuiteData) -> tuple[list[Score], list[Score]]:
    """Scores of this run's and of the baseline's completions after both were cut to the same lengths, item by item.

    Items that lack a completion on either side are left out.
    """
    baseline, samples = data.context.baseline, {sample.id: sample for sample in data.samples}
    candidate: list[Score] = []
    reference: list[Score] = []
    for (sample_id, epoch), turns in data.replies.items():
        task = samples[sample_id].metadata["task"]
        if baseline is None or task not in ("open", "repetition"):
            continue
        given = [reply.text for reply in turns[0] if isinstance(reply, Generation) and reply.error is None]
        earlier = [text for slot in range(len(turns[0])) if (text := baseline.texts.get((sample_id, epoch, 0, slot))) is not None]
        if not len(given) == len(earlier) == len(turns[0]):
            continue
        for scores, texts in zip((candidate, reference), _cut(task, given, earlier), strict=True):
            values = _matched_values(task, texts, data.context.embed)
            scores += [Score(sample_id=sample_id, epoch=epoch, scorer=name, value=value,
                             status="unparseable" if value is None else "scored") for name, value in values.items()]
    return candidate, reference


def _cut(task: str, given: Sequence[str], earlier: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sets of draws are matched by rank; the sampled and the greedy text each with its counterpart."""
    if task == "open":
        return match_lengths(given, earlier)
    cut = [match_lengths([one], [other]) for one, other in zip(given, earlier, strict=True)]
    return [one for (one,), _ in cut], [other for _, (other,) in cut]


def _matched_values(task: str, texts: Sequence[str], embed: Embedder | None) -> dict[str, float | None]:
    if task == "open":
        return set_values(texts, embed, short=False)
    sampled, greedy = (repetition_values(text) for text in texts)
    return sampled | {f"greedy_{name}": value for name, value in greedy.items()}
