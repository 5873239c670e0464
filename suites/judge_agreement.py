"""May this judge be trusted in place of people? The audited model compares pairs of answers that people have labelled.

Items: 240 short pairs in 60 clusters of 4, written for this project; the gold label is their authors'. For example:

    "Does Portugal share a land border with France?"   a: "Yes, in the north."   b: "No. Its only land neighbour is Spain."   gold: b

Each pair is asked in both orders; the verdict is read from the log-probabilities of the two letters (auditor.judges.pairwise). Any
human-labelled file takes the items' place by ``--items judge_agreement=FILE`` (formats: auditor.judges.formats). Judges whose verdicts
are recorded in such a file are measured beside the model, as group ``judge:NAME``; a ``recorded:`` model without replies of its own
speaks through the file's only recorded judge.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

import numpy as np

from auditor.errors import InputError
from auditor.items import shipped
from auditor.judges.formats import load_pairs
from auditor.judges.measures import CODES, advantage, advantage_columns, alpha, columns, measure, recorded_judgment
from auditor.judges.pairwise import combine, option_mass, pairwise_requests
from auditor.schema import Context, Criterion, Generation, Judgment, Metric, Replies, Reply, Request, Sample, Score, Suite, SuiteData
from auditor.stats import Estimate, MetricBuilder, Resampling, alt_test, bootstrap_interval, cohen_kappa, length_bias_test

NAME = "judge_agreement"
MIN_GROUP = 10  # items a facet's value needs to get lines of its own
MIN_MASS = 0.5
MIN_CEILING = 0.70
EPSILON = 0.2  # what an expert annotator costs more than the judge, in the alternative-annotator test


def load(path: Path | None) -> list[Sample]:
    """The shipped pairs, or a user's file in any format that auditor.judges.formats reads."""
    if path is not None:
        return load_pairs(path)
    return [dataclasses.replace(sample, source="shipped") for sample in load_pairs(shipped(NAME))]


def solve(sample: Sample, context: Context) -> Generator[list[Request], list[Reply], None]:
    """One round: slot 0 shows answer a first, slot 1 answer b."""
    yield list(pairwise_requests(sample.messages, *sample.choices))


def score(sample: Sample, replies: Replies, context: Context) -> list[Score]:
    """Scores of the audited model on one pair; what would rest on no verdict has no value."""
    first, second = _generations(sample, replies)
    scores = measure(sample, judgment_of(sample, first, second), first.epoch)
    masses = [mass for mass in map(option_mass, (first, second)) if mass is not None]
    if masses:
        scores.append(Score(sample_id=sample.id, scorer="option_mass", value=sum(masses) / len(masses), epoch=first.epoch))
    return scores


def _generations(sample: Sample, replies: Replies) -> tuple[Generation, Generation]:
    first, second = replies[0]
    if not isinstance(first, Generation) or not isinstance(second, Generation):
        raise InputError(f"sample {sample.id!r}: {NAME} asks the audited model itself; its replies must be generations, not judgments")
    return first, second


def judgment_of(sample: Sample, first: Generation, second: Generation) -> Judgment:
    """The model's judgment; that of the only recorded judge where a ``recorded:`` model has no replies of its own."""
    judges = list(sample.metadata.get("judges", {}))
    if first.error and second.error and first.model.startswith("recorded:") and len(judges) == 1:
        return recorded_judgment(sample, judges[0])
    a, b = sample.choices
    return combine(a, b, first, second)


# -- all items ----------------------------------------------------------------------------------------------------------


def aggregate(data: SuiteData) -> list[Metric]:
    """The model's metrics, by facet too, then those of each judge whose verdicts the items record."""
    model = next((reply.model for replies in data.replies.values() for reply in replies[0] if isinstance(reply, Generation)), "")
    metrics = judge_metrics(data, data.scores, model, "all") + facet_metrics(data)
    for judge in sorted({name for sample in data.samples for name in sample.metadata.get("judges", {})}):
        scores = [score for sample in data.samples for score in measure(sample, recorded_judgment(sample, judge))]
        metrics += judge_metrics(data, scores, judge, f"judge:{judge}")
    return metrics


