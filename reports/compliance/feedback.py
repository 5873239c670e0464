"""The six questions that an audit of AI feedback must answer, each answered from the store with its numbers, or marked open.

A question is *answered* by measurements or records of the store alone; *partly* where they leave something out; *stated* where only the
owner's words answer it; else it is *open*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.reports.build import GATE
from auditor.reports.compliance import trained
from auditor.reports.compliance.about import stated
from auditor.reports.compliance.measured import measurement_of
from auditor.reports.compliance.model import Fact, Measurement, Question, Source, Standing
from auditor.reports.compliance.provenance import shapers
from auditor.reports.compliance.trained import TrainedStage, proportion_text
from auditor.reports.environment import to_the_second
from auditor.schema import Metric
from auditor.store import StoredRun

AGREEMENT = ("agreement", "cohen_kappa", "krippendorff_alpha", "human_ceiling", "alt_test_winning_rate")
REWARDED = ("overoptimization.best_of_n_past_peak", "overoptimization.training_past_peak", "overoptimization.best_of_n_turning_point",
            "verbosity.padded_preference", "verbosity.one_word_excess", "sycophancy.stance_flip")
MOST_GROUPS = 24
QUESTIONS = {
    "source": "Where did the feedback come from?",
    "standards": "By which standards was it given?",
    "agreement": "Does it agree with people?",
    "bias": "Is it biased by group, topic or language?",
    "rewards": "How does the reward behave when it is pushed?",
    "monitoring": "How is it watched after release?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What an audit of a source of feedback found: whose, in which run, and its metrics under the names of judge_agreement."""

    name: str
    run: StoredRun
    metrics: tuple[Metric, ...]


def questions(source: Source, measurements: Sequence[Measurement]) -> tuple[Question, ...]:
    """All six, in their order."""
    audited, stages = audits_of_shapers(source), trained.stages(source)
    return (_source(source, stages), _standards(source, stages), _agreement(source, audited, stages), _bias(source, audited, stages),
            _rewards(source, measurements), _monitoring(source))


def audits_of_shapers(source: Source) -> list[Audited]:
    """The newest complete audit in the store of each judge or reward model in the lineage, as the audited model or as a run's judge."""
    found = []
    for _, name, weights in shapers(source.run.spec.model.lineage):
        for run in reversed(source.runs):
            suite = _audit_of(weights, run)
            metrics = tuple(m for m in source.store.metrics(run.run_id) if m.suite == suite and not m.group.startswith("judge:")) if suite else ()
            if any(metric.name == "agreement" and metric.value is not None for metric in metrics):
                found.append(Audited(name=name, run=run, metrics=metrics))
                break
    return found


def _audit_of(weights: str, run: StoredRun) -> str:
    """The suite under which a complete run audits these weights as a judge: as its model or as its judge; "" where it does not."""
    if not weights or run.status != "done" or not run.evidence:
        return ""
    if run.spec.model.weights_hash == weights and "judge_agreement" in run.spec.suites:
        return "judge_agreement"
    return GATE if run.spec.judge is not None and run.spec.judge.weights_hash == weights else ""


def _question(source: Source, key: str, measured: Standing, missing: str, facts: Sequence[Fact] = (), rows: Sequence[Measurement] = ()) -> Question:
    said = stated(source.options.about, f"feedback.{key}")
    standing: Standing = "stated" if measured == "open" and said else measured
    return Question(id=key, question=QUESTIONS[key], standing=standing, facts=tuple(facts), measurements=tuple(rows), stated=said,
                    open="" if measured == "answered" else missing)


def _source(source: Source, stages: tuple[TrainedStage, ...]) -> Question:
    lineage = source.run.spec.model.lineage
    facts = [Fact(label=kind.capitalize(), text=name + (f", weights {weights}" if weights else "")) for kind, name, weights in shapers(lineage)]
    facts += [Fact(label="Training data", text=f"{uri}: SHA-256 {digest}") for uri, digest in lineage.get("data_hashes", {}).items()]
    if stages:
        told = " → ".join(f"{one.stage} ({one.method})" for one in stages)
        facts.append(Fact(label="Training run in this store", text=f"{stages[0].training_id}: {told}"))
    known: Standing = "answered" if shapers(lineage) else "partly" if facts else "open"
    missing = ("No judge or reward is named in the lineage, so the labels came with the data; who gave them is not in the store." if facts
               else "The checkpoint carries no lineage: where its feedback came from is unknown to the store.")
    return _question(source, "source", known, missing, facts)


