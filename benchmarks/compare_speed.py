"""How long two stored runs of 100,000 samples each take to compare, with the HTML page. Target: 10 s.

    python benchmarks/compare_speed.py

Each run has five suites of 20,000 samples in clusters of five, a reply of each sample, and four scores of each sample, as in store_million.py; the
second run's scores differ from the first's on some of the samples. All 20 metrics are compared, with 4,000 BCa resamples and 10,000 sign flips each.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from store_million import BATCH, SCORERS, SUITES, batches, make_replies, make_samples, make_scores

from auditor.compare.compare import Question, compare
from auditor.compare.naming import choose_all
from auditor.reports.comparing.page import page
from auditor.schema import ConfidenceInterval, Metric, ModelSpec, RunRecord, RunSpec, Score
from auditor.store import RunWriter

SAMPLES, TARGET = 100_000, 10.0


def metrics_of(suite: str, scores: list[Score]) -> list[Metric]:
    """The averages that the scores have, with intervals that nobody reads."""
    found = []
    for scorer in SCORERS:
        values = [score.value for score in scores if score.scorer == scorer and score.value is not None]
        ci = ConfidenceInterval(low=0.0, high=1.0, method="benchmark")
        found.append(Metric(suite=suite, name=scorer, value=float(np.mean(values)), ci=ci, n=len(values), n_clusters=len(values) // 5, higher_is_better=False))
    return found


def write(database: Path, run: int, n_samples: int) -> None:
    """Record run number ``run``; a tenth of the second run's values are drawn anew."""
    spec = RunSpec(suites=SUITES, suite_versions=("1",) * len(SUITES), model=ModelSpec(uri="benchmark", weights_hash=str(run)), profile="full")
    record = RunRecord(run_id=f"run-{run}", spec=spec, created=f"2025-01-0{run + 1}T00:00:00+00:00")
    with RunWriter.create(database, record) as writer:
        for number, suite in enumerate(SUITES):
            samples, anew = make_samples(suite, n_samples // len(SUITES)), random.Random(1000 + run)
            replies = [(replace(request, seed=1), reply) for request, reply in make_replies(suite, samples, random.Random(number))]
            scores = [redrawn(score, anew) if run and anew.random() < 0.1 else score for score in make_scores(samples, random.Random(number))]
            writer.samples(suite, samples)
            for batch in batches(replies, BATCH):
                writer.replies(suite, "model", batch)
            for batch in batches(scores, BATCH):
                writer.scores(suite, batch)
            writer.metrics(metrics_of(suite, scores))
        writer.finish()


def redrawn(score: Score, draw: random.Random) -> Score:
    if score.value is None:
        return score
    return replace(score, value=float(draw.random() < 0.3) if score.value in (0.0, 1.0) else draw.random())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="samples of each run (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        databases = [Path(folder) / f"{run}.duckdb" for run in range(2)]
        for run, database in enumerate(databases):
            write(database, run, options.samples)
        started, used = time.perf_counter(), time.process_time()
        found = compare(choose_all([str(database) for database in databases], databases[0]), Question())
        compared, html = time.perf_counter() - started, len(page(found).encode())
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    (against,) = found.candidates
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"two runs of {options.samples:,} samples, {len(against.differences)} metrics compared ({len(against.not_compared)} not): {compared:.1f} s, "
          f"with the page {seconds:.1f} s (processor {cpu:.1f} s; target {TARGET:.0f} s {'met' if seconds <= TARGET else 'MISSED'}), page {html / 1e6:.2f} MB, "
          f"peak memory {memory:.2f} GiB")
    raise SystemExit(0 if seconds <= TARGET else 1)


if __name__ == "__main__":
    main()
