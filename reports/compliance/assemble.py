"""From the store to the report, once, for every format. Refuses a run that is no evidence unless a draft is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.errors import InputError
from auditor.reports import environment, evidence
from auditor.reports.build import split_gate, suite_of
from auditor.reports.compliance import gaps, measured, provenance
from auditor.reports.compliance.feedback import questions
from auditor.reports.compliance.model import Compliance, Options, Source
from auditor.reports.compliance.standards import read_standard
from auditor.reports.judge import GATE, judge_view
from auditor.reports.text import humanise
from auditor.schema import Suite
from auditor.store import Store

DRAFT = "This is a draft, asked for as one: it may not be used to clear or to condemn a model."


def assemble(store: Store, run_id: str, *, suites: Mapping[str, Suite], options: Options) -> Compliance:
    """Everything the report says about a run (an id, the beginning of one, or ``latest``).

    A pure function of the store's runs up to ``options.until``, the suites' texts and the options. Raises UnknownNameError for an unknown
    run or standard, InputError for an ambiguous run and, unless ``options.draft``, for one that is no evidence.
    """
    standard = read_standard(options.standard) if options.standard else None
    source = _read(store, run_id, suites, options)
    why = refuse_or_stamp(source)
    head, items, others = source.run.head, provenance.item_digests(source), provenance.other_runs(source)
    rows = measured.measurements(source, standard)
    facts = provenance.records(source, head, items, others)
    controls = measured.controls(source, standard, rows, facts) if standard is not None else ()
    asked = questions(source, rows)
    names = tuple(dict.fromkeys((*source.run.spec.suites, *(one.suite for one in rows))))
    return Compliance(
        run=source.run, options=options, standard=standard, not_evidence=why, until=max((run.created for run in source.runs), default=""), chain_head=head,
        measurements=rows, metrics=tuple(m for m in source.metrics if m.suite != GATE), controls=controls, questions=asked, items=items, others=others,
        gaps=gaps.gaps(source, rows, controls, asked, (items, head)),
        limits=tuple((suites[name].title, suites[name].limits) for name in names if name in suites and suites[name].limits),
        titles={name: suites[name].title if name in suites else humanise(name) for name in names},
        judge=judge_view(source.run, source.metrics, source.verdicts, source.gate), judge_fact=facts["judge"],
        gate=source.gate, renderer=evidence.renderer(suites))


def refuse_or_stamp(source: Source) -> str:
    """Why the page is stamped ("" for evidence). Raises InputError where the run is no evidence and no draft was asked for."""
    run, why = source.run, environment.not_evidence(source.run)
    if why and not source.options.draft:
        raise InputError(f"run {run.run_id} is no evidence, and a compliance report is made of evidence only. {why.split(' Its numbers')[0]} "
                         f"Finish it or run every item (`auditor run {run.spec.model.uri}` without --profile quick and --limit), "
                         "or pass --draft for a page stamped NOT EVIDENCE")
    return " ".join(filter(None, (DRAFT if source.options.draft else "", why)))


def _read(store: Store, run_id: str, suites: Mapping[str, Suite], options: Options) -> Source:
    run = store.run(run_id)
    gate, verdicts = split_gate(store.verdicts(run.run_id))
    place = {name: k for k, name in enumerate(run.spec.suites)}
    verdicts.sort(key=lambda verdict: place.get(suite_of(verdict), len(place)))
    runs = tuple(one for one in store.runs() if not options.until or one.created <= options.until or one.run_id == run.run_id)
    return Source(store=store, run=run, metrics=tuple(store.metrics(run.run_id)), verdicts=tuple(verdicts), gate=tuple(gate), runs=runs, suites=suites,
                  options=options)