def _standards(source: Source, stages: tuple[TrainedStage, ...]) -> Question:
    lineage = source.run.spec.model.lineage
    config = lineage.get("config", {})
    facts = [Fact(label=key.capitalize(), text=str(config[key])) for key in ("question", *trained.ASKED) if config.get(key)] + trained.told(stages)
    notes = [Fact(label="Note of the training", text=str(note)) for note in lineage.get("notes", ())]
    return _question(source, "standards", "partly" if facts else "open",
                     "The instructions that raters or labellers followed are not in the store; state them in the about file (feedback.standards).",
                     [*facts, *notes])


def _agreement(source: Source, audited: Sequence[Audited], stages: tuple[TrainedStage, ...]) -> Question:
    rows, facts = _rows(source, audited, AGREEMENT, all_groups=False)
    facts += trained.agreement(stages)
    models = [name for kind, name, weights in shapers(source.run.spec.model.lineage) if weights or not kind.startswith("reward")]
    unaudited = sorted(set(models) - {one.name for one in audited})
    standing: Standing = "answered" if rows and not unaudited else "partly" if rows or facts else "open"
    missing = ("No model is known as a source of feedback, so its agreement with people cannot be looked up." if not models else
               f"Not audited against people by the suite judge_agreement in a complete run of this store: {', '.join(unaudited)}.")
    return _question(source, "agreement", standing, missing, facts, rows)


def _bias(source: Source, audited: Sequence[Audited], stages: tuple[TrainedStage, ...]) -> Question:
    rows, facts = _rows(source, audited, ("agreement", "first_position_bias"), all_groups=True)
    facts += trained.by_kind(stages)
    missing = ("What is shown has kinds, topics or languages as groups, and no group of people." if rows or facts else
               "No audit of a source of feedback by group is in the store: agreement by topic and language comes with the suite judge_agreement.")
    return _question(source, "bias", "partly" if rows or facts else "open", missing, facts, rows)


def _rows(source: Source, audited: Sequence[Audited], wanted: Sequence[str], *, all_groups: bool) -> tuple[list[Measurement], list[Fact]]:
    rows, facts = [], []
    for one in audited:
        chosen = [m for name in wanted for m in one.metrics if m.name == name and (m.group != "all") == all_groups and m.value is not None]
        if chosen:
            facts.append(Fact(label="Audited", text=f"{one.name} in run {one.run.run_id}"))
            rows += [measurement_of(metric, source) for metric in chosen[:MOST_GROUPS]]
    return rows, facts


def _rewards(source: Source, measurements: Sequence[Measurement]) -> Question:
    criteria = [one for one in measurements if one.key in REWARDED and one.metric is not None and one.metric.value is not None]
    judged = {one.key for one in criteria}
    plain = [measurement_of(m, source) for m in source.metrics if m.group == "all" and m.key in REWARDED and m.key not in judged and m.value is not None]
    facts = [Fact(label="Accuracy on held-out pairs, by the lineage", text=f"{entry.get('name', 'reward')}: {proportion_text(entry['accuracy'])}")
             for entry in source.run.spec.model.lineage.get("rewards", ()) if isinstance(entry, dict) and entry.get("accuracy") is not None]
    decided = any(one.outcome in ("pass", "fail") for one in criteria if one.key.startswith("overoptimization."))
    standing: Standing = "answered" if decided else "partly" if criteria or plain else "open"
    missing = ("Over-optimisation was not decided in this run; what is shown are its traces in length and agreement." if standing == "partly" else
               "No measurement of how the reward behaves is in this run: run the suites overoptimization and verbosity.")
    return _question(source, "rewards", standing, missing, facts, [*criteria, *plain])


def _monitoring(source: Source) -> Question:
    weights = source.run.spec.model.weights_hash
    same = [run for run in source.runs if weights and run.spec.model.weights_hash == weights]
    ends = [to_the_second(run.created) for run in (*same[:1], *same[-1:])]
    facts = [Fact(label="Runs of these weights in the store", text=f"{len(same)}, from {ends[0]} to {ends[1]}")] if same else []
    return _question(source, "monitoring", "open",
                     "The store holds runs, not observations in use; state the plan in the about file (feedback.monitoring).", facts)
