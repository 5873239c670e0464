"""`auditor report --standard`, `--format json` and `--format markdown`: the compliance report and the model card."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import InputError

FORMATS = {"html": "html", "json": "json", "markdown": "md"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportArguments:
    """The options of `auditor report`."""

    run: str
    out: Path | None
    beside: tuple[str, ...]
    redact: bool
    db: Path
    standard: str | None
    about: Path | None
    draft: bool
    output: str


def report_command(arguments: ReportArguments) -> None:
    """Write the audit report, or the compliance report or card where a standard or another format is asked for."""
    if arguments.output not in FORMATS:
        raise InputError(f"unknown --format {arguments.output!r}; pass {', '.join(FORMATS)}")
    if arguments.standard is None and arguments.output == "html":
        _audit_report(arguments)
        return
    if arguments.beside or arguments.redact:
        option = "--with" if arguments.beside else "--redact"
        raise InputError(f"{option} belongs to the audit report: the compliance report and the model card hold one run and no transcript; leave it out")
    _compliance(arguments)


def _audit_report(arguments: ReportArguments) -> None:
    from auditor.cli.reading import report_command as audit_report

    if arguments.about is not None or arguments.draft:
        option = "--about" if arguments.about is not None else "--draft"
        raise InputError(f"{option} needs --standard, or --format json or markdown: the audit report takes nothing from it")
    if str(arguments.out) == "-":
        raise InputError("-o - is for --standard, or --format json or markdown; pass a file for the audit report")
    audit_report(arguments.db, arguments.run, arguments.out, list(arguments.beside), arguments.redact)


def _compliance(arguments: ReportArguments) -> None:
    from auditor.engine.suites import load_suites
    from auditor.reports.compliance import as_json, card, page
    from auditor.reports.compliance.about import About, read_about
    from auditor.reports.compliance.assemble import assemble
    from auditor.reports.compliance.model import Options
    from auditor.reports.page import write_atomically
    from auditor.store import Store

    about = read_about(arguments.about) if arguments.about is not None else About()
    options = Options(standard=arguments.standard or "", about=about, draft=arguments.draft)
    store = Store.open(arguments.db)
    with store.session():
        report = assemble(store, arguments.run, suites={suite.name: suite for suite in load_suites(())}, options=options)
    text = {"html": page.render, "json": as_json.render, "markdown": card.render}[arguments.output](report)
    if str(arguments.out) == "-":
        sys.stdout.write(text)
        return
    name = f"{report.run.run_id}{'-' + options.standard if options.standard else ''}.{FORMATS[arguments.output]}"
    print(write_atomically(arguments.out or Path(name), text))
