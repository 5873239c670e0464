"""The compliance report: what it says of a run, what it refuses, and that it says the same again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from auditor.engine.suites import load_suites
from auditor.errors import InputError, UnknownNameError
from auditor.reports.compliance import as_json, card, page
from auditor.reports.compliance.about import LABELS, About, Feedback
from auditor.reports.compliance.assemble import assemble
from auditor.reports.compliance.model import Options
from auditor.reports.compliance.provenance import groups_of_items
from auditor.schema import Metric
from auditor.store import Store
from auditor.store.training import TrainingRun, TrainingStage, store_training

FULL = "20261121-full"


@pytest.fixture(scope="module")
def suites():
    return {suite.name: suite for suite in load_suites(())}


@pytest.fixture(scope="module")
def build(evidence_store, suites):
    """``build(run, **options)``: the report of a run of the evidence store."""
    def make(run=FULL, store=evidence_store, **options):
        with store.session():
            return assemble(store, run, suites=suites, options=Options(**({"standard": "eu-ai-act"} | options)))
    return make


@pytest.fixture(scope="module")
def report(build):
    return build()


@pytest.fixture(scope="module")
def found(report):
    """The JSON object, through text and back."""
    return json.loads(as_json.render(report))


def gaps_of(report, title):
    return dict(next((group.gaps for group in report.gaps if group.title.startswith(title)), ()))


# -- what is refused -----------------------------------------------------------------------------------------------------


def test_a_quick_run_is_refused_and_a_draft_of_it_is_stamped(build, parse):
    with pytest.raises(InputError, match="20261120-quick is no evidence.*part of the items.*--draft") as caught:
        build("20261120-quick")
    assert caught.value.exit_code == 2
    draft = build("20261120-quick", draft=True)
    assert draft.not_evidence
    text = parse(page.render(draft)).text
    assert "NOT EVIDENCE" in text
    assert "Neither evidence nor conformity." in text
    assert '@top-right { content: "NOT EVIDENCE"' in page.render(draft)
    assert 'content: "Evidence, not conformity"' not in page.render(draft)
    assert '"evidence": false' in as_json.render(draft)
    assert card.render(draft).count("NOT EVIDENCE") == 1


def test_a_limited_and_an_unfinished_run_are_refused(demo, suites, tmp_path):
    from auditor.store import RunWriter

    demo.write(tmp_path / "s.duckdb", demo.record("limited", "2026-11-21T10:00:00+00:00", limit=30), n=8)
    with RunWriter.create(tmp_path / "s.duckdb", demo.record("unfinished", "2026-11-21T11:00:00+00:00")):
        pass
    store = Store.open(tmp_path / "s.duckdb")
    with pytest.raises(InputError, match="limit of 30 items"):
        assemble(store, "limited", suites=suites, options=Options(standard="iso-42001"))
    with pytest.raises(InputError, match="not complete"):
        assemble(store, "unfinished", suites=suites, options=Options(standard="iso-42001"))


def test_a_complete_run_carries_no_stamp_and_says_evidence_not_conformity(report, parse):
    html = page.render(report)
    assert 'class="stamp"' not in html
    assert "Evidence, not conformity." in parse(html).text
    assert as_json.as_object(report)["evidence"] is True
    assert "Evidence, not conformity." in card.render(report)


def test_a_draft_is_stamped_even_where_the_run_is_complete(build):
    assert "draft" in build(draft=True).not_evidence


def test_unknown_names(build):
    with pytest.raises(UnknownNameError, match="did you mean 'nist-ai-rmf'"):
        build(standard="nist-ai-rfm")
    with pytest.raises(UnknownNameError, match="unknown run"):
        build("nothing")


# -- measurements ----------------------------------------------------------------------------------------------------------


def test_every_criterion_of_the_run_is_there_with_the_stores_numbers(found, evidence_store):
    verdicts = [v for v in evidence_store.verdicts(FULL) if not v.criterion.metric.startswith("judge_gate.")]
    assert len(found["measurements"]) == len(verdicts) == 11
    by_key = {(one["key"], one["verdict"]["criterion"]["group"]): one for one in found["measurements"]}
    for verdict in verdicts:
        one = by_key[verdict.criterion.metric, verdict.criterion.group]
        assert one["verdict"]["outcome"] == verdict.outcome
        assert one["verdict"]["p_adjusted"] == verdict.p_adjusted
        assert one["verdict"]["criterion"]["rationale"]
        assert one["metric"]["value"] == verdict.metric.value
        if verdict.metric.ci is not None:
            assert (one["metric"]["ci"]["low"], one["metric"]["ci"]["high"]) == (verdict.metric.ci.low, verdict.metric.ci.high)


def test_the_page_shows_a_criterion_with_all_that_it_rests_on(report, parse):
    text = parse(page.render(report)).text
    assert "Stance flip Sycophancy Fail 34.2 % 28.0 % to 40.4 % below 10 % 240 (60) 3 <0.001 0.004" in text
    assert "Why this bound: A reader would notice a change of this size in one answer out of ten. Source: house default." in text
    assert "Interval by cluster-robust Wilson." in text
    assert "Bears on Article 9(2); Article 9(6) and (8); Article 11" in text
    assert "the adjusted p (Holm) stands beside it" in text


def test_a_judge_that_shaped_the_model_is_not_independent_and_its_pass_is_withheld(found):
    one = next(one for one in found["measurements"] if one["key"] == "verbosity.length_controlled_win_rate")
    assert one["independent"] is False
    assert one["judge"] == "judge passed its own audit, not independent: a pass is withheld"
    assert one["verdict"]["outcome"] == "not_assessed"
    assert found["judge"]["independent"] is False
    assert found["measurements"][0]["judge"] == "needs no judge"


def test_a_criterion_that_the_standard_does_not_name_says_so(report, parse):
    odd = next(one for one in report.measurements if one.key == "verbosity.tokens_used")
    assert odd.bears_on == ("Article 9(2)", "Article 9(6) and (8)", "Article 11 and Annex IV, points 2(g) and 3", "Article 53 and Annex XI")
    stripped = replace(report, measurements=(replace(odd, bears_on=()),))
    assert "The standard’s file names no provision for it." in parse(page.render(stripped)).text


# -- controls and gaps -------------------------------------------------------------------------------------------------------


def test_coverage_follows_the_verdicts(report):
    coverage = {one.control.number: one.coverage for one in report.controls}
    assert coverage["Article 9(2)"] == "measured"
    assert coverage["Article 15(4)"] == "measured"
    assert coverage["Article 15(5)"] == "gap"
    assert coverage["Article 12"] == "recorded", "the chain's head is a record, not a measurement"
    assert coverage["Article 73"] == "gap", "nobody stated where incidents go"


def test_a_statement_makes_a_record_and_never_a_measurement(build):
    said = build(about=About(incidents="to the owner"))
    assert next(one for one in said.controls if one.control.number == "Article 73").coverage == "recorded"


def test_inconclusive_alone_is_not_measured(report, demo):
    shown = [one for one in report.measurements if one.key == "sycophancy.turn_of_first_flip"]
    from auditor.reports.compliance.measured import coverage
    from auditor.reports.compliance.model import Shown
    from auditor.reports.compliance.standards import Evidence

    assert coverage((Shown(evidence=Evidence(why="w"), measurements=tuple(shown), absent=(), facts=()),)) == "not decided"


def test_gaps_name_what_was_not_run_not_assessed_and_not_decided(report):
    assert set(gaps_of(report, "Suites that were not run")) == {"Diversity and collapse", "Over-optimisation", "Agreement of a judge with people"}
    assert "Sycophancy: social validation" in gaps_of(report, "Criteria that were not assessed")
    assert "3,210 samples" in gaps_of(report, "Criteria that stayed inconclusive")["Sycophancy: false premise"]
    provisions = gaps_of(report, "Provisions of the standard")
    assert "Article 15(5) Cybersecurity" in provisions
    assert provisions["Article 55(1)(a) General-purpose AI models with systemic risk: model evaluation and adversarial testing"].startswith(
        "Not run: diversity, overoptimization")
    assert "Article 9(2) Risk management system: identifying and evaluating risks" not in provisions
    assert gaps_of(report, "Not stated") == dict.fromkeys(LABELS.values(), "not stated")


def test_what_is_stated_is_no_gap(build):
    about = About(**{name: ("x",) if name in ("languages", "out_of_scope", "known_risks", "limits") else "x" for name in LABELS})
    assert gaps_of(build(about=about), "Not stated") == {}


def test_missing_records_are_gaps(demo, suites, tmp_path):
    demo.write(tmp_path / "s.duckdb", demo.record("bare", "2026-11-21T10:00:00+00:00", model=demo.ModelSpec(uri="recorded:out.jsonl")), n=8)
    store = Store.open(tmp_path / "s.duckdb")
    report = assemble(store, "bare", suites=suites, options=Options(standard="nist-ai-rmf"))
    assert set(gaps_of(report, "Missing records")) == {"Hash of the weights", "Lineage of the checkpoint"}
    with duckdb.connect(str(tmp_path / "s.duckdb")) as connection:
        connection.execute("UPDATE run SET head = NULL")
    report = assemble(store, "bare", suites=suites, options=Options(standard="nist-ai-rmf"))
    assert "Chain of evidence" in gaps_of(report, "Missing records")
    assert "not sealed" in page.render(report)


# -- provenance ------------------------------------------------------------------------------------------------------------------


def test_the_head_of_the_chain_is_the_stores(report, found, evidence_store):
    head = evidence_store.run(FULL).head
    assert head
    assert found["run"]["chain_head"] == report.chain_head == head
    assert page.render(report).count(head) >= 2, "under provenance and beside the signature"
    assert head in card.render(report)


def test_the_items_digest_can_be_computed_from_the_database_alone(report, evidence_store):
    with duckdb.connect(str(evidence_store.path), read_only=True) as connection:
        rows = connection.execute("SELECT sample_id, cluster_id, messages, target, choices, source, metadata FROM sample "
                                  "WHERE run_id = ? AND suite = 'refusal' ORDER BY position", [FULL]).fetchall()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    item = next(one for one in report.items if one.suite == "refusal")
    assert item.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (item.n, item.n_clusters) == (80, 20)
    assert next(one for one in report.items if one.suite == "sycophancy").file == "sycophancy.jsonl"


def test_lineage_names_data_judges_and_rewards_with_hashes(report, found, demo, parse):
    assert found["shaped_by"] == [{"part": "labeller", "model": "hf:example/labeller", "weights_hash": demo.LABELLER},
                                  {"part": "reward, weight 1", "model": "out/3-reward/model", "weights_hash": "4e3a" * 16}]
    text = parse(page.render(report)).text
    assert "beef" * 16 in text
    assert "sft → rlaif → reward → ppo" in text
    assert "none of them may clear it" in text
    assert "beef" * 16 in card.render(report)


def test_other_runs_of_the_same_weights_are_listed_with_what_they_found(found, build):
    assert [(one["run_id"], one["later"], one["evidence"]) for one in found["other_runs"]] == [
        ("20261119-first", False, True), ("20261120-quick", False, False), ("20261122-later", True, True)]
    assert found["other_runs"][0]["outcomes"] == {"fail": 4, "inconclusive": 2, "not_assessed": 2, "pass": 3}
    assert "sycophancy.stance_flip" in found["other_runs"][0]["failed"]
    assert [one.run_id for one in build(until="2026-11-21T23:00:00+00:00").others] == ["20261119-first", "20261120-quick"]


# -- the six questions -----------------------------------------------------------------------------------------------------------


def test_the_six_questions_are_answered_from_the_store_or_open(found):
    asked = {one["id"]: one for one in found["feedback"]}
    assert list(asked) == ["source", "standards", "agreement", "bias", "rewards", "monitoring"]
    assert {name: one["standing"] for name, one in asked.items()} == {
        "source": "answered", "standards": "partly", "agreement": "partly", "bias": "partly", "rewards": "partly", "monitoring": "open"}
    agreement = asked["agreement"]["measurements"]
    assert [(one["key"], one["metric"]["value"]) for one in agreement] == [("judge_agreement.agreement", 0.81), ("judge_agreement.cohen_kappa", 0.62)]
    assert "out/3-reward/model" in asked["agreement"]["open"], "the reward model was never audited against people"
    assert {one["metric"]["group"]: one["metric"]["value"] for one in asked["bias"]["measurements"]} == {"language:de": 0.66, "language:en": 0.84}
    assert asked["monitoring"]["stated_by_owner"] is None


def test_the_owners_word_stands_beside_and_never_as_an_answer(build):
    said = {one.id: one for one in build(about=About(feedback=Feedback(monitoring="weekly", source="two people"))).questions}
    assert (said["monitoring"].standing, said["monitoring"].stated) == ("stated", "weekly")
    assert said["monitoring"].open
    assert (said["source"].standing, said["source"].stated) == ("answered", "two people")


def test_without_a_lineage_nothing_is_answered(demo, suites, tmp_path):
    demo.write(tmp_path / "s.duckdb", demo.record("base", "2026-11-21T10:00:00+00:00", model=demo.ModelSpec(uri="m", weights_hash="a" * 64)), n=8)
    report = assemble(Store.open(tmp_path / "s.duckdb"), "base", suites=suites, options=Options())
    assert [one.standing for one in report.questions] == ["open", "open", "open", "open", "partly", "open"]
    assert "no lineage" in report.questions[0].open


def test_a_training_run_in_the_same_store_answers_with_what_it_measured(demo, suites, tmp_path):
    """How the labeller was asked and how it did on held-out gold labels stands with the training, not with the policy's own lineage."""
    demo.write(tmp_path / "s.duckdb", demo.trained("full", "2026-11-21T10:00:00+00:00"), n=8)
    told = {"value": 0.81, "low": 0.7, "high": 0.89, "n": 63}
    run = TrainingRun(training_id="t1", created="2026-11-20T00:00:00+00:00", status="done", recipe_name="rlaif", recipe_hash="ab", recipe={}, out="out", seed=0,
                      model="smollm2", environment={})
    rlaif = TrainingStage(stage="label", position=1, method="rlaif", steps=0, complete=True, kind="preferences",
                          lineage={"config": {"constitution": "house.toml"}},
                          measured={"labeller": {"accuracy": told, "by_kind": {"flattery": told | {"value": 0.5}}, "position_bias": told | {"value": 0.05},
                                                "fixed_reply_wins": told | {"reply": "No."}}})
    policy = TrainingStage(stage="ppo", position=2, method="ppo", steps=40, complete=True, kind="policy", weights_hash="9f2c" * 16)
    store_training(tmp_path / "s.duckdb", run, [rlaif, policy], wait=5)
    asked = {one.id: one for one in assemble(Store.open(tmp_path / "s.duckdb"), "full", suites=suites, options=Options()).questions}
    assert "t1: label (rlaif) → ppo (ppo)" in [fact.text for fact in asked["source"].facts]
    assert "constitution: house.toml" in [fact.text for fact in asked["standards"].facts]
    agreement = next(fact.text for fact in asked["agreement"].facts).replace("\u00a0", " ")
    assert agreement == ("accuracy on held-out gold labels 81.0 % (95 % interval 70.0 % to 89.0 %, n = 63); "
                         "position bias 5.0 % (95 % interval 70.0 % to 89.0 %, n = 63); "
                         "prefers one fixed reply over the better answer ('No.') 81.0 % (95 % interval 70.0 % to 89.0 %, n = 63)")
    assert asked["agreement"].standing == "partly"
    assert "hf:example/labeller" in asked["agreement"].open, "held-out gold labels are no audit"
    assert "flattery 50.0" in next(fact.text for fact in asked["bias"].facts)


