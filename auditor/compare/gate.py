"""From differences to the gate: each rule's decision, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor.compare.differences import Measured
from auditor.compare.naming import Chosen
from auditor.compare.outcomes import decide
from auditor.compare.result import PROOF, Decision, Difference, Rule
from auditor.stats.equivalence import equivalence_test, non_inferiority_test
from auditor.verdict import EXIT_FAILED, EXIT_OK, EXIT_UNDECIDED, MOST_UNSCORED

GATE = "judge_gate"


def decision(rule: Rule, difference: Difference | str, measured: Measured | None, candidate: Chosen, *, lost: bool = False) -> Decision:
    """What becomes of a rule; ``difference`` is the reason where its metric could not be compared, ``lost`` where the baseline alone has it.

    A pass is withheld where more than a tenth of the candidate's samples have no score, where the suite says that no pass may rest on the candidate's
    measurement although one could on the baseline's, and for a judge's number without a judge that passed its own audit and had no part in training.
    """
    if isinstance(difference, str) or measured is None:
        return Decision(rule=rule, decided="not_assessed", reason=str(difference), lost=lost)
    error = measured.noise.error if measured.noise else 0.0
    decided, reason = decide(rule.test, difference.outcome, difference.gain_interval, difference.margin, n_clusters=difference.n_clusters,
                             error=error)
    withheld = _withheld(measured, candidate) if decided == "pass" else ""
    if withheld:
        decided, reason = "not_assessed", f"pass withheld: {withheld}"
    elif decided == "inconclusive":
        more = f"; about {difference.n_needed:,} pairs would settle it (now {difference.n_pairs:,})" if difference.n_needed else ""
        reason = (difference.reason or reason) + more
    return Decision(rule=rule, decided=decided, reason=reason, difference=difference, p_value=_p_value(rule, measured, difference.margin))


def _withheld(measured: Measured, candidate: Chosen) -> str:
    metric = measured.candidate
    rows = metric.n + metric.n_unscored
    if metric.n_unscored > MOST_UNSCORED * rows:
        return f"{metric.n_unscored} of the candidate's {rows} samples have no score, and those that are missing are rarely the good ones"
    if metric.no_pass and not measured.metric.no_pass:
        return f"in the candidate, unlike the baseline, {metric.no_pass}"
    if metric.judge_based and not candidate.run.spec.judge_is_independent:
        return "the judge helped to train the candidate (not independent)"
    if metric.judge_based and not _judge_passed(candidate):
        return "the judge has not passed its own audit"
    return ""


def _judge_passed(candidate: Chosen) -> bool:
    """Whether the run's own audit of its judge is there and has no failed criterion."""
    found = [one.outcome for one in candidate.store.verdicts(candidate.run.run_id) if one.criterion.metric.startswith(f"{GATE}.")]
    return "pass" in found and "fail" not in found


def _p_value(rule: Rule, measured: Measured, margin: float) -> float | None:
    """One-sided p of the opposite of what the test claims: a loss beyond the margin, no gain beyond it, a difference beyond it."""
    values, clusters = measured.pairs.candidate - measured.pairs.baseline, measured.pairs.clusters
    if rule.test == "equivalent":
        found = equivalence_test(values, margin, clusters) if margin > 0 else None
    else:
        found = non_inferiority_test(values, -margin if rule.test == "better" else margin, clusters, higher_is_better=measured.higher_is_better)
    return found.p_value if found else None


def exit_code(decisions: Sequence[Decision], strict: bool, *, evidence: bool = True) -> int:
    """1: a required criterion failed. 4: none was decided, or a required test of proof (non-inferior, better, equivalent) is not met, or a required
    measurement of the baseline was dropped, or, under ``strict``, any required criterion is open or one of the runs is no evidence (it asked only a
    part of the items). Else 0. Advisory criteria (required = false) never decide."""
    required = [one for one in decisions if one.rule.required]
    found = {one.decided for one in required}
    if "fail" in found:
        return EXIT_FAILED
    if "pass" not in found:
        return EXIT_UNDECIDED
    unmet = [one for one in required if one.decided != "pass" and (strict or one.lost or one.rule.test in PROOF)]
    return EXIT_UNDECIDED if unmet or (strict and not evidence) else EXIT_OK


def worst(codes: Sequence[int]) -> int:
    """The exit code of several candidates: failed before undecided before passed."""
    return next((code for code in (EXIT_FAILED, EXIT_UNDECIDED) if code in codes), EXIT_OK)


def directions(rules: Sequence[Rule]) -> Mapping[str, bool | None]:
    """The good side that the rules give, by metric; None where all of its rules leave it to the metric."""
    found: dict[str, bool | None] = {}
    for rule in rules:
        found[rule.metric] = rule.higher_is_better if rule.higher_is_better is not None else found.get(rule.metric)
    return found
