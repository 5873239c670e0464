"""From the store to the page: reads a run once and assembles every section's view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from auditor.reports import diagrams, environment, evidence, numbers, wording
from auditor.reports.comparison import comparison
from auditor.reports.figures import Row
from auditor.reports.images import Figure, Table, drawn
from auditor.reports.judge import GATE, judge_view
from auditor.reports.loop import loop_figure, stages, stages_of
from auditor.reports.suite_figures import forest_figure, group_figures, reliability_figure, spread_figures, suite_forest
from auditor.reports.text import humanise
from auditor.reports.transcripts import Counts, groups_of, headline_scorers, metric_of
from auditor.reports.turning import turning_figures
from auditor.reports.view import Facts, Page, SuiteView, finding, forest_row, grouped, metric_line
from auditor.schema import Comparison, Metric, Suite, Verdict
from auditor.store import Store, StoredRun

NO_TEXT = "This version of the auditor has no text for this suite."
MOST_KEY_ROWS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Everything read from the store about the run, with the suites' texts."""

    store: Store
    run: StoredRun
    metrics: tuple[Metric, ...]
    verdicts: tuple[Verdict, ...]
    suites: Mapping[str, Suite]
    redact: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The run's suites in the order they were asked for, then any other that has results."""
        found = [m.suite for m in self.metrics] + [suite_of(v) for v in self.verdicts]
        return tuple(dict.fromkeys((*self.run.spec.suites, *(name for name in found if name != GATE))))


def suite_of(verdict: Verdict) -> str:
    return verdict.criterion.metric.partition(".")[0]


