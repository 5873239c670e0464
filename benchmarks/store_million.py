"""How long one run with 1,000,000 scores takes to store: journal, fsync and commits included. Target: 20 s.

    python benchmarks/store_million.py                    # prints the times, leaves nothing behind
    python benchmarks/store_million.py --keep big.duckdb  # keeps the database, for instance to time `auditor report`

The run is shaped like a real one: five suites of 50,000 samples in clusters of five, a reply of each sample with its
prompt, options and completion, and four scores of each sample; then metrics and verdicts. The scores are timed apart from
the samples and replies they belong to, and the reads that a report needs are timed too.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from auditor.schema import (
    ConfidenceInterval,
    Criterion,
    Generation,
    Metric,
    ModelSpec,
    OptionLogprob,
    Request,
    RunRecord,
    RunSpec,
    Sample,
    Score,
    Usage,
    Verdict,
    user,
)
from auditor.store import RunWriter, Store

SUITES = ("sycophancy", "verbosity", "refusal", "confidence", "diversity")
SCORERS = ("accuracy", "probability", "length", "refusal_class")
SCORES = 1_000_000
BATCH = 1000  # items recorded by one call, that is, by one fsync
TARGET = 20.0
RUN_ID = "million"


def make_samples(suite: str, n: int) -> list[Sample]:
    question = "Which of the two statements about item {} is better supported by what was said before, and how sure are you of it?"
    return [
        Sample(id=f"{suite}-{index:06d}", messages=(user(question.format(index)),), cluster_id=f"{suite}-topic-{index // 5}",
               choices=("A", "B"), metadata={"task": "stance", "order": index % 2})
        for index in range(n)
    ]


def make_replies(suite: str, samples: Sequence[Sample], draw: random.Random) -> list[tuple[Request, Generation]]:
    pairs = []
    for sample in samples:
        logprobs = tuple(OptionLogprob(text=text, logprob=-draw.expovariate(1.0), token_logprobs=(-1.0,)) for text in sample.choices)
        request = Request(kind="generate", messages=sample.messages, options=sample.choices, suite=suite, sample_id=sample.id,
                          seed=draw.getrandbits(63))
        text = " ".join(draw.choices(("sure", "maybe", "the", "first", "second", "statement", "holds", "because"), k=25))
        reply = Generation(sample_id=sample.id, model="m", text=text, logprobs=logprobs, latency=draw.random(),
                           usage=Usage(prompt_tokens=40, completion_tokens=25))
        pairs.append((request, reply))
    return pairs


def make_scores(samples: Sequence[Sample], draw: random.Random) -> list[Score]:
    """Half of the scorers give 0 or 1, half a real number; 2 % of the scores have no value."""
    scores = []
    for sample in samples:
        for number, scorer in enumerate(SCORERS):
            if draw.random() < 0.02:
                scores.append(Score(sample_id=sample.id, scorer=scorer, value=None, status="unparseable", answer="?"))
                continue
            value = float(draw.random() < 0.3) if number % 2 == 0 else draw.random()
            reason = "option A has the higher log-probability"
            scores.append(Score(sample_id=sample.id, scorer=scorer, value=value, answer="A", explanation=reason))
    return scores


def make_results(suite: str, n: int) -> tuple[list[Metric], list[Verdict]]:
    interval = ConfidenceInterval(low=0.29, high=0.31, method="cluster-robust Wilson")
    metrics = [Metric(suite=suite, name=name, value=0.3, ci=interval, n=n, n_clusters=n // 5, higher_is_better=False) for name in SCORERS]
    criterion = Criterion(metric=f"{suite}.{SCORERS[0]}", bound=0.35, direction="below", source="house default", rationale="benchmark")
    return metrics, [Verdict(criterion=criterion, outcome="pass", metric=metrics[0], reason="interval below the bound")]


def batches(items: Sequence, size: int) -> list[Sequence]:
    return [items[start:start + size] for start in range(0, len(items), size)]


class Timer:
    """Adds up the wall and processor seconds spent inside ``with timer:`` blocks."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._start[0]
        self.cpu += time.process_time() - self._start[1]


def write(database: Path, n_scores: int) -> dict[str, Timer]:
    """Record the run; time by part. Making the objects is not timed."""
    per_suite = n_scores // (len(SUITES) * len(SCORERS))
    draw = random.Random(0)
    timers = {name: Timer() for name in ("samples and replies", "scores", "metrics and verdicts", "finish with its hash chain")}
    spec = RunSpec(suites=SUITES, suite_versions=("1",) * len(SUITES), model=ModelSpec(uri="benchmark", weights_hash="0"), profile="full")
    writer = RunWriter.create(database, RunRecord(run_id=RUN_ID, spec=spec, created="2025-01-01T00:00:00+00:00"))
    for suite in SUITES:
        samples = make_samples(suite, per_suite)
        replies, scores = make_replies(suite, samples, draw), make_scores(samples, draw)
        with timers["samples and replies"]:
            writer.samples(suite, samples)
            for batch in batches(replies, BATCH):
                writer.replies(suite, "model", batch)
            writer.commit()
        with timers["scores"]:
            for batch in batches(scores, BATCH):
                writer.scores(suite, batch)
            writer.commit()
        metrics, verdicts = make_results(suite, per_suite)
        with timers["metrics and verdicts"]:
            writer.metrics(metrics)
            writer.verdicts(verdicts)
    with timers["finish with its hash chain"]:
        writer.finish()
    return timers


def read(store: Store) -> dict[str, Timer]:
    """Time of the reads that a report makes, for all suites and scorers."""
    pairs = [(suite, scorer) for suite in SUITES for scorer in SCORERS]
    work = {
        "runs": lambda: store.runs(),
        "counts": lambda: [store.counts(RUN_ID, suite) for suite in SUITES],
        "histograms (20)": lambda: [store.histogram(RUN_ID, suite, scorer) for suite, scorer in pairs],
        "worst transcripts (20)": lambda: [store.transcripts(RUN_ID, suite, scorer, "worst") for suite, scorer in pairs],
        "typical transcripts (20)": lambda: [store.transcripts(RUN_ID, suite, scorer, "typical") for suite, scorer in pairs],
        "all score rows": lambda: sum(1 for _ in store.score_rows(RUN_ID)),
        "scores_frame": lambda: len(store.scores_frame(RUN_ID)),
    }
    timers = {name: Timer() for name in work}
    for name, call in work.items():
        with timers[name]:
            call()
    return timers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="write the database here and keep it")
    parser.add_argument("--scores", type=int, default=SCORES, help="number of scores (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = options.keep or Path(folder) / "million.duckdb"
        written = write(database, options.scores)
        for name, timer in written.items():
            print(f"write {name:28s} {timer.wall:7.2f} s, processor {timer.cpu:6.2f} s")
        total, scores = sum(timer.wall for timer in written.values()), written["scores"].wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{database.stat().st_size / 1e6:.0f} MB on the disk, peak memory {peak:.0f} MiB (the objects to store included)")
        print(f"{options.scores} scores stored in {scores:.1f} s, {total:.1f} s with their samples and replies; "
              f"target {TARGET:.0f} s {'met' if scores <= TARGET else 'missed'}")
        with Store.open(database).session() as store:
            for name, timer in read(store).items():
                print(f"read  {name:28s} {timer.wall:7.2f} s, processor {timer.cpu:6.2f} s")


if __name__ == "__main__":
    main()
