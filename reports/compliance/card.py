"""The model card: the report as Markdown, in the order of Mitchell et al. 2019 (arXiv 1810.03993), with a standard's provisions where one is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.reports import environment
from auditor.reports.compliance import lines
from auditor.reports.compliance.about import LABELS, NOT_STATED, stated
from auditor.reports.compliance.lines import Line, line
from auditor.reports.compliance.markdown import bullets, code, table, text
from auditor.reports.compliance.model import Compliance, Measurement
from auditor.reports.compliance.provenance import groups_of_items, outcomes_text, shapers

DETAILS = ("version", "provider", "role", "owner", "contact", "licence")
USE = ("intended_purpose", "intended_users", "affected_people", "deployment", "languages", "out_of_scope", "human_oversight")
LIMITS = ("known_risks", "limits")
OTHER = ("monitoring", "incidents")


def render(report: Compliance) -> str:
    """The card's Markdown, with a final newline."""
    heads = [f"# Model card: {text(lines.name_of(report))}", _notice(report)]
    parts = [_section(title, body) for title, body in (
        ("Model details", _details(report)), ("Intended use", _stated(report, USE)), ("Training", _training(report)), ("Factors", _factors(report)),
        ("Evaluation", _evaluation(report)), ("Measurements", _measurements(report)), ("What was not tested", _gaps(report)),
        ("Limits and risks", _limits(report)), ("Questions about the feedback", _questions(report)), (_standard_title(report), _controls(report)),
        ("Provenance", _provenance(report)), ("Other runs of the same weights", _others(report)), ("After release", _stated(report, OTHER)),
        ("Sign-off", _sign_off(report))) if body]
    return "\n\n".join([*heads, *parts]) + "\n"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _notice(report: Compliance) -> str:
    stamp = f"> **NOT EVIDENCE.** {text(report.not_evidence)}\n>\n" if report.not_evidence else ""
    return f"{stamp}> {text(lines.statement(report))}\n\n**{text(lines.headline(report))}**"


def _stated(report: Compliance, names: Sequence[str]) -> str:
    said = {name: stated(report.about, name) for name in names}
    missing = ", ".join(LABELS[name].lower() for name in names if not said[name])
    return bullets([*(f"**{LABELS[name]}**: {text(words)}" for name, words in said.items() if words), *([f"*Not stated*: {missing}"] if missing else [])])


def _details(report: Compliance) -> str:
    facts = [f"**{label}**: {code(value)}" for label, value in lines.facts_of_run(report) if label in ("Model", "Weights, SHA-256", "Chat template, SHA-256")]
    return f"{_stated(report, DETAILS)}\n{bullets(facts)}"


def _training(report: Compliance) -> str:
    lineage = report.run.spec.model.lineage
    facts = [f"**{label}**: {text(value)}" for label, value in environment.lineage_facts(lineage) if label != "Training data"]
    data = [(code(uri), code(digest)) for uri, digest in sorted(lineage.get("data_hashes", {}).items())]
    parts = [(text(kind), code(name), code(digest)) for kind, name, digest in shapers(lineage)]
    found = [bullets([f"**Training data, in the owner's words**: {text(stated(report.about, 'training_data') or NOT_STATED)}", *facts])]
    found += [table(("Training data", "SHA-256"), data)] if data else []
    found += [table(("Judge or reward that shaped it", "Model", "Weights, SHA-256"), parts)] if parts else []
    return "\n\n".join(found if lineage else [*found, "No lineage is recorded: how these weights were trained is unknown to the store."])


def _factors(report: Compliance) -> str:
    groups = groups_of_items(report.metrics)
    told = f"Results were split by: {', '.join(code(group) for group in groups)}." if groups else "No result was split by group."
    return told + " No demographic group of people was compared."


def _evaluation(report: Compliance) -> str:
    rows = [(code(item.suite), text(item.version or "–"), f"{item.n:,}", f"{item.n_clusters:,}", code(item.sha256),
             f"{code(item.file)}, {code(item.file_sha256)}" if item.file else "shipped") for item in report.items]
    return table(("Suite", "Version", "Items", "Clusters", "SHA-256 of the items", "Own file"), rows) + f"\n\n**Judge**: {text(report.judge_fact.text)}."


