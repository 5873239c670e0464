"""Do answers to different prompts grow alike? The diversity suite's metrics across prompts.

Each prompt that asks for a sentence or more gives its first sampled completion, cut to its first words. Likeness is a mean over pairs of
prompts from different clusters; measures of the whole set (distinct n-grams, compression, self-BLEU) have a jackknife interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from auditor.schema import Embedder, Generation, Metric, Sample, Score, SuiteData
from auditor.stats import MetricBuilder
from auditor.stats.bootstrap import Statistic
from auditor.stats.collapse import effective_number, jackknife_interval, pair_mean, words
from auditor.stats.diversity import compression_ratio, distinct_n, normalise_answer, self_bleu
from auditor.stats.intervals import Floats
from auditor.suites._diversity import NO_BASELINE, NO_VALUES, SHARE, Measure, builder_of, not_made

FIRST_WORDS = 16
OPENING_WORDS = 3
ACROSS = (
    Measure(name="across_cosine", unit="index", bounds=(-1.0, 1.0), embedded=True),
    Measure(name="across_vendi", unit="answers", higher_is_better=True, embedded=True),
    Measure(name="shared_opening", bounds=SHARE),
    Measure(name="across_distinct_2", unit="ratio", higher_is_better=True),
    Measure(name="across_self_bleu", unit="index"),
    Measure(name="across_compression_ratio", unit="ratio"),
)
OF_SETS: dict[str, Callable[[Sequence[str]], float | None]] = {
    "across_distinct_2": lambda texts: distinct_n(texts, 2), "across_self_bleu": self_bleu, "across_compression_ratio": compression_ratio}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Prompts and their texts: one side (this run), or two (this run, the baseline) whose difference is taken."""

    samples: tuple[Sample, ...]
    sides: tuple[tuple[str, ...], ...]

    @property
    def clusters(self) -> list[str]:
        return [sample.cluster_id for sample in self.samples]


def convergence(data: SuiteData, no_embedder: str) -> list[Metric]:
    """The levels of this run and, after them, the changes against the baseline."""
    own, both = _collect(data)
    reason = NO_BASELINE if data.context.baseline is None else NO_VALUES
    return (_metrics(data, own, "", no_embedder, "no completions to compare")
            + _metrics(data, both, "_change", no_embedder, reason))


def _collect(data: SuiteData) -> tuple[Rows, Rows]:
    """The rows of this run, and those that the baseline has too, there both texts cut to the shorter."""
    baseline = data.context.baseline
    own: list[tuple[Sample, str]] = []
    both: list[tuple[Sample, str, str]] = []
    for sample in data.samples:
        free = sample.metadata["task"] == "repetition" or sample.metadata.get("form") == "sentence"
        reply = data.replies[sample.id, 0][0][0] if free and (sample.id, 0) in data.replies else None
        if not isinstance(reply, Generation) or reply.error is not None or not normalise_answer(reply.text):
            continue
        own.append((sample, _first(reply.text, FIRST_WORDS)))
        earlier = baseline.texts.get((sample.id, 0, 0, 0), "") if baseline else ""
        if normalise_answer(earlier):
            keep = min(FIRST_WORDS, len(reply.text.split()), len(earlier.split()))
            both.append((sample, _first(reply.text, keep), _first(earlier, keep)))
    return (Rows(samples=tuple(row[0] for row in own), sides=(tuple(row[1] for row in own),)),
            Rows(samples=tuple(row[0] for row in both), sides=(tuple(row[1] for row in both), tuple(row[2] for row in both))))


def _first(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def _metrics(data: SuiteData, rows: Rows, suffix: str, no_embedder: str, none_reason: str) -> list[Metric]:
    builder = builder_of(data, [Score(sample_id=sample.id, scorer="row", value=float(i)) for i, sample in enumerate(rows.samples)])
    metrics = []
    for measure in ACROSS:
        reason = none_reason if not rows.samples else no_embedder if measure.embedded else ""
        if reason:
            metrics.append(not_made(builder, measure, reason, suffix))
        elif measure.name in OF_SETS:
            metrics.append(_of_set(measure, rows, suffix))
        else:
            metrics.append(_of_pairs(builder, measure, rows, suffix, data.context.embed))
    return metrics


def _of_pairs(builder: MetricBuilder, measure: Measure, rows: Rows, suffix: str, embed: Embedder | None) -> Metric:
    unit, bounds = (measure.change_unit, measure.change_bounds) if suffix else (measure.unit, measure.bounds)
    return builder.statistic(measure.name + suffix, ("row",), _statistic(measure.name, rows, embed), unit=unit, bounds=bounds,
                             higher_is_better=measure.higher_is_better)


def _statistic(name: str, rows: Rows, embed: Embedder | None) -> Statistic:
    """The statistic of the one side, or of the difference first − second."""
    if name == "shared_opening" or embed is None:
        kernels = [_same_opening(side) for side in rows.sides]
    else:
        kernels = [_cosines(embed, side) for side in rows.sides]
    parts = [(effective_number if name == "across_vendi" else pair_mean)(kernel, rows.clusters) for kernel in kernels]
    if len(parts) == 1:
        return parts[0]

    def difference(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
        return parts[0](columns, weights_RN) - parts[1](columns, weights_RN)

    return difference


def _same_opening(texts: Sequence[str]) -> Floats:
    openings = [tuple(words(text)[:OPENING_WORDS]) for text in texts]
    return np.array([[float(one == other) for other in openings] for one in openings])


def _cosines(embed: Embedder, texts: Sequence[str]) -> Floats:
    rows_ND = np.asarray(embed(texts), dtype=float)
    return np.clip(rows_ND @ rows_ND.T, -1.0, 1.0)


def _of_set(measure: Measure, rows: Rows, suffix: str) -> Metric:
    of_set = OF_SETS[measure.name]

    def signed(items: list[tuple[str, ...]]) -> float:
        values = [float("nan") if (value := of_set(side)) is None else value for side in zip(*items, strict=True)]
        return values[0] - values[1] if len(values) == 2 else values[0]

    estimate = jackknife_interval(list(zip(*rows.sides, strict=True)), signed, rows.clusters)
    flags: tuple[str, ...] = (estimate.flag,) if estimate and estimate.flag else ()
    return Metric(suite="diversity", name=measure.name + suffix, value=estimate.value if estimate else None, ci=estimate.ci if estimate else None,
                  n=len(rows.samples), n_clusters=len(set(rows.clusters)), unit=measure.change_unit if suffix else measure.unit,
                  higher_is_better=measure.higher_is_better, flags=flags,
                  reason="" if estimate else f"{measure.name}: not defined on these completions")
