"""Things to store, and processes that store them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from auditor.schema import (
    ConfidenceInterval,
    Criterion,
    Generation,
    Judgment,
    Metric,
    ModelSpec,
    OptionLogprob,
    Request,
    RunRecord,
    RunSpec,
    Sample,
    SamplingParams,
    Score,
    Usage,
    Verdict,
    assistant,
    user,
)

CRITERION = Criterion(metric="tone.rate", bound=0.5, direction="below", source="house default", rationale="for the test")


def record(run_id: str = "run-1", *, created: str = "2025-03-01T10:00:00+00:00", weights: str = "w1") -> RunRecord:
    spec = RunSpec(
        suites=("tone",), suite_versions=("1",), judge=ModelSpec(uri="judge"), sampling={"max_tokens": 8}, criteria=(CRITERION,),
        model=ModelSpec(uri="tiny", weights_hash=weights, flags=("no template",), lineage={"parents": ["x"]}),
        items=(("tone", "items.jsonl", "ff"),),
    )
    hardware = {"cores": 2, "gpu": None}
    return RunRecord(run_id=run_id, spec=spec, created=created, git_commit="abc", packages={"torch": "2"}, hardware=hardware)


def samples(n: int = 10) -> list[Sample]:
    return [
        Sample(id=f"item-{k}", messages=(user(f"question {k}?"), assistant("Answer:")), cluster_id=f"topic-{k // 3}",
               target="A" if k % 2 else None, choices=("A", "B"), metadata={"task": "stance", "order": [k, 1]})
        for k in range(n)
    ]


def replies(items: Sequence[Sample], *, text: str = "completion of", slot: int = 0) -> list[tuple[Request, Generation]]:
    sampling = SamplingParams(temperature=0.7, stop=("\n",))
    return [
        (Request(kind="generate", messages=sample.messages, sampling=sampling, suite="tone", sample_id=sample.id, slot=slot,
                 seed=2**64 - 1),
         Generation(sample_id=sample.id, slot=slot, model="tiny", text=f"{text} {sample.id}", reasoning="hm", latency=0.25,
                    usage=Usage(prompt_tokens=7, completion_tokens=3, reasoning_tokens=1)))
        for sample in items
    ]


def options(items: Sequence[Sample], *, slot: int = 1) -> list[tuple[Request, Generation]]:
    logprobs = (OptionLogprob(text=" A", logprob=-0.1 - 1 / 3, token_logprobs=(-0.1, -1 / 3)), OptionLogprob(text=" B", logprob=-2.5))
    return [
        (Request(kind="logprobs", messages=sample.messages, options=(" A", " B"), suite="tone", sample_id=sample.id, slot=slot),
         Generation(sample_id=sample.id, slot=slot, model="tiny", finish_reason="options", logprobs=logprobs))
        for sample in items
    ]


def judgments(items: Sequence[Sample], *, slot: int = 2) -> list[tuple[Request, Judgment]]:
    return [
        (Request(kind="judge", messages=sample.messages, options=("first", "second"), suite="tone", sample_id=sample.id, slot=slot),
         Judgment(a="first", b="second", ab=0.9, ba=None, status="unparseable", explanation="one order only"))
        for sample in items
    ]


def scores(items: Sequence[Sample], *, scorer: str = "rate") -> list[Score]:
    """Values 0, 1, 2 in turn; the first sample's has none."""
    return [Score(sample_id=sample.id, scorer=scorer, value=None if k == 0 else float(k % 3), status="refused" if k == 0 else "scored",
                  answer=f"answer {k}", explanation="why") for k, sample in enumerate(items)]


def metric(name: str = "rate", value: float | None = 1 / 3, **fields: object) -> Metric:
    interval = None if value is None else ConfidenceInterval(low=0.1, high=2 / 3, level=0.95, method="Wilson")
    return Metric(suite="tone", name=name, value=value, ci=interval, n=9, n_clusters=3, n_unscored=1, **fields)  # type: ignore[arg-type]


def verdict(outcome: str = "inconclusive") -> Verdict:
    return Verdict(criterion=CRITERION, outcome=outcome, metric=metric(), reason="the interval holds the bound", n_needed=120, p_value=0.2)  # type: ignore[arg-type]


def spawn(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs ``script`` and says on a line of its output when it is ready."""
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    makers = (record, samples, replies, options, judgments, scores, metric, verdict, spawn)
    return SimpleNamespace(**{function.__name__: function for function in makers})


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "audit.duckdb"