def _measurements(report: Compliance) -> str:
    if not report.measurements:
        return "No criterion was set for this run, so nothing was decided."
    titles = dict(report.titles)
    rows = [_row(line(one, titles)) for one in report.measurements]
    heads = ("Verdict", "Suite", "Measurement", "Value", "95 % interval", "n", "Clusters", "Unscored", "Must be", "p", "Holm p", "Judge")
    notes = [f"**{text(one.label)}**: {text(_why(one))}" for one in (line(found, titles) for found in report.measurements)]
    return ("Each verdict uses its own 95 % interval; the adjusted p governs only the statement that at least one criterion fails.\n\n"
            f"{table(heads, rows)}\n\nWhy these bounds:\n\n{bullets(notes)}")


def _row(one: Line) -> tuple[str, ...]:
    return tuple(text(cell) for cell in (one.verdict, one.suite, one.label, one.value, one.interval, one.n, one.clusters, one.unscored, one.bound, one.p,
                                         one.p_adjusted, one.judge))


def _why(one: Line) -> str:
    return " ".join(filter(None, (one.reason, one.rationale, f"Source: {one.source}.", *one.notes)))


def _gaps(report: Compliance) -> str:
    return "\n\n".join(f"### {text(group.title)}\n\n" + bullets([f"**{text(what)}**: {text(why or 'open')}" for what, why in group.gaps])
                       for group in report.gaps)


def _limits(report: Compliance) -> str:
    return f"{_stated(report, LIMITS)}\n{bullets([f'**{text(title)}**: {text(body)}' for title, body in report.limits])}"


def _questions(report: Compliance) -> str:
    found = []
    for k, one in enumerate(report.questions, 1):
        told = [f"{text(fact.label)}: {text(fact.text)}" for fact in one.facts] + [_short(row, report) for row in one.measurements]
        told += [f"The owner states: {text(one.stated)}"] if one.stated else []
        told += [f"Open: {text(one.open)}"] if one.open else []
        found.append(f"### {k}. {text(one.question)} {text(lines.STANDING[one.standing])}\n\n{bullets(told)}")
    return "\n\n".join(found)


def _short(one: Measurement, report: Compliance) -> str:
    told = line(one, dict(report.titles))
    return text(f"{told.suite}, {told.label}: {told.value} ({told.interval}), n = {told.n}, {told.verdict.lower()}")


def _standard_title(report: Compliance) -> str:
    return text(report.standard.title) if report.standard is not None else ""


def _controls(report: Compliance) -> str:
    if report.standard is None:
        return ""
    rows = [(text(one.control.number), text(one.control.title), lines.COVERAGE[one.coverage], text(lines.counts_text(one.measurements) or "none"),
             text(one.control.missing)) for one in report.controls]
    about = f"{text(report.standard.reference)}, <{report.standard.source}>, as of {report.standard.as_of}. {text(report.standard.note)}"
    heads = (report.standard.noun.capitalize(), "Short title", "Coverage", "Verdicts that bear on it", "Not shown here")
    return f"{about}\n\n{table(heads, rows)}"


def _provenance(report: Compliance) -> str:
    return bullets([f"**{label}**: {code(value)}" for label, value in lines.facts_of_run(report)])


def _others(report: Compliance) -> str:
    rows = [(code(run.run_id) + (" (later)" if run.later else ""), text(environment.to_the_second(run.created)), text(run.profile), text(run.status),
             text(outcomes_text(run.outcomes)), ", ".join(code(name) for name in run.failed) or "–") for run in report.others]
    known = bool(report.run.spec.model.weights_hash)
    return table(("Run", "Started", "Profile", "Status", "Verdicts", "Failed"), rows) if rows else (
        "None in this store." if known else "Unknown: this run has no hash of the weights.")


def _sign_off(report: Compliance) -> str:
    who = report.about.reviewer
    return table(("Name", "Role", "Date", "Decision", "Signature"), [(text(who.name) or "…", text(who.role) or "…", "…", "…", "…")])