def judge_metrics(data: SuiteData, scores: Sequence[Score], judge: str, group: str) -> list[Metric]:
    """All metrics of one judge over all items."""
    derived = _derived(data.samples, scores, judge)
    votes = [f"vote_{k}" for k in range(most_raters(data.samples) + 1)]
    build = MetricBuilder(suite=NAME, samples=data.samples, scores=[*scores, *derived], seed=data.context.seed)
    flags = _item_flags(data.samples)
    metrics = [
        build.proportion("agreement", "agreement", group=group, higher_is_better=True, flags=flags),
        build.proportion("agreement_without_ties", "agreement_without_ties", group=group, higher_is_better=True),
        build.mean("one_order_agreement", "one_order_agreement", bounds=(0, 1), group=group, higher_is_better=True),
        build.statistic("cohen_kappa", ("judge", "human"), cohen_kappa, unit="kappa", bounds=(-1, 1), group=group, higher_is_better=True),
        build.statistic("krippendorff_alpha", votes, alpha, unit="alpha", bounds=(-1, 1), group=group, higher_is_better=True),
        build.proportion("order_consistency", "order_consistency", group=group, higher_is_better=True),
        build.mean("first_position_bias", "first_position_bias", bounds=(-0.5, 0.5), group=group, unit="probability"),
        _length_bias(build, group),
        build.proportion("share_unparseable", "unparseable", group=group, higher_is_better=False),
    ]
    metrics += [*_against_people(build, group), _self_preference(build, group), *_option_mass(build, group)]
    # What a file's people or authors do not allow is said once, in the model's own lines.
    return metrics if group == "all" else [metric for metric in metrics if metric.n + metric.n_unscored > 0]


def most_raters(samples: Iterable[Sample]) -> int:
    """The largest number of people who labelled one item."""
    return max((len(sample.metadata.get("humans", {})) for sample in samples), default=0)


def _derived(samples: Sequence[Sample], scores: Iterable[Score], judge: str) -> list[Score]:
    """The columns that the statistics join, as scores of the same samples and epochs; unscored where the judge gave no verdict."""
    by_id, most = {sample.id: sample for sample in samples}, most_raters(samples)
    derived = []
    for given in scores:
        if given.scorer == "preference":
            # Without a verdict only the columns' names matter: those of a decided one, so that each counts the item as unscored.
            values = columns(by_id[given.sample_id], 1.0 if given.value is None else given.value, judge, most)
            derived += [dataclasses.replace(given, scorer=name, value=None if given.value is None else value) for name, value in values.items()]
    return derived


def _against_people(build: MetricBuilder, group: str) -> list[Metric]:
    if most_raters(build.samples.values()) < 2:
        reason = "no item has the labels of two or more people"
        return [build.not_made(name, reason, group=group, higher_is_better=better) for name, better in
                (("human_ceiling", None), ("rater_agreement", True), ("alt_test_winning_rate", True), ("alt_test_advantage", True))]
    ceiling = build.mean("human_ceiling", "human_ceiling", bounds=(0, 1), group=group)
    if ceiling.value is not None and ceiling.value < MIN_CEILING:
        ceiling = _flagged(ceiling, f"people agree on less than {MIN_CEILING:.0%} of these items: the signal is too weak to train on")
    rater = build.mean("rater_agreement", "rater_agreement", bounds=(0, 1), group=group, higher_is_better=True)
    return [ceiling, rater, *_alternative_annotator(build, group)]