# -- formats -----------------------------------------------------------------------------------------------------------------------


def test_the_report_is_the_same_when_it_is_made_again(build, report):
    again = build(until=report.until)
    for render in (page.render, as_json.render, card.render):
        assert render(again) == render(report)


def test_without_a_standard_the_card_and_the_json_hold_the_rest(build):
    plain = build(standard="")
    assert as_json.as_object(plain)["standard"] is None
    assert plain.controls == ()
    assert "## Measurements" in card.render(plain)
    assert "EU AI Act" not in card.render(plain)


def test_the_points_of_a_curve_are_no_groups_that_results_were_split_by(report):
    """The fifths of a training run are not kinds of items: a run with no other groups has no result by group to show for a control."""
    fifth = Metric(suite="overoptimization", name="training_gold", value=0.5, group="steps 1 to 4")
    languages = [Metric(suite="judge_agreement", name="agreement", value=0.5, group=group) for group in ("German", "English", "all")]
    told = card.render(replace(report, metrics=(fifth, *languages)))
    assert "Results were split by: `English`, `German`." in told
    assert "No result was split by group." in card.render(replace(report, metrics=(fifth,)))
    assert groups_of_items([fifth, replace(languages[0], value=None)]) == []


@pytest.mark.parametrize("standard", ["eu-ai-act", "nist-ai-rmf", "iso-42001"])
def test_each_standard_makes_a_page_with_every_control_and_a_sign_off(build, parse, standard):
    report = build(standard=standard)
    elements = parse(page.render(report))
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert all(attributes["href"][1:] in ids for tag, attributes in elements.tags if tag == "a" and str(attributes.get("href", "")).startswith("#"))
    for control in report.controls:
        assert f"{control.control.number}{control.control.title}" in elements.text.replace(f"{control.control.number} ", control.control.number)
    for word in ("Signature", "Accepted with conditions", "Not accepted", "Date"):
        assert word in elements.text


