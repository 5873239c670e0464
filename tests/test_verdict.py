"""Verdicts follow from the interval; exit codes follow from the verdicts."""

from __future__ import annotations

import itertools

import pytest

from auditor.schema import ConfidenceInterval, Criterion, Metric, Verdict
from auditor.stats import proportion_interval
from auditor.verdict import decide, decide_all, exit_code, p_fails


def criterion(bound=0.2, direction="below", **fields) -> Criterion:
    return Criterion(**({"metric": "demo.rate", "bound": bound, "direction": direction, "source": "house default", "rationale": "r"} | fields))


def metric(low=0.05, high=0.15, value=0.1, **fields) -> Metric:
    ci = ConfidenceInterval(low=low, high=high, method="Wilson")
    return Metric(**({"suite": "demo", "name": "rate", "value": value, "ci": ci, "n": 200, "n_clusters": 50} | fields))


@pytest.mark.parametrize(("bound", "direction", "outcome"), [
    (0.2, "below", "pass"), (0.12, "below", "inconclusive"), (0.04, "below", "fail"),
    (0.2, "above", "fail"), (0.12, "above", "inconclusive"), (0.04, "above", "pass"),
    (0.15, "below", "inconclusive"), (0.05, "above", "inconclusive"),  # touching the bound is not beyond it
])
def test_outcome_follows_the_whole_interval(bound, direction, outcome):
    verdict = decide(criterion(bound, direction), metric())
    assert verdict.outcome == outcome
    assert (verdict.n_needed is not None) == (outcome == "inconclusive")
    assert f"{bound:g}" in verdict.reason


def test_inconclusive_says_how_many_samples_would_settle_it():
    found = proportion_interval([1.0] * 30 + [0.0] * 170)
    measured = metric(value=found.value, ci=found.ci, design_effect=1.0)
    verdict = decide(criterion(0.18), measured)
    assert verdict.n_needed == 630  # z²·0.18·0.82/0.03², rounded up
    assert "630 samples" in verdict.reason
    same = decide(criterion(0.15), measured)
    assert (same.outcome, same.n_needed) == ("inconclusive", None)


@pytest.mark.parametrize(("measured", "reason"), [
    (None, "not measured"),
    (metric(value=None, ci=None, reason="no judge given"), "no judge given"),
    (metric(value=None, ci=None), "no value"),
    (metric(value=float("nan")), "no value"),
    (metric(ci=None, flags=("one cluster only: no interval",)), "one cluster only"),
    (metric(ci=ConfidenceInterval(low=0.05, high=0.15, level=0.9)), "90%"),
])
def test_what_was_not_made_is_not_assessed(measured, reason):
    verdict = decide(criterion(), measured)
    assert verdict.outcome == "not_assessed"
    assert reason in verdict.reason
    assert verdict.p_value is None


def test_judge_gate_and_independence_matter_for_judge_based_metrics_only():
    judged, bad = metric(judge_based=True), metric(judge_based=True, value=0.5, low=0.4, high=0.6)
    assert decide(criterion(), judged, judge_gate=True).outcome == "pass"
    assert decide(criterion(), judged, judge_gate=False).outcome == "not_assessed"
    assert "failed its own audit" in decide(criterion(), judged, judge_gate=False).reason
    assert "not audited" in decide(criterion(), judged).reason
    withheld = decide(criterion(), judged, judge_gate=True, not_independent=True)
    assert withheld.outcome == "not_assessed"
    assert "withheld" in withheld.reason
    assert decide(criterion(), bad, judge_gate=True, not_independent=True).outcome == "fail"  # it may still convict
    assert decide(criterion(), metric(), judge_gate=False, not_independent=True).outcome == "pass"


@pytest.mark.parametrize("direction", ["below", "above"])
def test_p_is_the_level_at_which_the_interval_touches_the_bound(direction):
    for bound in (0.05, 0.15):
        p = p_fails(criterion(bound, direction), metric())
        on_bad_side = (direction == "below") == (bound == 0.05)
        assert p == pytest.approx(0.025 if on_bad_side else 0.975)
    assert p_fails(criterion(0.1, direction), metric()) == pytest.approx(0.5)


