"""A run full of hostile text gives a page on which all of it can be read and none of it lives."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from auditor.reports import write_report
from auditor.schema import (
    Criterion,
    Generation,
    ModelSpec,
    OptionLogprob,
    Request,
    RunRecord,
    RunSpec,
    Sample,
    Score,
    Verdict,
    assistant,
    user,
)
from auditor.store import RunWriter, Store


def write(database: Path, demo: ModuleType) -> str:
    """A run in which every text that anybody else wrote is hostile."""
    evil, metric = demo.HOSTILE, demo.metric
    run = RunRecord(
        run_id="hostile",
        created=evil,
        git_commit=evil,
        packages={evil: evil},
        hardware={evil: evil},
        spec=RunSpec(
            suites=("hostile", evil),
            suite_versions=(evil, evil),
            profile=evil,
            system=evil,
            baseline=evil,
            model=ModelSpec(
                uri=evil,
                revision=evil,
                weights_hash=evil,
                template_hash=evil,
                dtype=evil,
                engine=evil,
                flags=(evil,),
                lineage={"judges": [evil]},
            ),
            judge=ModelSpec(uri=evil),
            items=(("hostile", evil, evil),),
        ),
    )
    texts = {"reason": evil, "unit": evil, "flags": (evil,)}
    found = [metric("hostile", evil, 0.4, judge_based=True, **texts), metric("hostile", "open", None, **texts)]
    found += [metric("hostile", "split", 0.4, group=f"{evil}{k}") for k in range(2)]
    criterion = Criterion(metric=f"hostile.{evil}", bound=0.1, direction="below", source=evil, rationale=evil)
    item = Sample(id="s", messages=(user(evil),), cluster_id=evil)
    request = Request(kind="logprobs", messages=(user(evil), assistant(evil)), options=(evil,), suite="hostile", sample_id="s")
    reply = Generation(sample_id="s", text=evil, reasoning=evil, logprobs=(OptionLogprob(text=evil, logprob=-0.5),))
    with RunWriter.create(database, run) as writer:
        writer.samples("hostile", [item])
        writer.replies("hostile", "model", [(request, reply)])
        writer.scores("hostile", [Score(sample_id="s", scorer=evil, value=1.0, answer=evil, explanation=evil)])
        writer.metrics(found)
        writer.verdicts([Verdict(criterion=criterion, outcome="not_assessed", metric=found[0], reason=evil)])
        writer.finish()
    return run.run_id


@pytest.fixture(scope="module")
def hostile(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    run_id = write(folder / "h.duckdb", demo)
    texts = dict.fromkeys(("title", "question", "method", "limits", "reference", "feedback_stage"), demo.HOSTILE)
    suites = {"hostile": demo.suite("hostile", **texts)}
    return write_report(Store.open(folder / "h.duckdb"), run_id, folder / "h.html", suites=suites).read_text(encoding="utf-8")


def test_hostile_text_is_everywhere_and_nowhere_alive(hostile: str, parse: Callable[[str], Any]) -> None:
    page = parse(hostile)
    assert page.open == []
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags
    assert tags.count("style") == 1
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert page.text.count("<script>window.__pwned = 1</script>") > 40
    assert "{{ 7*7 }}" in page.text
    assert re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00\x1b]", hostile) is None
    figures = [base64.b64decode(uri).decode() for uri in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", hostile)]
    assert figures
    assert not [svg for svg in figures if "<script" in svg or "<img" in svg or "\u202e" in svg]
    assert any("&lt;script&gt;" in svg for svg in figures)