def _alternative_annotator(build: MetricBuilder, group: str) -> list[Metric]:
    """Winning rate ω and average advantage ρ. ω has no interval: it counts tests, each of which has allowed for chance."""
    rows = build.rows(("judge",))
    humans = [build.samples[sample_id].metadata.get("humans", {}) for sample_id, _ in rows.keys]
    names = sorted({name for given in humans for name in given})
    labels = np.array([[CODES[given[name]] if name in given else math.nan for given in humans] for name in names]).reshape(len(names), -1)
    result = alt_test(rows.columns[0], labels, rows.clusters, epsilon=EPSILON)
    if result is None:
        reason = "the alternative-annotator test needs three people with 30 judged items each that others labelled too"
        return [build.not_made(name, reason, group=group, higher_is_better=True) for name in ("alt_test_winning_rate", "alt_test_advantage")]
    told = "may stand in for an annotator (ω ≥ 0.5)" if result.passed else "may not stand in for an annotator (ω < 0.5)"
    flags = (f"{told}: {len(result.advantages)} annotators, ε = {EPSILON}",)
    estimate = bootstrap_interval(advantage_columns(rows.columns[0], labels), advantage, rows.clusters, Resampling(seed=build.seed))
    common = Metric(suite=NAME, name="", value=None, group=group, n=len(rows.keys), n_clusters=len(set(rows.clusters.tolist())),
                    n_unscored=rows.n_unscored, higher_is_better=True, flags=flags)
    return [dataclasses.replace(common, name="alt_test_winning_rate", value=result.winning_rate),
            dataclasses.replace(common, name="alt_test_advantage", value=result.advantage, unit="probability",
                                ci=estimate.ci if estimate else None)]


def _length_bias(build: MetricBuilder, group: str) -> Metric:
    rows = build.rows(("judge_longer", "human_longer"))
    found = length_bias_test(rows.columns[0], rows.columns[1], rows.clusters)
    estimate = None if found is None else Estimate(value=found.bias, ci=found.ci, n=found.n, n_clusters=found.n_clusters)
    reason = f"people's labels are all alike on {len(rows.keys)} pairs of unequal length, or these are a single cluster"
    metric = build.from_estimate("length_bias", estimate, rows.n_unscored, reason, unit="log-odds", group=group)
    return metric if found else dataclasses.replace(metric, n=len(rows.keys))


def _self_preference(build: MetricBuilder, group: str) -> Metric:
    if not build.rows(("self_preference",)).keys:
        reason = "no item says that one of its answers is by the judge's own model"
        return build.not_made("self_preference", reason, group=group, higher_is_better=False)
    return build.mean("self_preference", "self_preference", bounds=(-1, 1), group=group, unit="probability")


def _option_mass(build: MetricBuilder, group: str) -> list[Metric]:
    if group != "all":
        return []
    metric = build.mean("option_mass", "option_mass", bounds=(0, 1), unit="probability", higher_is_better=True)
    if metric.value is not None and metric.value < MIN_MASS:
        metric = _flagged(metric, f"the two letters hold less than {MIN_MASS:.0%} of the probability: the judge would say something else")
    return [metric]


def _flagged(metric: Metric, flag: str) -> Metric:
    return dataclasses.replace(metric, flags=(*metric.flags, flag))


def _item_flags(samples: Sequence[Sample]) -> list[str]:
    repeated = sum(sample.metadata.get("duplicates", 0) for sample in samples)
    unlabelled = sum(sample.target is None for sample in samples)
    authors = ["the gold labels are those of the items' authors"] if samples and samples[0].source == "shipped" else []
    flags = [f"{repeated} repeated rows were dropped"] * bool(repeated) + [f"{unlabelled} items have no human label"] * bool(unlabelled)
    return authors + flags