def test_p_agrees_with_the_verdict_everywhere():
    for bound, direction in itertools.product([i / 100 for i in range(1, 30)], ["below", "above"]):
        verdict = decide(criterion(bound, direction), metric(value=0.08))
        if abs(bound - 0.05) > 1e-9 and abs(bound - 0.15) > 1e-9:
            assert (verdict.p_value < 0.025) == (verdict.outcome == "fail")


def test_p_at_the_end_of_a_bounded_quantity():
    perfect = metric(value=1.0, low=0.9, high=1.0)
    assert p_fails(criterion(0.95, "above"), perfect) > 0.5
    assert p_fails(criterion(1.0, "above"), perfect) == pytest.approx(0.5)
    assert p_fails(criterion(1.2, "above"), metric(value=1.0, low=0.9, high=1.0)) == 0  # no room above 1


def test_decide_all_matches_by_name_and_group_and_adjusts_by_holm():
    metrics = [metric(), metric(group="hard", value=0.5, low=0.4, high=0.6), metric(name="other", value=None, ci=None, reason="no rows")]
    criteria = [criterion(), criterion(group="hard"), criterion(metric="demo.other"), criterion(metric="demo.absent")]
    verdicts = decide_all(criteria, metrics)
    assert [verdict.outcome for verdict in verdicts] == ["pass", "fail", "not_assessed", "not_assessed"]
    assert [verdict.criterion for verdict in verdicts] == criteria
    assert verdicts[1].p_adjusted == pytest.approx(2 * verdicts[1].p_value)  # two tests, not four
    assert verdicts[2].p_adjusted is None
    assert decide_all(criteria[:1], metrics)[0].outcome == verdicts[0].outcome  # whatever else was run


def outcomes(*names, required=True) -> list[Verdict]:
    return [Verdict(criterion=criterion(required=required), outcome=name, metric=None, reason="") for name in names]


@pytest.mark.parametrize(("verdicts", "strict", "code"), [
    (outcomes("pass"), False, 0), (outcomes("pass"), True, 0),
    (outcomes("pass", "inconclusive"), False, 0), (outcomes("pass", "inconclusive"), True, 4),
    (outcomes("pass", "not_assessed"), False, 0), (outcomes("pass", "not_assessed"), True, 4),
    (outcomes("pass") + outcomes("inconclusive", required=False), True, 0),
    (outcomes("pass", "fail", "not_assessed"), False, 1), (outcomes("fail", "inconclusive"), True, 1),
    (outcomes("fail", required=False), False, 1),
    (outcomes("inconclusive", "not_assessed"), False, 4), (outcomes("not_assessed"), True, 4), ([], False, 4),
])
def test_exit_codes(verdicts, strict, code):
    assert exit_code(verdicts, strict) == code


@pytest.mark.parametrize(("n", "unscored", "outcome"), [(90, 10, "pass"), (89, 11, "not_assessed"), (40, 160, "not_assessed")])
def test_nothing_passes_where_many_samples_have_no_score(n, unscored, outcome):
    decided = decide(criterion(), metric(n=n, n_unscored=unscored))
    assert decided.outcome == outcome
    assert ("have no score" in decided.reason) == (outcome == "not_assessed")


def test_missing_scores_do_not_hide_a_failure():
    assert decide(criterion(bound=0.01), metric(n=40, n_unscored=160)).outcome == "fail"


def test_a_pass_is_withheld_where_the_suite_says_so_and_a_failure_is_not():
    held = metric(flags=("no pass: accuracy is at chance",))
    assert decide(criterion(), held).outcome == "not_assessed"
    assert decide(criterion(), held).reason == "pass withheld: accuracy is at chance"
    assert decide(criterion(bound=0.01), held).outcome == "fail"