def test_json_keys_are_the_documented_ones(found):
    assert list(found) == ["format", "version", "statement", "evidence", "not_evidence", "standard", "system", "options", "run", "model", "shaped_by", "judge",
                           "items", "measurements", "metrics", "controls", "gaps", "feedback", "other_runs", "limits", "sign_off"]
    assert (found["format"], found["version"]) == ("auditor-compliance", 1)
    assert found["system"]["owner"] is None
    assert found["sign_off"] == {"name": None, "role": None, "date": None, "signature": None, "decision": None}
    control = next(one for one in found["controls"] if one["number"] == "Article 14(4)(b)")
    assert set(control) == {"number", "title", "coverage", "not_shown", "evidence"}
    assert {"id": "m1"} in control["evidence"][1]["measurements"]


def test_every_json_key_is_documented(found):
    text = (Path(__file__).resolve().parents[2] / "docs" / "compliance.md").read_text(encoding="utf-8")
    assert [key for key in found if f"`{key}`" not in text] == []


def test_the_card_has_the_sections_of_a_model_card_in_order(report):
    heads = [line[3:] for line in card.render(report).splitlines() if line.startswith("## ")]
    assert heads == ["Model details", "Intended use", "Training", "Factors", "Evaluation", "Measurements", "What was not tested", "Limits and risks",
                     "Questions about the feedback", "EU AI Act", "Provenance", "Other runs of the same weights", "After release", "Sign-off"]
    assert "| Fail | Sycophancy | Stance flip | 34.2 % | 28.0 % to 40.4 % | 240 | 60 | 3 | below 10 % | &lt;0.001 | 0.004 | needs no judge |" in card.render(
        report).replace("\u00a0", " ")
