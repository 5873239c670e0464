"""Where the numbers come from: items by hash, other runs of the same weights, the head of the evidence chain, and records as single facts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from auditor.reports import environment, numbers, wording
from auditor.reports.build import split_gate
from auditor.reports.compliance.model import Fact, ItemDigest, OtherRun, Source
from auditor.reports.suite_figures import OF_THEIR_OWN
from auditor.schema import Metric
from auditor.store import StoredRun

COLUMNS = ("sample_id", "cluster_id", "messages", "target", "choices", "source", "metadata")
NOT_SEALED = "not sealed"


def item_digests(source: Source) -> tuple[ItemDigest, ...]:
    """One digest a suite over the rows of its samples in their order; any client of the database can compute it again."""
    versions = dict(zip(source.run.spec.suites, source.run.spec.suite_versions, strict=False))
    files = {suite: (path, sha) for suite, path, sha in source.run.spec.items}
    found = []
    frame = source.store.samples_frame(source.run.run_id)
    columns = [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in COLUMNS]
    for suite, places in sorted(frame.groupby("suite").indices.items()):
        digest, encode = hashlib.sha256(), json.JSONEncoder(ensure_ascii=False).encode
        for k in places:
            digest.update(encode([column[k] for column in columns]).encode() + b"\n")
        path, sha = files.get(str(suite), ("", ""))
        found.append(ItemDigest(suite=str(suite), version=versions.get(str(suite), ""), n=len(places), n_clusters=len({columns[1][k] for k in places}),
                                sha256=digest.hexdigest(), file=path, file_sha256=sha))
    return tuple(found)


def other_runs(source: Source) -> tuple[OtherRun, ...]:
    """Every other run of the same weights that is looked at, the oldest first."""
    weights = source.run.spec.model.weights_hash
    same = [run for run in source.runs if weights and run.spec.model.weights_hash == weights and run.run_id != source.run.run_id]
    return tuple(_other(source, run) for run in same)


def _other(source: Source, run: StoredRun) -> OtherRun:
    verdicts = split_gate(source.store.verdicts(run.run_id))[1]
    limit = f", limit {run.spec.limit}" if run.spec.limit is not None else ""
    return OtherRun(run_id=run.run_id, created=run.created, later=run.created > source.run.created, profile=run.spec.profile + limit, status=run.status,
                    evidence=run.evidence and run.status == "done", suites=run.spec.suites, outcomes=dict(Counter(v.outcome for v in verdicts)),
                    failed=tuple(v.criterion.metric for v in verdicts if v.outcome == "fail"))


def outcomes_text(outcomes: Mapping[str, int]) -> str:
    """``2 fail, 1 pass``; what fails first."""
    told = ", ".join(f"{outcomes[outcome]} {wording.WORDS[outcome].lower()}" for outcome in wording.ORDER if outcomes.get(outcome))
    return told or "no verdict"


def records(source: Source, head: str | None, items: tuple[ItemDigest, ...], others: tuple[OtherRun, ...]) -> dict[str, Fact]:
    """One fact for each kind of record that a standard's file may name (:data:`auditor.reports.compliance.standards.RECORDS`)."""
    spec, run, lineage = source.run.spec, source.run, source.run.spec.model.lineage
    sources = Counter(v.criterion.source for v in source.verdicts)
    groups = groups_of_items(source.metrics)
    data = lineage.get("data_hashes", {})
    return {
        "criteria": _fact("Bounds of a later scoring" if scored_from(run) else "Bounds set before the run",
                          f"{numbers.plural(len(source.verdicts), 'criterion', 'criteria')} in the specification {spec.hash[:16]}…; sources: "
                          + ", ".join(f"{name} ({n})" for name, n in sorted(sources.items())) + (f". {rescored(run)}" if scored_from(run) else ""),
                          bool(source.verdicts)),
        "items": _fact("Items asked", "; ".join(f"{item.suite}: {item.n:,} items in {item.n_clusters:,} clusters, SHA-256 {item.sha256[:16]}…"
                                                for item in items), bool(items)),
        "weights": _fact("Weights", f"SHA-256 {spec.model.weights_hash}", bool(spec.model.weights_hash)),
        "training_data": _fact("Training data", "; ".join(f"{uri}: SHA-256 {str(digest)[:16]}…" for uri, digest in data.items()), bool(data)),
        "lineage": _fact("Lineage", "; ".join(f"{name}: {text}" for name, text in environment.lineage_facts(lineage) if name != "Training data"),
                         bool(lineage)),
        "judge": judge_fact(source),
        "chain": _fact("Chain of evidence", f"head {head}", head is not None, NOT_SEALED),
        "runs": _runs_fact(source, others),
        "gaps": Fact(label="What was not tested", text="listed under that heading"),
        "limits": Fact(label="Limits of the items", text="listed under Limits, suite by suite"),
        "groups": _fact("Results by group", f"{numbers.plural(len(groups), 'group')}: " + ", ".join(groups[:12]) + (" …" if len(groups) > 12 else ""),
                        bool(groups)),
        "environment": _fact("Software and machine", f"{numbers.plural(len(run.packages), 'package')} with versions, source commit "
                             f"{run.git_commit or 'not recorded'}, seed {spec.seed}", bool(run.packages)),
        "sign_off": Fact(label="Sign-off", text="block at the end, to be filled in by the reviewer", present=False),
    }


