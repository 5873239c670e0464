"""Stored runs compared: what is paired, what is left out and said, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from auditor.compare.compare import Question, compare
from auditor.compare.naming import choose, choose_all
from auditor.compare.result import Policy, Rule
from auditor.errors import InputError, UnknownNameError
from auditor.schema import ModelSpec
from auditor.stats import paired_test

SAFE = "refusal.over_refusal_safe"


def rule(**fields):
    return Question(policy=Policy(rules=(Rule(metric=SAFE, why="w", **fields),), source="gate.toml"), known=("refusal", "verbosity"))


def only(found):
    (against,) = found.candidates
    return against


def test_the_difference_is_that_of_the_pairs(make, tmp_path):
    rng = np.random.default_rng(1)
    one, other = ((rng.random(80) < share).astype(float) for share in (0.2, 0.5))
    against = only(make.compare(tmp_path, make.made(refused=one, words=make.words), make.made(refused=other, words=make.words + 5 + rng.normal(size=80))))
    found = {difference.metric: difference for difference in against.differences}
    safe = np.arange(80) % 2 == 1
    expected = paired_test(other[safe], one[safe], (np.arange(80) // 2)[safe], bounds=(-1, 1))
    assert found[SAFE].difference == pytest.approx(expected.difference)
    assert (found[SAFE].n_pairs, found[SAFE].n_clusters) == (40, 40)
    assert (found[SAFE].baseline, found[SAFE].candidate) == (one[safe].mean(), other[safe].mean())
    assert found[SAFE].p_value == expected.p_value
    assert found[SAFE].minimum_detectable_effect == pytest.approx(expected.minimum_detectable_effect)
    assert found[SAFE].gain == -found[SAFE].difference
    assert found["refusal.mean_words"].difference == pytest.approx(5, abs=0.5)
    assert found["refusal.mean_words"].n_clusters == 40
    assert found["refusal.mean_words"].outcome == "worse"


def test_what_cannot_be_compared_is_listed_with_its_reason(make, tmp_path):
    against = only(make.compare(tmp_path, make.made(refused=[0.0, 1.0] * 40), make.made(refused=[1.0, 1.0] * 40)))
    reasons = dict(against.not_compared)
    assert "no good side" in reasons["refusal.refused_all"]
    assert "not the plain average" in reasons["refusal.spread"]
    assert {one.metric for one in against.differences} | set(reasons) >= {SAFE, "refusal.refused_all", "refusal.spread"}


def test_a_planted_fault_fails_and_the_same_model_passes(make, tmp_path):
    (tmp_path / "a").mkdir()
    assert make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.all), rule(margin=0.1)).exit_code == 1
    assert make.compare(tmp_path / "a", make.made(refused=make.none), make.made(refused=make.none), rule(margin=0.1)).exit_code == 0


def test_no_pass_without_the_scores(make, tmp_path):
    few = [None if k % 5 == 1 else 0.0 for k in range(80)]
    decision = only(make.compare(tmp_path, make.made(refused=make.none), make.made(refused=few), rule(margin=0.2))).decisions[0]
    assert decision.decided == "not_assessed"
    assert "have no score" in decision.reason


def test_a_suites_own_reason_against_a_pass_counts_where_it_is_new(make, tmp_path):
    (tmp_path / "a").mkdir()
    flagged = make.made(refused=make.none, extra={"flags": ("no pass: it knows nothing",)})
    new = only(make.compare(tmp_path, make.made(refused=make.none), flagged, rule(margin=0.2))).decisions[0]
    assert (new.decided, "it knows nothing" in new.reason) == ("not_assessed", True)
    both = only(make.compare(tmp_path / "a", flagged, flagged, rule(margin=0.2)))
    assert both.decisions[0].decided == "pass"
    assert any("it knows nothing" in note for note in both.differences[0].notes)


def test_a_judges_number_clears_nobody_whom_the_judge_helped_to_train(make, tmp_path):
    judge = ModelSpec(uri="judge", weights_hash="j")
    spec = replace(make.spec, judge=judge)
    trained = replace(spec, model=replace(spec.model, weights_hash="w1", lineage={"judges": [{"weights_hash": "j"}]}))
    judged = {"judge_based": True}
    decision = only(make.compare(tmp_path, make.made(refused=make.none, spec=spec, extra=judged), make.made(refused=make.none, spec=trained, extra=judged),
                                 rule(margin=0.2))).decisions[0]
    assert (decision.decided, "not independent" in decision.reason) == ("not_assessed", True)


def test_items_of_one_run_only_are_left_out_loudly(make, tmp_path):
    against = only(make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none[:60], first=10)))
    assert {one.n_pairs for one in against.differences} == {30}
    assert any("LEFT OUT" in note and "60 items are in both" in note for note in against.notes)


def test_a_group_is_compared_where_the_policy_names_it(make, tmp_path):
    (tmp_path / "a").mkdir()
    runs = make.made(refused=[0.0, 1.0] * 40), make.made(refused=[0.0, 0.0] * 40)
    question = Question(policy=Policy(rules=(Rule(metric=f"{SAFE}[second]", why="w"),), source="gate.toml"), known=("refusal",))
    against = only(make.compare(tmp_path, *runs, question))
    assert {one.metric: one.n_pairs for one in against.differences} == {SAFE: 40, f"{SAFE}[second]": 60}
    assert {one.metric for one in only(make.compare(tmp_path / "a", *runs)).differences} == {SAFE}


def test_draws_at_random_with_one_epoch_bound_the_chance_of_a_flip(make, tmp_path):
    (tmp_path / "a").mkdir()
    rng = np.random.default_rng(4)
    one, other = ((rng.random(240) < share).astype(float) for share in (0.2, 0.45))
    drawn = [make.made(refused=values[:80], temperature=1.0) for values in (one, other)]
    single = only(make.compare(tmp_path, *drawn)).differences[0]
    assert single.flip_is_bound
    assert any("upper bound" in note for note in single.notes)
    epochs = [make.made(refused=values, temperature=1.0, epochs=3, spec=replace(make.spec, epochs=3)) for values in (one, other)]
    several = only(make.compare(tmp_path / "a", *epochs)).differences[0]
    assert not several.flip_is_bound
    assert several.n_pairs == 120
    assert several.n_clusters == 40


@pytest.mark.parametrize(("changed", "words"), [
    ({"seed": 4}, "seed: 3 in the baseline, 4 in the candidate"),
    ({"system": "Be brief."}, "system prompt: none in the baseline, 'Be brief.' in the candidate"),
    ({"judge": ModelSpec(uri="mine")}, "judge: none in the baseline, 'mine' in the candidate"),
    ({"sampling": {"reasoning_tokens": 64, "batch_rows": 8}}, "sampling: reasoning_tokens: 512 in the baseline, 64 in the candidate"),
    ({"suite_versions": ("2",)}, "suite refusal: version 1 in the baseline, 2 in the candidate"),
    ({"items": (("refusal", "mine.jsonl", "abc"),)}, "suite refusal: items: the shipped items in the baseline, mine.jsonl (sha256 abc) in the candidate"),
    ({"suites": ("verbosity",)}, "no suite in common: the baseline ran refusal, the candidate verbosity"),
])
def test_runs_that_were_not_asked_the_same_are_refused(make, tmp_path, changed, words):
    with pytest.raises(InputError) as caught:
        make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none, spec=replace(make.spec, **changed)))
    assert words in str(caught.value)


@pytest.mark.parametrize(("changed", "words"), [({"temperature": 0.7}, "temperature 0.0 in the baseline, 0.7 in the candidate"),
                                                ({"prompt": "other {}?"}, "messages")])
def test_items_that_were_asked_otherwise_are_refused(make, tmp_path, changed, words):
    with pytest.raises(InputError) as caught:
        make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none, **changed))
    assert "80 items were asked otherwise" in str(caught.value)
    assert words in str(caught.value)


def test_machine_settings_do_not_matter(make, tmp_path):
    spec = replace(make.spec, sampling={"reasoning_tokens": 512, "batch_rows": 64, "threads": 2})
    assert only(make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none, spec=spec))).differences


def test_a_policy_with_an_unknown_metric_names_the_nearest(make, tmp_path):
    question = Question(policy=Policy(rules=(Rule(metric="refusal.over_refusl_safe", why="w"),), source="gate.toml"), known=("refusal",))
    with pytest.raises(UnknownNameError, match="did you mean 'refusal.over_refusal_safe'"):
        make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none), question)


def test_a_criterion_of_a_suite_that_was_not_run_is_not_assessed(make, tmp_path):
    rules = (Rule(metric=SAFE, why="w", margin=0.2), Rule(metric="verbosity.limit_kept", why="w"))
    found = make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none),
                         Question(policy=Policy(rules=rules, source="gate.toml"), known=("refusal", "verbosity"), strict=True))
    assert [one.decided for one in only(found).decisions] == ["pass", "not_assessed"]
    assert found.exit_code == 4


def test_a_direction_against_the_suites_own_is_refused(make, tmp_path):
    with pytest.raises(InputError, match="its suite says that lower is better"):
        make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none), rule(higher_is_better=True))


def test_a_direction_gives_a_metric_its_good_side(make, tmp_path):
    question = Question(policy=Policy(rules=(Rule(metric="refusal.refused_all", why="w", higher_is_better=True),), source="p"), known=("refusal",))
    found = make.compare(tmp_path, make.made(refused=make.all), make.made(refused=make.none), question)
    assert only(found).decisions[0].decided == "fail"


def test_three_runs_are_ranked_on_what_they_share(make, tmp_path):
    spread = [0.0, 1.0] * 20 + [0.0] * 40
    runs = {"a": make.none, "b": spread, "c": make.all}
    paths = [make.run(tmp_path / f"{name}.duckdb", make.made(refused=values, run_id=name)) for name, values in runs.items()]
    found = compare(choose_all([str(path) for path in paths], paths[0]), Question(headlines=(SAFE,)))
    (metric,) = found.ranking.metrics
    assert [(one.run_id, one.places, one.wins, one.losses) for one in metric.runs] == [("a", (1, 1), 2, 0), ("b", (2, 2), 1, 1), ("c", (3, 3), 0, 2)]
    assert found.ranking.totals == (("a", 2, 0), ("b", 1, 1), ("c", 0, 2))
    assert found.ranking.tests == 3
    assert found.exit_code == 1


def test_runs_that_do_not_differ_share_all_places(make, tmp_path):
    paths = [make.run(tmp_path / f"{name}.duckdb", make.made(refused=make.none, run_id=name)) for name in "abc"]
    found = compare(choose_all([str(path) for path in paths], paths[0]), Question(headlines=(SAFE,)))
    assert {one.places for one in found.ranking.metrics[0].runs} == {(1, 3)}


def test_what_changed_most_is_shown_both_ways_and_redacted(make, tmp_path):
    (tmp_path / "a").mkdir()
    one, other = [0.0] * 40 + [1.0] * 40, [1.0] * 20 + [0.0] * 60
    runs = [make.made(refused=values, texts=lambda k, who=who: f"{who} {k}") for who, values in (("ours", one), ("theirs", other))]
    changes = only(make.compare(tmp_path, *runs)).changes
    assert [change.gain for change in changes] == [-1.0] * 3 + [1.0] * 3
    assert len({change.baseline.sample_id for change in changes}) == 6
    for change in changes:
        number = change.baseline.sample_id.removeprefix("item-")
        assert (change.baseline.completion, change.candidate.completion) == (f"ours {number}", f"theirs {number}")
    hidden = make.compare(tmp_path / "a", *runs, Question(headlines=(SAFE,), hidden=("refusal",)))
    assert only(hidden).changes == ()
    assert hidden.redacted == ("refusal",)


def test_naming_runs(make, tmp_path, monkeypatch):
    db = make.run(tmp_path / "auditor.duckdb", make.made(refused=make.none[:12], run_id="base-1"))
    make.run(db, make.made(refused=make.none[:12], run_id="base-2"))
    other = make.run(tmp_path / "other.duckdb", make.made(refused=make.none[:12], run_id="cand-1"))
    assert choose("base-1", db).run.run_id == "base-1"
    assert choose("latest", db).run.run_id == "base-2"
    assert choose(f"{other}:cand", db).run.run_id == "cand-1"
    assert choose(str(other), db).store.path == other
    assert choose(f"{other}:", db).run.run_id == "cand-1"
    with pytest.raises(InputError, match="ambiguous"):
        choose("base", db)
    with pytest.raises(UnknownNameError, match="base-1"):
        choose("nobody", db)
    with pytest.raises(InputError, match="no database 'absent.duckdb'"):
        choose("absent.duckdb:latest", db)
    with pytest.raises(InputError, match="no such database file"):
        choose("absent.duckdb", db)
    with pytest.raises(InputError, match="are the same run"):
        choose_all(["base-2", "latest"], db)
    with pytest.raises(InputError, match="at least one candidate"):
        choose_all(["base-2"], db)


def test_two_criteria_of_one_metric_keep_their_own_margins(make, tmp_path):
    """An advisory criterion with a wide margin must not widen that of a required one, in either order."""
    tight, wide = Rule(metric=SAFE, why="users", margin=0.02), Rule(metric=SAFE, why="users", margin=0.9, test="equivalent", required=False)
    candidate = [float(k % 4 == 1) for k in range(80)]
    for number, rules in enumerate(((tight, wide), (wide, tight))):
        found = make.compare(tmp_path / str(number), make.made(refused=make.none), make.made(refused=candidate),
                             Question(policy=Policy(rules=rules, source="test")))
        decided = {one.rule.test: (one.decided, one.difference.margin) for one in only(found).decisions}
        assert decided == {"no-worse": ("fail", 0.02), "equivalent": ("pass", 0.9)}
        assert found.exit_code == 1


def test_a_headline_number_that_only_the_candidate_lacks_is_an_open_question(make, tmp_path):
    """Without a policy too: under --strict a candidate must not pass because what speaks against it could not be measured."""
    whole = make.made(refused=make.none, words=make.words)
    unscored = replace(whole, refused=[None] * 80, words=make.words - 4)
    found = make.compare(tmp_path, whole, unscored, Question(headlines=(SAFE, "refusal.mean_words"), strict=True))
    assert {one.rule.metric: one.decided for one in only(found).decisions} == {SAFE: "not_assessed", "refusal.mean_words": "pass"}
    assert found.exit_code == 4
    (tmp_path / "again").mkdir()
    lenient = make.compare(tmp_path / "again", whole, unscored, Question(headlines=(SAFE, "refusal.mean_words")))
    assert lenient.exit_code == 4  # what the baseline has and the candidate dropped is open without --strict too


def test_a_suite_that_the_candidate_did_not_run_is_an_open_question(make, tmp_path):
    """Else a candidate would pass by not being asked. --suite says which of them are meant."""
    both = replace(make.spec, suites=("refusal", "verbosity"), suite_versions=("1", "1"))
    whole = make.made(refused=make.none, words=make.words, spec=both, more={"verbosity": ("limit_kept",)})
    part = make.made(refused=make.none, words=make.words - 4)
    headlines = ("refusal.mean_words", "verbosity.limit_kept", "verbosity.never_measured")
    found = make.compare(tmp_path, whole, part, Question(headlines=headlines))
    assert [(one.rule.metric, one.decided, one.lost) for one in only(found).decisions] == [
        ("refusal.mean_words", "pass", False), ("verbosity.limit_kept", "not_assessed", True)]
    assert found.exit_code == 4
    (tmp_path / "meant").mkdir()
    assert make.compare(tmp_path / "meant", whole, part, Question(headlines=headlines, only=("refusal",))).exit_code == 0


def test_a_run_that_was_scored_again_can_be_compared(make, tmp_path):
    again = replace(make.spec, sampling={**make.spec.sampling, "scored_from": "earlier", "cache": True})
    found = make.compare(tmp_path, make.made(refused=make.none), make.made(refused=make.none, spec=again))
    assert any("scored again" in note for note in only(found).notes)
