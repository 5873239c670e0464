"""What was not tested and what was not said, in groups. An empty list here would be a claim of completeness, which no run can make."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.reports import wording
from auditor.reports.build import GATE
from auditor.reports.compliance import about
from auditor.reports.compliance.model import ControlView, GapGroup, ItemDigest, Measurement, Question, Source
from auditor.reports.compliance.provenance import rescored, scored_from
from auditor.reports.text import lower_first

TOP_LEVEL = tuple(name for name in about.names() if "." not in name)


def gaps(source: Source, rows: Sequence[Measurement], controls: Sequence[ControlView], questions: Sequence[Question],
         records: tuple[tuple[ItemDigest, ...], str | None]) -> tuple[GapGroup, ...]:
    """All groups that hold something, the weightiest first."""
    noun = source.options.standard and "Provisions of the standard that nothing here measures"
    groups = (
        GapGroup(title="Suites that were not run", about="Their faults were not looked for.", gaps=_suites(source)),
        GapGroup(title="Criteria that were not assessed", about="Nothing is known either way; never read these as passes.",
                 gaps=tuple((_name(one), wording.sentence(one.verdict.reason or "no reason was recorded")) for one in rows
                            if one.verdict is not None and one.verdict.outcome == "not_assessed")),
        GapGroup(title="Criteria that stayed inconclusive", about="Measured, but the interval holds the bound.",
                 gaps=tuple((_name(one), wording.settling(one.verdict)) for one in rows if one.verdict is not None and one.verdict.outcome == "inconclusive")),
        GapGroup(title="Measurements that were not made", about="Of suites that were run.", gaps=_unmade(source)),
        GapGroup(title=noun or "", about="Part of the standard, outside of what this product measures, or not measured in this run.",
                 gaps=tuple((f"{one.control.number} {one.control.title}", _uncovered(one)) for one in controls if one.coverage in ("gap", "recorded"))),
        GapGroup(title="Questions about feedback that are open", about="", gaps=tuple((q.question, q.open) for q in questions if q.standing != "answered")),
        GapGroup(title="Missing records", about="", gaps=_records(source, *records)),
        GapGroup(title="Not stated by the owner", about="Keys of the about file that were left out.",
                 gaps=tuple((about.LABELS[name], about.NOT_STATED) for name in TOP_LEVEL if not about.stated(source.options.about, name))),
    )
    return tuple(group for group in groups if group.gaps)


def _name(one: Measurement) -> str:
    group = one.verdict.criterion.group if one.verdict is not None else "all"
    return f"{one.suite.replace('_', ' ').capitalize()}: {lower_first(wording.metric_label(one.key, group))}"


def _uncovered(one: ControlView) -> str:
    """Why nothing measures a control: what would bear on it was not run, and what no suite measures."""
    absent = sorted({pattern.partition(".")[0] for part in one.shown for pattern in part.absent if pattern != "*"})
    return (f"Not run: {', '.join(absent)}. " if absent else "") + one.control.missing


def _suites(source: Source) -> tuple[tuple[str, str], ...]:
    missing = [suite for name, suite in source.suites.items() if name not in source.run.spec.suites]
    return tuple((suite.title, suite.question) for suite in missing)


def _unmade(source: Source) -> tuple[tuple[str, str], ...]:
    judged = {(v.criterion.metric, v.criterion.group) for v in source.verdicts}
    return tuple((f"{m.suite.replace('_', ' ').capitalize()}: {lower_first(wording.metric_label(m.name, m.group))}",
                  wording.sentence(m.reason or "no value"))
                 for m in source.metrics if m.suite != GATE and m.value is None and m.group == "all" and (f"{m.suite}.{m.name}", m.group) not in judged)


def _records(source: Source, items: tuple[ItemDigest, ...], head: str | None) -> tuple[tuple[str, str], ...]:
    model = source.run.spec.model
    found = [("Bounds set before the run", f"{rescored(source.run)}.")] if scored_from(source.run) else []
    if not model.weights_hash:
        found.append(("Hash of the weights", "The results belong to recorded outputs or a remote model: no checkpoint is tied to them."))
    if not model.lineage:
        found.append(("Lineage of the checkpoint", "No lineage file lies beside it: how it was trained, and on what, is unknown to the store."))
    elif not model.lineage.get("data_hashes"):
        found.append(("Hashes of the training data", "The lineage names none."))
    if head is None:
        found.append(("Chain of evidence", "The run's rows are not sealed by a hash chain: a later change of the database would not be found."))
    if not source.run.packages:
        found.append(("Versions of packages", "Not recorded with the run."))
    found += [(f"Items of {item.suite}", "The suite has no items in the store.") for item in items if not item.n]
    return tuple(found)
