"""Outcomes, decisions and exit codes: pure functions, by hand and by simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from auditor.compare.differences import pairs_needed
from auditor.compare.gate import exit_code, worst
from auditor.compare.outcomes import decide, house_margin, read_outcome
from auditor.compare.result import Decision, Rule
from auditor.schema import ConfidenceInterval

ENOUGH = {"n_clusters": 50}


@pytest.mark.parametrize(("gain", "outcome"), [
    ((-0.30, -0.10), "worse"), ((0.10, 0.30), "better"), ((-0.04, 0.04), "equivalent"), ((-0.30, 0.30), "inconclusive"),
    ((-0.10, -0.02), "inconclusive"), ((0.01, 0.20), "inconclusive"), ((-0.05, 0.04), "inconclusive"), ((-0.2, -0.05), "inconclusive"),
])
def test_the_outcome_is_read_off_the_whole_interval(gain, outcome):
    assert read_outcome(gain, 0.05, **ENOUGH).outcome == outcome


def test_no_margin_leaves_better_and_worse_only():
    assert read_outcome((0.01, 0.2), 0.0, **ENOUGH).outcome == "better"
    assert read_outcome((-0.2, -0.01), 0.0, **ENOUGH).outcome == "worse"
    assert read_outcome((0.0, 0.0), 0.0, **ENOUGH).outcome == "inconclusive"


def test_chance_among_many_comparisons_makes_no_claim_but_leaves_equivalence():
    assert read_outcome((-0.3, -0.1), 0.05, p_adjusted=0.2, **ENOUGH).outcome == "inconclusive"
    assert "Holm" in read_outcome((-0.3, -0.1), 0.05, p_adjusted=0.2, **ENOUGH).undecided
    assert read_outcome((-0.3, -0.1), 0.05, p_adjusted=0.04, **ENOUGH).outcome == "worse"
    assert read_outcome((-0.04, 0.04), 0.05, p_adjusted=1.0, **ENOUGH).outcome == "equivalent"


def test_what_a_re_run_would_flip_is_inconclusive():
    near, far = (-0.3, -0.055), (-0.3, -0.2)
    assert read_outcome(near, 0.05, error=0.0, **ENOUGH).outcome == "worse"
    held = read_outcome(near, 0.05, error=0.02, **ENOUGH)
    assert (held.outcome, held.flip) == ("inconclusive", pytest.approx(0.43, abs=0.01))
    assert "re-run" in held.undecided
    assert read_outcome(far, 0.05, error=0.02, **ENOUGH).outcome == "worse"
    assert read_outcome((-0.04, 0.0), 0.05, error=0.02, **ENOUGH).outcome == "inconclusive"


def test_few_clusters_decide_nothing():
    assert read_outcome((-0.01, 0.01), 0.05, n_clusters=5).outcome == "inconclusive"
    assert decide("no-worse", "inconclusive", (0.2, 0.4), 0.05, n_clusters=5)[0] == "inconclusive"


@pytest.mark.parametrize(("test", "gain", "decided"), [
    ("no-worse", (-0.3, -0.1), "fail"), ("no-worse", (-0.3, 0.3), "inconclusive"), ("no-worse", (-0.04, 0.5), "pass"), ("no-worse", (0.1, 0.2), "pass"),
    ("non-inferior", (-0.3, -0.1), "fail"), ("non-inferior", (-0.06, 0.3), "inconclusive"), ("non-inferior", (-0.04, 0.01), "pass"),
    ("better", (0.1, 0.2), "pass"), ("better", (0.01, 0.2), "inconclusive"), ("better", (-0.04, 0.04), "fail"), ("better", (-0.3, -0.1), "fail"),
    ("equivalent", (-0.04, 0.04), "pass"), ("equivalent", (0.1, 0.2), "fail"), ("equivalent", (-0.3, -0.1), "fail"),
    ("equivalent", (-0.3, 0.3), "inconclusive"),
])
def test_each_test_of_a_rule(test, gain, decided):
    assert decide(test, read_outcome(gain, 0.05, **ENOUGH).outcome, gain, 0.05, **ENOUGH)[0] == decided


def test_house_margins():
    assert house_margin("proportion", 9.0)[0] == 0.05
    assert house_margin("points of 5", 9.0)[0] == 0.25
    assert house_margin("words", 9.0)[0] == pytest.approx(1.8)


def decisions(*found):
    return [Decision(rule=Rule(metric="a.b", why="w", test=test, required=required), decided=decided, reason="") for decided, test, required in found]


@pytest.mark.parametrize(("found", "plain", "strict"), [
    ([("pass", "no-worse", True)], 0, 0),
    ([("pass", "no-worse", True), ("fail", "no-worse", True)], 1, 1),
    ([("pass", "no-worse", True), ("fail", "no-worse", False)], 0, 0),
    ([("pass", "no-worse", True), ("inconclusive", "no-worse", True)], 0, 4),
    ([("pass", "no-worse", True), ("inconclusive", "no-worse", False)], 0, 0),
    ([("pass", "no-worse", True), ("not_assessed", "no-worse", True)], 0, 4),
    ([("pass", "no-worse", True), ("inconclusive", "non-inferior", True)], 4, 4),
    ([("pass", "no-worse", True), ("not_assessed", "better", True)], 4, 4),
    ([("inconclusive", "no-worse", True)], 4, 4),
    ([("pass", "no-worse", False)], 4, 4),
    ([], 4, 4),
])
def test_exit_codes(found, plain, strict):
    assert (exit_code(decisions(*found), False), exit_code(decisions(*found), True)) == (plain, strict)


def test_a_measurement_that_the_candidate_dropped_is_no_pass():
    found = decisions(("pass", "no-worse", True), ("not_assessed", "no-worse", True))
    assert exit_code(found, False) == 0
    assert exit_code([found[0], replace(found[1], lost=True)], False) == 4
    assert exit_code([found[0], replace(found[1], lost=True, rule=replace(found[1].rule, required=False))], False) == 0


def test_a_part_of_the_items_is_no_pass_under_strict():
    found = decisions(("pass", "no-worse", True))
    assert [exit_code(found, strict, evidence=False) for strict in (False, True)] == [0, 4]


def test_the_worst_candidate_decides():
    assert worst([0, 4, 1]) == 1
    assert worst([0, 4]) == 4
    assert worst([0, 0]) == 0


def test_pairs_needed_shrink_the_interval_to_the_margin():
    ci = ConfidenceInterval(low=-0.1, high=0.1, method="BCa")
    assert pairs_needed(0.0, ci, 0.05, 100) == 400
    assert pairs_needed(0.02, ConfidenceInterval(low=-0.04, high=0.08, method="BCa"), 0.05, 100) == 400
    assert pairs_needed(0.1, ConfidenceInterval(low=0.0, high=0.2, method="BCa"), 0.05, 100) == 400
    assert pairs_needed(0.05, ci, 0.05, 100) is None


@pytest.mark.simulation
def test_a_gate_of_several_criteria_rarely_fails_a_candidate_that_is_the_same():
    """Five criteria on models that do not differ, margins of 0: at most one gate in twenty says worse, by Holm's adjustment."""
    from auditor.stats import holm, paired_test

    rng, failed, replications = np.random.default_rng(0), 0, 200
    for _ in range(replications):
        tests = [paired_test(rng.normal(size=40), rng.normal(size=40)) for _ in range(5)]
        adjusted = holm([one.p_value for one in tests])
        failed += any(read_outcome((one.ci.low, one.ci.high), 0.0, n_clusters=40, p_adjusted=p).outcome == "worse"
                      for one, p in zip(tests, adjusted, strict=True))
    assert failed / replications <= 0.05
    assert math.isfinite(failed)
