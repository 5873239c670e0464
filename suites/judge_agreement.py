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
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from auditor.errors import InputError
from auditor.items import shipped
from auditor.judges.formats import load_pairs
from auditor.judges.measures import columns, measure, recorded_judgment
from auditor.judges.pairwise import combine, option_mass, pairwise_requests
from auditor.schema import Context, Criterion, Generation, Judgment, Metric, Replies, Reply, Request, Sample, Score, Suite, SuiteData
from auditor.stats import MetricBuilder

NAME = "judge_agreement"
MIN_GROUP = 10  # items a facet's value needs to get lines of its own
MIN_MASS = 0.5
MIN_CEILING = 0.70


def load(path: Path | None) -> list[Sample]:
    """The shipped pairs, or a user's file in any format that auditor.judges.formats reads."""
    return load_pairs(path or shipped(NAME))


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
    return combine(*sample.choices, first, second)


# -- all items ----------------------------------------------------------------------------------------------------------


def aggregate(data: SuiteData) -> list[Metric]:
    """The model's metrics, by facet too, then those of each judge whose verdicts the items record."""
    model = next((reply.model for replies in data.replies.values() for reply in replies[0] if isinstance(reply, Generation)), "")
    metrics = judge_metrics(data, data.scores, model, "all") + facet_metrics(data)
    for judge in sorted({name for sample in data.samples for name in sample.metadata.get("judges", {})}):
        scores = [score for sample in data.samples for score in measure(sample, recorded_judgment(sample, judge))]
        metrics += judge_metrics(data, scores, judge, f"judge:{judge}")
    return metrics