def facet_metrics(data: SuiteData) -> list[Metric]:
    """Agreement, order consistency and first-position bias by the items' facets (kind, topic, language, …) and by which answer is the longer.

    A facet counts if it has two or more values, and a value if it has MIN_GROUP items.
    """
    build = MetricBuilder(suite=NAME, samples=data.samples, scores=data.scores, seed=data.context.seed)
    counts = Counter(facet for sample in data.samples for facet in _facets(sample))
    values = Counter(name for name, _ in counts)
    metrics = []
    for facet in sorted(facet for facet, count in counts.items() if count >= MIN_GROUP and values[facet[0]] > 1):
        group, where = ":".join(facet), _has(facet)
        metrics += [build.proportion("agreement", "agreement", group=group, where=where, higher_is_better=True),
                    build.proportion("order_consistency", "order_consistency", group=group, where=where, higher_is_better=True),
                    build.mean("first_position_bias", "first_position_bias", group=group, where=where, bounds=(-0.5, 0.5), unit="probability")]
    return metrics


def _has(facet: tuple[str, str]) -> Callable[[Sample], bool]:
    return lambda sample: facet in _facets(sample)


def _facets(sample: Sample) -> list[tuple[str, str]]:
    facets = [(str(name), str(value)) for name, value in sample.metadata.get("group", {}).items()]
    a, b = map(len, sample.choices)
    if sample.target in ("a", "b") and a != b:
        facets.append(("better answer", "longer" if (a > b) == (sample.target == "a") else "shorter"))
    return facets


CRITERIA = (
    Criterion(metric=f"{NAME}.agreement", bound=0.70, direction="above", source="house default",
              rationale="A coin agrees with half of the labels. Below 0.70 more than three verdicts in ten are wrong on pairs that people "
                        "find plain, and what is built on the verdicts mostly measures the judge."),
    Criterion(metric=f"{NAME}.order_consistency", bound=0.70, direction="above", source="house default",
              rationale="If the verdict turns with the order of the answers in more than three pairs of ten, the place decides too often "
                        "to be averaged away."),
    Criterion(metric=f"{NAME}.first_position_bias", bound=0.10, direction="below", source="house default",
              rationale="A lean of 0.10 to the answer shown first is six verdicts in ten for that place on pairs without a difference."),
    Criterion(metric=f"{NAME}.first_position_bias", bound=-0.10, direction="above", source="house default",
              rationale="The same lean, to the answer shown last."),
    Criterion(metric=f"{NAME}.share_unparseable", bound=0.10, direction="below", source="house default",
              rationale="Pairs without a verdict are not missing at random: beyond one in ten the rest no longer stands for the whole."),
)

SUITE = Suite(
    name=NAME,
    version="1",
    title="Agreement of a judge with people",
    question="May this judge be trusted in place of people?",
    method="The model reads a request and two answers and names the better one. Each pair is asked in both orders; the verdict is read "
           "from the probabilities of the two letters, so that nothing is generated or parsed, and a preference for a place shows as a "
           "difference between the orders. Verdicts are compared with the labels of people: as a share of items (ties as a label of their "
           "own, and without ties), corrected for chance (Cohen's kappa, Krippendorff's alpha), and, where several people labelled an "
           "item, beside the agreement of people with one another and by the alternative-annotator test. A pair on which the judge gives "
           "no verdict is unscored, not wrong.",
    limits="The shipped pairs are short and plain, and their gold labels are their authors', so they say whether a judge is usable at all, "
           "not how good it is on hard cases or in your field: pass your own labelled pairs for that. Most are in English; German, French "
           "and Spanish have about ten each. A judge that gives many ties loses agreement on pairs that have none.",
    reference="Zheng et al. 2023 (arXiv 2306.05685) for position and length bias of judges; Lee et al. 2023 (arXiv 2309.00267) for the "
              "soft label; Calderon et al. 2025 (arXiv 2501.10970) for the alternative-annotator test",
    feedback_stage="reward: a judge's verdicts take the place of people's labels in it",
    load=load,
    solve=solve,
    score=score,
    aggregate=aggregate,
    criteria=CRITERIA,
    headline=("agreement", "cohen_kappa", "order_consistency", "first_position_bias"),
)
