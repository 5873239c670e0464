"""Did the runs ask the same? What must agree before two runs are compared, and what is left out where they agree in part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from auditor.compare.naming import Chosen
from auditor.errors import InputError
from auditor.schema import RunSpec
from auditor.store.columns import asked, first_requests

FREE = frozenset({"batch_rows", "threads", "dtype", "cache", "scored_from"})  # sampling settings of the machine, the model, or where replies came from
SHOWN = 60
GATE = "judge_gate"
NONE = "none"


def shared_suites(baseline: Chosen, candidate: Chosen, only: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """(suites that both runs ran, notes on what is left out), after checking that the two are comparable at all.

    Raises InputError naming every setting and suite in which they differ, with both values, or where no suite is shared.
    """
    first, second = baseline.run.spec, candidate.run.spec
    ours, theirs = _chosen_suites(first, only), _chosen_suites(second, only)
    suites = [suite for suite in ours if suite in theirs]
    problems = _settings(first, second) + [problem for suite in suites for problem in _suite(suite, first, second)]
    problems = problems or _all_questions(suites, baseline, candidate)
    if problems:
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise InputError(f"runs {baseline.run.run_id} and {candidate.run.run_id} cannot be compared, for they were not asked the same:\n{listing}\n"
                         "Audit both with the same settings (or, where only a suite differs, name the others with --suite)")
    if not suites:
        raise InputError(f"runs {baseline.run.run_id} and {candidate.run.run_id} have no suite in common: the baseline ran {_names(ours)}, "
                         f"the candidate {_names(theirs)}")
    notes = [f"LEFT OUT: suite {suite} was run on the baseline only" for suite in ours if suite not in theirs]
    notes += [f"LEFT OUT: suite {suite} was run on the candidate only" for suite in theirs if suite not in ours]
    return suites, notes + _remarks(baseline, candidate)


def _chosen_suites(spec: RunSpec, only: Sequence[str]) -> list[str]:
    return [suite for suite in spec.suites if not only or suite in only]


def _names(suites: Sequence[str]) -> str:
    return ", ".join(suites) or NONE


def _settings(first: RunSpec, second: RunSpec) -> list[str]:
    """Settings of the whole run that differ."""
    pairs: list[tuple[str, Any, Any]] = [("seed", first.seed, second.seed), ("system prompt", first.system, second.system),
                                         ("judge", _judge(first), _judge(second))]
    keys = sorted((set(first.sampling) | set(second.sampling)) - FREE)
    pairs += [(f"sampling: {key}", first.sampling.get(key), second.sampling.get(key)) for key in keys]
    return [f"{name}: {_short(one)} in the baseline, {_short(other)} in the candidate" for name, one, other in pairs if one != other]


def _judge(spec: RunSpec) -> str | None:
    """The judge, by its weights where they are known: the same judge may lie in two places."""
    if spec.judge is None:
        return None
    return f"weights {spec.judge.weights_hash[:16]}" if spec.judge.weights_hash else spec.judge.uri


def _suite(suite: str, first: RunSpec, second: RunSpec) -> list[str]:
    versions = [dict(zip(spec.suites, spec.suite_versions, strict=True)).get(suite) for spec in (first, second)]
    items = [next((f"{path} (sha256 {sha[:12]})" for name, path, sha in spec.items if name == suite), "the shipped items") for spec in (first, second)]
    hashes = [tuple(sha for name, _, sha in spec.items if name == suite) for spec in (first, second)]
    found = []
    if versions[0] != versions[1]:
        found.append(f"suite {suite}: version {versions[0]} in the baseline, {versions[1]} in the candidate")
    if hashes[0] != hashes[1]:
        found.append(f"suite {suite}: items: {items[0]} in the baseline, {items[1]} in the candidate")
    return found


def _all_questions(suites: Sequence[str], baseline: Chosen, candidate: Chosen) -> list[str]:
    found = []
    for one in (baseline, candidate):
        with one.store.session():
            found.append([asked(one.store, one.run.run_id, suite) for suite in suites])
    problems = [_questions(suite, (ours, theirs), (baseline, candidate)) for suite, ours, theirs in zip(suites, *found, strict=True)]
    return [problem for problem in problems if problem]


def _questions(suite: str, questions: tuple[pd.Series, pd.Series], runs: tuple[Chosen, Chosen]) -> str:
    """The first item that was asked otherwise, with the part that differs; "" where all shared ones were asked the same."""
    ours, theirs = questions
    shared = ours.index.intersection(theirs.index)
    differing = shared[ours.loc[shared].to_numpy() != theirs.loc[shared].to_numpy()]
    if not len(differing):
        return ""
    key = str(differing[0][0]), int(differing[0][1])
    parts = [first_requests(one.store, one.run.run_id, suite, key) for one in runs]
    return f"suite {suite}: {len(differing):,} items were asked otherwise, among them {key[0]}: {_part(*parts)}"


def _part(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> str:
    """Which part of the requests differs, and both values."""
    if len(ours) != len(theirs):
        return f"{len(ours)} requests in the baseline, {len(theirs)} in the candidate"
    for one, other in zip(ours, theirs, strict=True):
        for name in one:
            if one[name] == other[name]:
                continue
            if name == "sampling":
                before, after = json.loads(one[name]), json.loads(other[name])
                name = next(key for key in before if before[key] != after.get(key))
                return f"{name} {_short(before[name])} in the baseline, {_short(after.get(name))} in the candidate"
            return f"{name} {_short(one[name])} in the baseline, {_short(other[name])} in the candidate"
    return "the requests differ"


def _short(value: object) -> str:
    if value is None:
        return NONE
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…") if isinstance(value, str) else text


def _remarks(baseline: Chosen, candidate: Chosen) -> list[str]:
    """What does not forbid a comparison but has to be said."""
    notes = []
    for who, one in (("baseline", baseline), ("candidate", candidate)):
        if one.run.notice:
            notes.append(f"the {who} is incomplete: {one.run.notice}")
        if not one.run.evidence:
            notes.append(f"NOT EVIDENCE: the {who} asked only a part of the items")
        if one.run.spec.sampling.get("scored_from"):
            notes.append(f"the {who} is run {one.run.spec.sampling['scored_from']} scored again (auditor score)")
    types = [(one.run.spec.model.dtype or "unknown", one.run.spec.sampling.get("dtype")) for one in (baseline, candidate)]
    if types[0] != types[1]:
        notes.append(f"the models ran in {types[0][0]} and {types[1][0]}: what differs may be the number format, not the training")
    spec, other = baseline.run.spec, candidate.run.spec
    if spec.epochs != other.epochs:
        notes.append(f"LEFT OUT: the baseline has {spec.epochs} epochs, the candidate {other.epochs}; only the shared ones are compared")
    same = spec.model.weights_hash and spec.model.weights_hash == other.model.weights_hash
    if same and spec.model.template_hash == other.model.template_hash:
        notes.append("both runs are of the same weights")
    return notes
