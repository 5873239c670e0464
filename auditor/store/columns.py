"""A run's scores as arrays, for comparing runs of any size: no object is made for each score.

Shapes: N samples of a suite in their order, n scores of a scorer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from auditor.store.queries import _SAME_REQUEST, _SAME_SAMPLE, Store
from auditor.store.records import Transcript, transcript_from_row

MOST_KINDS = 40
_SAMPLES = "SELECT sample_id, cluster_id FROM sample WHERE run_id = $run AND suite = $suite ORDER BY position"
_FIELDS = "SELECT DISTINCT unnest(json_keys(metadata)) AS field FROM sample WHERE run_id = $run AND suite = $suite"
_GROUPS = "SELECT DISTINCT unnest(json_keys(metadata, '$.group')) AS field FROM sample WHERE run_id = $run AND suite = $suite"
_KINDS = """
SELECT CASE WHEN json_type(metadata, $path) IN ('VARCHAR', 'BOOLEAN') THEN json_extract_string(metadata, $path) END AS kind
FROM sample WHERE run_id = $run AND suite = $suite ORDER BY position
"""
_SAMPLING = "SELECT DISTINCT sampling FROM generation WHERE run_id = $run AND suite = $suite AND role = 'model' AND kind = 'generate'"
_SCORES = """
SELECT s.scorer, p.position, s.epoch, CASE WHEN s.status = 'scored' THEN s.value END AS value
FROM score AS s
JOIN sample AS p ON p.run_id = $run AND p.suite = $suite AND p.sample_id = s.sample_id
WHERE s.run_id = $run AND s.suite = $suite
ORDER BY s.scorer, p.position, s.epoch
"""
_DRAWN = """
SELECT DISTINCT s.scorer
FROM score AS s
JOIN generation AS g ON g.run_id = $run AND g.suite = $suite AND g.sample_id = s.sample_id AND g.epoch = s.epoch
WHERE s.run_id = $run AND s.suite = $suite AND g.role = 'model' AND g.kind = 'generate' AND CAST(g.sampling ->> '$.temperature' AS DOUBLE) > 0
"""
_ASKED = """
SELECT sample_id, epoch, bit_xor(hash(slot, kind, messages, options, sampling, seed)) AS asked
FROM generation WHERE run_id = $run AND suite = $suite AND role = 'model' AND turn = 0 GROUP BY ALL ORDER BY ALL
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
    """A suite's samples, (N,) each, and its scores by scorer; clusters as numbers in the order in which they come.

    ``facets`` are the fields of the samples' metadata that divide them into few kinds, as text, "" where a sample has none.
    """

    ids: np.ndarray
    clusters: np.ndarray
    facets: Mapping[str, np.ndarray] = field(default_factory=dict)
    scores: Mapping[str, ScoreColumn] = field(default_factory=dict)


def suite_scores(store: Store, run_id: str, suite: str) -> SuiteScores:
    """All scores of a run on a suite; empty arrays where it has none."""
    key = {"run": run_id, "suite": suite}
    samples, found = _arrays(store, _SAMPLES, key), _arrays(store, _SCORES, key)
    sampling = _arrays(store, _SAMPLING, key)["sampling"]
    drawn = set(_arrays(store, _DRAWN, key)["scorer"]) if any(json.loads(text)["temperature"] > 0 for text in sampling) else set()
    value = np.ma.filled(found["value"].astype(float), np.nan)
    codes, names = pd.factorize(found["scorer"])
    starts = np.searchsorted(codes, np.arange(len(names) + 1))  # sorted by scorer, so the codes rise
    scores = {str(name): ScoreColumn(positions=found["position"][start:end], epochs=found["epoch"][start:end], values=value[start:end], drawn=name in drawn)
              for name, start, end in zip(names, starts[:-1], starts[1:], strict=True)}
    return SuiteScores(ids=samples["sample_id"], clusters=pd.factorize(samples["cluster_id"])[0], facets=_facets(store, key), scores=scores)


def _facets(store: Store, key: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Fields with at most MOST_KINDS different texts or truth values; a mapping named ``group`` gives its own fields."""
    fields = [(name, f'$."{name}"') for name in sorted(_arrays(store, _FIELDS, key)["field"]) if '"' not in name]
    if any(name == "group" for name, _ in fields):
        fields += [(name, f'$.group."{name}"') for name in sorted(filter(None, _arrays(store, _GROUPS, key)["field"])) if '"' not in name]
    found = {}
    for name, path in fields:
        kinds = pd.Series(np.ma.filled(_arrays(store, _KINDS, {**key, "path": path})["kind"], "")).fillna("")
        if kinds.nunique() <= MOST_KINDS + 1 and kinds.any():
            found[name] = kinds.to_numpy(dtype=object)
    return found


def asked(store: Store, run_id: str, suite: str) -> pd.Series:
    """By (sample_id, epoch), a hash of what the model was first asked: prompts, options, sampling, seeds, and how often.

    Hashes of one process may be compared with each other, not stored.
    """
    rows = _arrays(store, _ASKED, {"run": run_id, "suite": suite})
    return pd.Series(rows["asked"], index=pd.MultiIndex.from_arrays([rows["sample_id"], rows["epoch"]]))


def first_requests(store: Store, run_id: str, suite: str, key: tuple[str, int]) -> list[dict[str, Any]]:
    """The first requests of one (sample_id, epoch): slot, kind, messages, options, sampling (JSON texts) and seed."""
    found = _arrays(store, _FIRST, {"run": run_id, "suite": suite, "sample": key[0], "epoch": key[1]})
    return [dict(zip(found, row, strict=True)) for row in zip(*(column.tolist() for column in found.values()), strict=True)]


def transcripts_at(store: Store, run_id: str, suite: str, scorer: str, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Transcript]:
    """The transcripts of a scorer on these (sample_id, epoch); those without a score are left out."""
    rows = store._rows(_AT, {"run": run_id, "suite": suite, "scorer": scorer, "ids": [key[0] for key in keys], "epochs": [key[1] for key in keys]})
    return {(row["sample_id"], row["epoch"]): transcript_from_row(row) for row in rows}


def _arrays(store: Store, sql: str, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One array a column; text as objects. A column that holds NULL is a masked array."""
    with store._reading() as connection:
        return dict(cast(Mapping[str, np.ndarray], connection.execute(sql, dict(parameters)).fetchnumpy()))
