"""A run's scores as arrays, for comparing runs of any size: no object is made for each score.

Shapes: N samples of a suite in their order, n scores of a scorer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auditor.store.queries import _SAME_REQUEST, _SAME_SAMPLE, Store
from auditor.store.records import Transcript, transcript_from_row

MOST_KINDS = 40
_SAMPLES = """
SELECT sample_id, cluster_id, metadata FROM sample
WHERE run_id = $run AND suite = $suite ORDER BY position
"""
_SCORES = """
SELECT s.scorer, p.position, s.epoch, CASE WHEN s.status = 'scored' THEN s.value END AS value, coalesce(t.temperature, 0) AS temperature
FROM score AS s
JOIN sample AS p ON p.run_id = $run AND p.suite = $suite AND p.sample_id = s.sample_id
LEFT JOIN (
    SELECT sample_id, epoch, max(CASE WHEN kind = 'generate' THEN CAST(sampling ->> '$.temperature' AS DOUBLE) END) AS temperature
    FROM generation WHERE run_id = $run AND suite = $suite AND role = 'model' GROUP BY ALL
) AS t ON t.sample_id = s.sample_id AND t.epoch = s.epoch
WHERE s.run_id = $run AND s.suite = $suite
ORDER BY s.scorer, p.position, s.epoch
"""
_ASKED = """
SELECT sample_id, epoch, md5(string_agg(concat_ws(chr(31), slot, kind, messages, options, sampling, seed), chr(30) ORDER BY slot)) AS asked
FROM generation WHERE run_id = $run AND suite = $suite AND role = 'model' AND turn = 0 GROUP BY ALL
"""
_FIRST = """
SELECT slot, kind, messages, options, sampling, CAST(seed AS VARCHAR) AS seed FROM generation
WHERE run_id = $run AND suite = $suite AND role = 'model' AND turn = 0 AND sample_id = $sample AND epoch = $epoch ORDER BY slot
"""
_AT = f"""
SELECT s.suite, s.sample_id, p.cluster_id, s.scorer, s.value, s.status, s.answer, s.explanation, s.epoch, s.turn, s.slot,
    coalesce(g.messages, p.messages) AS messages, g.text AS completion, g.reasoning, g.logprobs, g.judgment, g.model, g.finish_reason, g.error
FROM score AS s
JOIN sample AS p ON {_SAME_SAMPLE}
LEFT JOIN generation AS g ON {_SAME_REQUEST}
WHERE s.run_id = $run AND s.suite = $suite AND s.scorer = $scorer AND (s.sample_id, s.epoch) IN (SELECT (unnest($ids), unnest($epochs)))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreColumn:
    """One scorer's scores: the place of the sample (n,), epoch (n,), value (n,), NaN where unscored. ``drawn``: some reply was drawn at random."""

    positions: np.ndarray
    epochs: np.ndarray
    values: np.ndarray
    drawn: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteScores:
    """A suite's samples, (N,) each, and its scores by scorer.

    ``facets`` are the fields of the samples' metadata that divide them into few kinds, as text, "" where a sample has none.
    """

    ids: np.ndarray
    clusters: np.ndarray
    facets: Mapping[str, np.ndarray] = field(default_factory=dict)
    scores: Mapping[str, ScoreColumn] = field(default_factory=dict)


def suite_scores(store: Store, run_id: str, suite: str) -> SuiteScores:
    """All scores of a run on a suite; empty arrays where it has none."""
    key = {"run": run_id, "suite": suite}
    samples = _arrays(store, _SAMPLES, key)
    found = _arrays(store, _SCORES, key)
    value = np.ma.filled(found["value"].astype(float), np.nan)
    names, starts = np.unique(found["scorer"].astype(str), return_index=True)
    ends = np.append(starts[1:], len(value))[:len(starts)]
    scores = {str(name): ScoreColumn(positions=found["position"][start:end], epochs=found["epoch"][start:end], values=value[start:end],
                                     drawn=bool((found["temperature"][start:end] > 0).any()))
              for name, start, end in zip(names, starts, ends, strict=True)}
    return SuiteScores(ids=samples["sample_id"], clusters=samples["cluster_id"], facets=_facets(samples["metadata"]), scores=scores)


def _facets(metadata: np.ndarray) -> dict[str, np.ndarray]:
    """Fields with at most MOST_KINDS different texts or truth values; a mapping named ``group`` gives its own fields."""
    rows = [json.loads(text) for text in metadata]
    rows = [row | row["group"] if isinstance(row.get("group"), dict) else row for row in rows]
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [str(value) if isinstance(value := row.get(name), str | bool) else "" for row in rows]
        if len(set(values) - {""}) in range(1, MOST_KINDS + 1):
            found[name] = np.array(values, dtype=object)
    return found


def asked(store: Store, run_id: str, suite: str) -> dict[tuple[str, int], str]:
    """(sample_id, epoch) -> a hash of what the model was first asked: prompts, options, sampling, seeds, and how often."""
    rows = _arrays(store, _ASKED, {"run": run_id, "suite": suite})
    return dict(zip(zip(rows["sample_id"].tolist(), rows["epoch"].tolist(), strict=True), rows["asked"].tolist(), strict=True))


def first_requests(store: Store, run_id: str, suite: str, key: tuple[str, int]) -> list[dict[str, Any]]:
    """The first requests of one (sample_id, epoch): slot, kind, messages, options, sampling (JSON texts) and seed."""
    found = _arrays(store, _FIRST, {"run": run_id, "suite": suite, "sample": key[0], "epoch": key[1]})
    return [dict(zip(found, row, strict=True)) for row in zip(*(column.tolist() for column in found.values()), strict=True)]


def transcripts_at(store: Store, run_id: str, suite: str, scorer: str, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Transcript]:
    """The transcripts of a scorer on these (sample_id, epoch); those without a score are left out."""
    rows = store._rows(_AT, {"run": run_id, "suite": suite, "scorer": scorer, "ids": [key[0] for key in keys], "epochs": [key[1] for key in keys]})
    return {(row["sample_id"], row["epoch"]): transcript_from_row(row) for row in rows}


def _arrays(store: Store, sql: str, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One array a column; text as objects."""
    with store._reading() as connection:
        return connection.execute(sql, dict(parameters)).fetchnumpy()
