"""The standards' files: what they name exists, every criterion is named, and a broken file is an error."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from auditor.engine.suites import load_suites
from auditor.errors import InputError, UnknownNameError
from auditor.reports.compliance.measured import matches
from auditor.reports.compliance.standards import RECORDS, names, parse, read_standard
from auditor.schema import Context, SuiteData

NUMBERS = {"eu-ai-act": r"Articles? \d+", "nist-ai-rmf": r"(GOVERN|MAP|MEASURE|MANAGE) [1-9]\.\d", "iso-42001": r"(Clause (6|7|8|9|10)\.|A\.([2-9]|10)\.)\d"}
HEAD = {"name": "x", "title": "X", "reference": "X:1", "source": "https://example.org", "as_of": "2026-01-01", "noun": "clause", "note": "n"}


@cache
def measured() -> frozenset[str]:
    """Every whole-sample metric that a shipped suite gives, from the suite itself: without a score each is named with its reason."""
    return frozenset(metric.key for suite in load_suites(()) for metric in
                     suite.aggregate(SuiteData(samples=tuple(suite.load(None)), replies={}, scores=(), context=Context())) if metric.group == "all")


def criteria() -> set[str]:
    return {criterion.metric for suite in load_suites(()) for criterion in suite.criteria}


def test_the_three_standards_are_there():
    assert names() == sorted(NUMBERS)
    with pytest.raises(UnknownNameError, match="did you mean 'eu-ai-act'"):
        read_standard("eu-aiact")


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_metric_a_standard_names_is_one_that_a_suite_measures(name):
    suites = {suite.name for suite in load_suites(())}
    for control in read_standard(name).controls:
        for pattern in (pattern for part in control.evidence for pattern in part.metrics):
            known = pattern == "*" or (pattern.endswith(".*") and pattern[:-2] in suites) or pattern in measured()
            assert known, f"{name}, {control.number}: {pattern}"


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_default_criterion_bears_on_something_by_name(name):
    """A new criterion or suite has to be put into each standard's file; the pattern * does not count."""
    patterns = {pattern for control in read_standard(name).controls for part in control.evidence for pattern in part.metrics} - {"*"}
    assert sorted(metric for metric in criteria() if not any(matches(pattern, metric) for pattern in patterns)) == []


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_each_control_has_a_number_a_title_and_says_what_is_not_shown(name):
    standard = read_standard(name)
    assert standard.name == name
    assert standard.source.startswith("https://")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", standard.as_of)
    assert any(not control.evidence for control in standard.controls), "a standard with no gap is not believable"
    for control in standard.controls:
        assert re.match(NUMBERS[name], control.number), control.number
        assert control.title
        assert control.missing.endswith(".")
        assert all(part.why.endswith(".") for part in control.evidence)


@pytest.mark.parametrize(("control", "complaint"), [
    ({"number": "1", "title": "T"}, "control '1': missing is missing"),
    ({"number": "1", "title": "T", "missing": "M.", "titel": "x"}, "did you mean 'title'"),
    ({"number": "1", "title": "T", "missing": "M.", "evidence": [{"why": "W."}]}, "evidence without metrics, records or stated"),
    ({"number": "1", "title": "T", "missing": "M.", "evidence": [{"why": "W.", "records": ["waits"]}]}, "did you mean 'weights'"),
    ({"number": "1", "title": "T", "missing": "M.", "evidence": [{"why": "W.", "stated": ["ownr"]}]}, "did you mean 'owner'"),
    ({"number": "1", "title": "T", "missing": "M.", "evidence": [{"why": "W.", "metric": ["x"], "records": ["items"]}]}, "did you mean 'metrics'"),
])
def test_a_broken_file_is_an_error(control, complaint):
    with pytest.raises(InputError, match=complaint):
        parse(HEAD | {"control": [control]}, "x.toml")


def test_a_number_stands_once():
    control = {"number": "1", "title": "T", "missing": "M."}
    with pytest.raises(InputError, match="two controls are numbered '1'"):
        parse(HEAD | {"control": [control, control]}, "x.toml")


def test_the_example_in_the_documentation_is_a_control():
    text = (Path(__file__).resolve().parents[2] / "docs" / "compliance.md").read_text(encoding="utf-8")
    example = parse(HEAD | tomllib.loads(text.partition("```toml\n")[2].partition("```")[0]), "compliance.md")
    assert [part.metrics + part.records + part.stated for part in example.controls[0].evidence] == [
        ("confidence.overconfidence", "sycophancy.*"), ("chain", "runs", "human_oversight")]
    listed = text.partition("A control's records are ")[2].partition(".")[0]
    assert tuple(re.findall(r"`(\w+)`", listed)) == RECORDS
