"""benchmarks/detection_rates.py in small: it measures what the suite measures, sees a large fault, and goes on where it stopped."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from auditor.schema import Context, SuiteData
from auditor.stats import MetricBuilder

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SUITE = "judge_agreement"


@pytest.fixture(scope="module")
def rates():
    """The script, with its neighbours importable for as long."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("detection_rates")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def organisms(rates):
    return rates.Organisms(rates.design_of(SUITE))


def test_levels_equal_those_of_the_suites_own_aggregate(organisms):
    picks = organisms.draw("one", "parent", 0.0)
    scores = [score for item, pick in enumerate(picks) for score in organisms.play(item, *pick)[1]]
    data = SuiteData(samples=organisms.samples, replies=organisms.replies(picks), scores=tuple(scores), context=Context())
    by_suite = {metric.key: metric for metric in organisms.design.suite.aggregate(data)}
    builder = MetricBuilder(suite=SUITE, samples=organisms.samples, scores=scores)
    for one in organisms.design.measured:
        level, own = one.level_of(builder), by_suite[one.criterion.metric]
        assert (level.value, level.ci) == (own.value, own.ci), one.name


def test_doses_reach_the_share_of_items_they_name(organisms):
    for dose in (0.0, 0.2, 0.8):
        faulty = [state == 3 for k in range(10) for state, _ in organisms.draw(f"share {k}", "candidate", dose)]
        assert sum(faulty) / len(faulty) == pytest.approx(dose, abs=0.04 if dose else 0)
    assert organisms.draw("a", "candidate", 0.2) == organisms.draw("a", "candidate", 0.2)
    assert organisms.draw("a", "candidate", 0.2) != organisms.draw("b", "candidate", 0.2)


def test_a_large_fault_is_detected_and_a_second_run_adds_only_what_is_missing(rates, tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "DOSES", (0.0, 0.8))
    results, drawn = tmp_path / "rates.json", []
    simulate = rates.simulate
    monkeypatch.setattr(rates, "simulate", lambda organisms, name, dose: drawn.append(name) or simulate(organisms, name, dose))
    rates.run(SUITE, results, 2)
    assert len(drawn) == 2 * rates.FALSE_ALARM_FACTOR + 2
    kept = rates.run(SUITE, results, 3)
    assert len(drawn) == len(set(drawn)) == 3 * rates.FALSE_ALARM_FACTOR + 3
    assert kept == json.loads(results.read_text())[SUITE]
    for name in ("agreement", "order_consistency", "first_position_bias"):
        large = kept["cells"]["0.8"]["measured"][name]
        assert large["beyond_zero"] == large["beyond_margin"] == 3
    assert sum(kept["cells"]["0.0"]["measured"]["agreement"][event] for event in ("beyond_zero", "beyond_margin")) <= 3
    assert importlib.import_module("_detection_report").smallest_dose(kept, "agreement", "beyond_zero") == 0.8
    assert "<svg" in rates.figure({SUITE: kept})
    assert "order_consistency" in rates.table({SUITE: kept})


def test_results_of_another_setting_are_not_carried_on(rates, tmp_path, monkeypatch):
    results = tmp_path / "rates.json"
    results.write_text(json.dumps({SUITE: {"setting": {"noise": 0.5}, "cells": {"0.8": {"n": 10**6, "measured": {}}}}, "other": {}}))
    monkeypatch.setattr(rates, "DOSES", (0.8,))
    assert rates.run(SUITE, results, 1)["cells"]["0.8"]["n"] == 1
    assert "other" in json.loads(results.read_text())
