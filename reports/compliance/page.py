"""The compliance report as one HTML file: the same policy, theme and neutralised text as the audit report, made to be printed and signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from auditor.reports import environment, evidence, glossary, wording
from auditor.reports.build import MOST_KEY_ROWS
from auditor.reports.compliance import lines
from auditor.reports.compliance.about import LABELS, stated
from auditor.reports.compliance.as_json import options_table
from auditor.reports.compliance.model import Compliance, ControlView, Measurement
from auditor.reports.compliance.provenance import outcomes_text, shapers
from auditor.reports.images import Figure
from auditor.reports.page import policy, template_environment, write_atomically
from auditor.reports.suite_figures import forest_figure
from auditor.reports.view import forest_row

_BOX = '@media print {{ @page {{ @{place} {{ content: "{text}"; font: {font}; color: {colour}; }} }} }}'
SHEET = _BOX.format(place="bottom-left", text="Evidence, not conformity", font="8pt sans-serif", colour="#4a5260")
DRAFT_SHEET = _BOX.format(place="top-right", text="NOT EVIDENCE", font="bold 11pt sans-serif", colour="#a3211a")
TERMS = ("Bound", "Cluster", "Confidence interval (95 %)", "Fail", "Inconclusive", "Judge", "Not assessed", "Not independent", "Pass", "Unscored")


def write_page(report: Compliance, out: Path) -> Path:
    """Write the page; an existing file is replaced in one step. Raises InputError if ``out`` cannot be written."""
    return write_atomically(Path(out), render(report))


def render(report: Compliance) -> str:
    """The page's HTML: a pure function of the report."""
    templates = template_environment()
    css = "\n".join([*(templates.get_template(name).render() for name in ("style.css", "compliance.css")), DRAFT_SHEET if report.not_evidence else SHEET])
    return templates.get_template("compliance.html").render(context(report) | {"css": Markup(css), "csp": policy(css)})


def context(report: Compliance) -> dict[str, Any]:
    """Everything that the template prints."""
    titles, lineage = dict(report.titles), environment.lineage_facts(report.run.spec.model.lineage)
    return {
        "page": report, "name": lines.name_of(report), "words": wording.WORDS, "coverages": lines.COVERAGE, "standings": lines.STANDING,
        "statement": lines.statement(report), "headline": lines.headline(report), "summary_p": wording.summary_p(report.verdicts),
        "date": environment.date(report.run.created), "counts": [(o, sum(one.outcome == o for one in report.measurements)) for o in wording.ORDER],
        "rows": [lines.line(one, titles) for one in report.measurements], "line": lambda one: lines.line(one, titles), "counted": lines.counts_text,
        "about": [(label, stated(report.about, name)) for name, label in LABELS.items() if stated(report.about, name)],
        "unstated": [label for name, label in LABELS.items() if not stated(report.about, name)],
        "identity": lines.facts_of_run(report), "lineage": lineage, "model": [fact for fact in environment.setup(report.run) if fact not in lineage],
        "data_hashes": sorted(report.run.spec.model.lineage.get("data_hashes", {}).items()), "shapers": shapers(report.run.spec.model.lineage),
        "packages": environment.packages(report.run), "outcomes_text": outcomes_text, "coverage_counts": _coverage(report.controls),
        "figure": _figure(report.measurements, titles), "terms": {term: glossary.TERMS[term] for term in TERMS}, "general_method": glossary.METHOD,
        "when": environment.date, "carried": _carried(report), "whole": lambda shown: "*" in shown.evidence.metrics,
    }


def _carried(report: Compliance) -> str:
    return evidence.carried(kind="compliance", run=report.run.run_id, head=report.chain_head, options=options_table(report),
                            numbers=evidence.numbers_of(report.metrics, report.verdicts), renderer=report.renderer)


def _coverage(controls: tuple[ControlView, ...]) -> list[tuple[str, str, int]]:
    return [(key, label, sum(one.coverage == key for one in controls)) for key, label in lines.COVERAGE.items()]


def _figure(rows: tuple[Measurement, ...], titles: dict[str, str]) -> Figure | None:
    order = {outcome: k for k, outcome in enumerate(wording.ORDER)}
    verdicts = sorted((one.verdict for one in rows if one.verdict is not None), key=lambda verdict: order[verdict.outcome])
    drawn = [row for v in verdicts if (row := forest_row(v, titles.get(v.criterion.metric.partition(".")[0], ""))) is not None]
    more = len(drawn) - MOST_KEY_ROWS
    caption = "Measurements against their bounds" + (f" (the first {MOST_KEY_ROWS} of {len(drawn)}, what fails first)" if more > 0 else "")
    return forest_figure(drawn[:MOST_KEY_ROWS], caption)
