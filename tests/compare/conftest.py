"""Small stored runs to compare, made by the store's own writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.compare.compare import Question, compare
from auditor.compare.naming import choose_all
from auditor.compare.result import Comparison
from auditor.schema import Generation, ModelSpec, Request, RunRecord, RunSpec, Sample, SamplingParams, Score, user
from auditor.stats import MetricBuilder
from auditor.store import RunWriter

SPEC = RunSpec(suites=("refusal",), suite_versions=("1",), model=ModelSpec(uri="tiny", weights_hash="w0", dtype="float32"), seed=3,
               sampling={"reasoning_tokens": 512, "batch_rows": 4})


@dataclass(frozen=True, kw_only=True)
class Made:
    """A run to write: ``refused`` (N,) 0/1 by item (None: unscored), ``words`` (N,); every second item is a safe one, items lie in clusters of two."""

    refused: Sequence[float | None]
    words: Sequence[float] = ()
    run_id: str = "base"
    spec: RunSpec = SPEC
    texts: Callable[[int], str] = lambda k: f"reply {k}"
    first: int = 0  # number of the first item
    temperature: float = 0.0
    prompt: str = "question {}?"
    epochs: int = 1
    extra: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Sequence[str]] = field(default_factory=dict)  # measurements of further suites, by suite


def write_run(db: Path, made: Made) -> Path:
    """Store it with metrics that are what the scores say."""
    suite = made.spec.suites[0]
    numbers = range(made.first, made.first + len(made.refused) // made.epochs)
    samples = [Sample(id=f"item-{k}", messages=(user(made.prompt.format(k)),), cluster_id=f"topic-{k // 2}",
                      metadata={"task": "safe" if k % 2 else "unsafe", "half": "first" if k < 20 else "second"}) for k in numbers]
    replies, scores = [], []
    for place, value in enumerate(made.refused):
        sample, epoch = samples[place // made.epochs], place % made.epochs
        request = Request(kind="generate", messages=sample.messages, suite=suite, sample_id=sample.id, epoch=epoch, seed=1,
                          sampling=SamplingParams(temperature=made.temperature))
        replies.append((request, Generation(sample_id=sample.id, epoch=epoch, model=made.spec.model.uri, text=made.texts(place))))
        scores.append(Score(sample_id=sample.id, epoch=epoch, scorer="refused", value=value, status="error" if value is None else "scored"))
        if len(made.words):
            scores.append(Score(sample_id=sample.id, epoch=epoch, scorer="words", value=float(made.words[place])))
    built = MetricBuilder(suite=suite, samples=samples, scores=scores)
    metrics = [built.proportion("over_refusal_safe", "refused", where=lambda sample: sample.metadata["task"] == "safe", higher_is_better=False),
               built.proportion("refused_all", "refused"),
               built.proportion("over_refusal_safe", "refused", group="second", where=lambda sample: sample.metadata["half"] == "second",
                                higher_is_better=False),
               built.statistic("spread", "refused", lambda columns, weights: weights @ columns[0] ** 2 / weights.sum(1) * 0.5, higher_is_better=False)]
    if len(made.words):
        metrics.append(built.mean("mean_words", "words", unit="words", higher_is_better=False))
    record = RunRecord(run_id=made.run_id, spec=made.spec, created=f"2026-01-01T00:00:00+00:00-{made.run_id}")
    with RunWriter.create(db, record) as writer:
        writer.samples(suite, samples)
        writer.replies(suite, "model", replies)
        writer.scores(suite, scores)
        writer.metrics([replace(metric, **made.extra) for metric in metrics])
        writer.metrics([replace(metrics[0], suite=other, name=name) for other, names in made.more.items() for name in names])
        writer.finish()
    return db


def compare_two(folder: Path, baseline: Made, candidate: Made, question: Question | None = None) -> Comparison:
    """Both written into databases of their own and compared."""
    paths = [write_run(folder / f"{k}.duckdb", made) for k, made in enumerate((baseline, replace(candidate, run_id="cand")))]
    return compare(choose_all([str(path) for path in paths], paths[0]), question or Question(headlines=("refusal.over_refusal_safe",)))


@pytest.fixture(scope="session")
def make():
    """``make.run(db, made)``, ``make.made(...)``, ``make.compare(folder, baseline, candidate)``."""
    from types import SimpleNamespace

    rng = np.random.default_rng(0)
    words = rng.integers(5, 40, 80).astype(float)
    return SimpleNamespace(run=write_run, made=Made, compare=compare_two, spec=SPEC, words=words, none=[0.0] * 80, all=[1.0] * 80)