def split_gate(verdicts: Sequence[Verdict]) -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts on the judge, and those on the audited model: only the latter count."""
    return [v for v in verdicts if suite_of(v) == GATE], [v for v in verdicts if suite_of(v) != GATE]


def build_page(store: Store, run_id: str, *, suites: Mapping[str, Suite], redact: bool = False,
               others: Mapping[str, Sequence[Comparison]] | None = None) -> Page:
    """The view model of a run (an id, the beginning of one, or ``latest``) and of ``others`` with their differences from it.

    Raises UnknownNameError for an unknown run, and InputError for an ambiguous one.
    """
    run = store.run(run_id)
    gate, verdicts = split_gate(store.verdicts(run.run_id))
    place = {name: k for k, name in enumerate(run.spec.suites)}
    verdicts.sort(key=lambda v: place.get(suite_of(v), len(place)))
    source = Source(store=store, run=run, metrics=tuple(store.metrics(run.run_id)), verdicts=tuple(verdicts), suites=suites, redact=redact)
    sections = tuple(_suite_view(source, name, k) for k, name in enumerate(source.names, 1))
    findings = [f for section in sections for f in section.findings]
    runs = [run, *(store.run(other) for other in others or ())]
    first = [*(v.criterion.metric for v in source.verdicts), *(m.key for name in source.names for m in source.metrics if m.suite == name)]
    counts = Counter(v.outcome for v in source.verdicts)
    return Page(
        run=run,
        model=run.spec.model.uri,
        date=environment.date(run.created),
        headline=wording.headline(source.verdicts),
        counts=tuple((outcome, counts[outcome]) for outcome in wording.ORDER),
        groups=grouped(findings),
        summary_p=wording.summary_p(source.verdicts),
        suites=sections,
        overview=_overview(sections),
        key_figure=_key_figure(source),
        loop=loop_figure(sections),
        stages=stages(sections),
        unplaced=tuple((s.title, s.stage) for s in sections if s.findings and not stages_of(s.stage)),
        not_evidence=environment.not_evidence(run),
        notice=wording.sentence(run.notice) if run.notice else "",
        judge=judge_view(run, source.metrics, source.verdicts, gate),
        setup=environment.setup(run),
        settings=environment.settings(run),
        packages=environment.packages(run),
        hashes=environment.hashes(run),
        carried=_carried(source, others or {}),
        earlier=_earlier(source),
        comparison=comparison(store, runs, first, [one for found in (others or {}).values() for one in found]),
        redact=redact,
    )


def _carried(source: Source, others: Mapping[str, Sequence[Comparison]]) -> str:
    """What is needed to make the page again: of each other run also whether its differences were given."""
    beside = [[run.run_id, run.head, bool(others[name])] for name in others for run in [source.store.run(name)]]
    verdicts = source.store.verdicts(source.run.run_id)
    return evidence.carried(kind="audit", run=source.run.run_id, head=source.run.head, options={"redact": source.redact, "with": beside},
                            numbers=evidence.numbers_of(source.metrics, verdicts), renderer=evidence.renderer(source.suites))


def _title(source: Source, name: str) -> str:
    suite = source.suites.get(name)
    return suite.title if suite is not None else humanise(name)


def _suite_view(source: Source, name: str, position: int) -> SuiteView:
    suite = source.suites.get(name)
    metrics = [m for m in source.metrics if m.suite == name]
    verdicts = [v for v in source.verdicts if suite_of(v) == name]
    hidden = source.redact and (suite is None or suite.harmful)
    versions = dict(zip(source.run.spec.suites, source.run.spec.suite_versions, strict=False))
    suite_id = f"suite-{position}"
    counts = source.store.counts(source.run.run_id, name)
    return SuiteView(
        id=suite_id,
        position=position,
        name=name,
        title=_title(source, name),
        question=suite.question if suite is not None else NO_TEXT,
        method=suite.method if suite is not None else "",
        limits=suite.limits if suite is not None else "",
        reference=wording.sentence(suite.reference) if suite is not None else "",
        stage=wording.sentence(suite.feedback_stage) if suite is not None else "",
        version=versions.get(name, ""),
        findings=tuple(finding(v, suite_id, _title(source, name)) for v in verdicts),
        lines=tuple(metric_line(m) for m in metrics),
        figures=tuple(_figures(source, name, metrics, verdicts, counts)),
        transcripts=() if hidden or suite is None else groups_of(source.store, source.run.run_id, suite, metrics, counts),
        unscored=_unscored(counts),
        redacted=hidden,
        note=""
        if suite is None or not versions.get(name) or suite.version == versions[name]
        else f"The texts here are those of version {suite.version}; the run used version {versions[name]}.",
    )


def _figures(source: Source, name: str, metrics: Sequence[Metric], verdicts: Sequence[Verdict], counts: Counts) -> list[Figure]:
    suite = source.suites.get(name)
    forest = suite_forest(metrics, verdicts)
    spreads: list[Figure] = []
    if suite is not None:
        scorers = headline_scorers(suite, metrics, counts)
        units = {scorer: (found.unit if (found := metric_of(scorer, metrics)) is not None else "") for scorer in scorers}
        spreads = spread_figures(source.store, source.run.run_id, name, units)
    first = [figure for figure in (forest, reliability_figure(metrics)) if figure is not None]
    return [*first, *turning_figures(metrics), *group_figures(metrics, suite), *spreads]


def _unscored(counts: Counts) -> Facts:
    """Scorers with samples that got no value: ``refused 3, error 1 (of 200)``."""
    facts = []
    for scorer, statuses in counts.items():
        missing = {status: n for status, n in statuses.items() if status != "scored" and n}
        if missing:
            listing = ", ".join(f"{status} {n:,}" for status, n in missing.items())
            facts.append((humanise(scorer), f"{listing} (of {sum(statuses.values()):,})"))
    return tuple(facts)


def _overview(sections: Sequence[SuiteView]) -> Figure | None:
    """All verdicts as symbols, suite by suite."""
    rows = [(s.title, [f.outcome for f in s.findings]) for s in sections if s.findings]
    if not rows:
        return None
    table = Table(
        headers=("Suite", *wording.WORDS.values()),
        rows=tuple((name, *(str(outcomes.count(o)) for o in wording.WORDS)) for name, outcomes in rows),
    )
    note = "One symbol for each criterion. Square: fails. Disc: passes. Diamond: inconclusive. Dashed ring: not assessed."
    return drawn(
        partial(diagrams.dots, rows),
        caption="All verdicts, suite by suite",
        table=table,
        note=note,
        alt=f"One symbol per criterion for {numbers.plural(len(rows), 'suite')}. The table below counts them.",
    )


def _key_figure(source: Source) -> Figure | None:
    order = {outcome: k for k, outcome in enumerate(wording.ORDER)}
    decided = sorted(source.verdicts, key=lambda v: order[v.outcome])
    rows: list[Row] = [row for v in decided if (row := forest_row(v, _title(source, suite_of(v)))) is not None]
    return forest_figure(rows[:MOST_KEY_ROWS], "Every measurement that a criterion asks for, against its bound")


def _earlier(source: Source) -> tuple[tuple[str, ...], ...]:
    """Earlier runs of the same weights in this store: id, date, profile, status, verdicts."""
    weights = source.run.spec.model.weights_hash
    if not weights:
        return ()
    earlier = source.store.earlier_runs(weights, source.run.created)
    return tuple(
        (
            r.run_id,
            environment.date(r.created),
            r.spec.profile + (f", limit {r.spec.limit}" if r.spec.limit is not None else ""),
            r.status,
            wording.headline(split_gate(source.store.verdicts(r.run_id))[1]),
        )
        for r in earlier
    )