def groups_of_items(metrics: Iterable[Metric]) -> list[str]:
    """By which kinds, topics or languages results were split. The bins and steps that a curve is drawn through are no such groups."""
    return sorted({m.group for m in metrics if m.group != "all" and m.name not in OF_THEIR_OWN and numbers.is_number(m.value)})


def scored_from(run: StoredRun) -> str:
    """The run whose replies were scored again to make this one; "" where it asked for its own."""
    return str(run.spec.sampling.get("scored_from") or "")


def rescored(run: StoredRun) -> str:
    """What a reader must know of a run that was scored again: nothing shows that its bounds are older than its replies."""
    return f"The replies are those of run {scored_from(run)}, scored again: they were known when this scoring and these bounds were applied"


def judge_fact(source: Source) -> Fact:
    """Who judged, whether the judge's own audit was passed, and whether it is independent of the model."""
    judge = source.run.spec.judge
    if judge is None:
        return Fact(label="Judge", text="no judge was used: no number rests on one")
    independent = "independent" if source.run.spec.judge_is_independent else "not independent: it helped to train this model, so no pass rests on it alone"
    told = {True: "passed its own audit", False: "did not pass its own audit", None: "was not audited itself"}[gate_passed(source)]
    return Fact(label="Judge", text=f"{judge.uri} {told}; {independent}", present=bool(gate_passed(source)) and source.run.spec.judge_is_independent)


def gate_passed(source: Source) -> bool | None:
    """Whether every verdict of the judge's own audit over all items is a pass, as the gate demands; None without such an audit."""
    decisive = [v for v in source.gate if v.criterion.group == "all"]
    return all(v.outcome == "pass" for v in decisive) if decisive else None


def _runs_fact(source: Source, others: tuple[OtherRun, ...]) -> Fact:
    if not source.run.spec.model.weights_hash:
        return Fact(label="Other runs of the same weights", text="unknown: this run has no hash of the weights", present=False)
    text = "; ".join(f"{run.run_id} ({run.profile}, {run.status}): {outcomes_text(run.outcomes)}" for run in others) or "none in this store"
    return Fact(label="Other runs of the same weights", text=text)


def _fact(label: str, text: str, present: bool, absent: str = "not recorded") -> Fact:
    return Fact(label=label, text=text if present else absent, present=present)


def shapers(lineage: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Judges and rewards that shaped a checkpoint: (what it was, its name, the hash of its weights or ""), each once."""
    found: list[tuple[str, str, str]] = []
    for key, kind in (("judges", "judge"), ("rewards", "reward")):
        for entry in lineage.get(key, ()):
            known = isinstance(entry, Mapping)
            name = str(entry.get("uri") or entry.get("name") or "unnamed") if known else str(entry)
            weight = f", weight {entry['weight']:g}" if known and isinstance(entry.get("weight"), (int, float)) else ""
            one = ((str(entry.get("role") or kind) if known else kind) + weight, name, str(entry.get("weights_hash") or "") if known else "")
            if one not in found:
                found.append(one)
    return found
