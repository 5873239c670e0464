"""`auditor runs`, `auditor show`, `auditor report`: what the store holds."""

from __future__ import annotations

import sys
from pathlib import Path

from auditor.cli.output import check_format, print_json, print_run, table
from auditor.cli.text import short
from auditor.reports.environment import to_the_second
from auditor.schema import to_dict
from auditor.store import Store


def runs_command(db: Path, output: str) -> None:
    """List all runs, the newest last."""
    check_format(output)
    runs = Store.open(db).runs()
    if output == "json":
        print_json({"runs": [{"run_id": run.run_id, "model": run.spec.model.uri, "status": run.status, "created": run.created, "profile": run.spec.profile,
                              "limit": run.spec.limit, "evidence": run.evidence, "suites": to_dict(run.spec.suites), "pending": run.pending,
                              "head": run.head} for run in runs]})
        return
    rows = [(run.run_id, short(run.spec.model.uri), run.status, to_the_second(run.created),
             run.spec.profile + (f", limit {run.spec.limit}" if run.spec.limit else ""), ", ".join(run.spec.suites)) for run in runs]
    table(f"Runs in {db}", ("run", "model", "status", "created", "profile", "suites"), rows)


def show_command(db: Path, name: str, samples: bool, output: str) -> None:
    """Print one run."""
    check_format(output)
    print_run(db, Store.open(db).run(name).run_id, output, samples=samples)


def report_command(db: Path, name: str, out: Path | None, beside: list[str], redact: bool) -> None:
    """Write the report and say where it is."""
    from auditor.compare.beside import compare_runs
    from auditor.engine.suites import load_suites
    from auditor.reports.page import write_report

    store = Store.open(db)
    run = store.run(name)
    if run.notice:
        print(f"note: {run.notice}", file=sys.stderr)
    others = [store.run(other).run_id for other in beside]
    suites = {suite.name: suite for suite in load_suites(())}
    paired = {other: compare_runs(store, run.run_id, other) if other != run.run_id else [] for other in others}
    path = write_report(store, run.run_id, out or Path(f"{run.run_id}.html"), suites=suites, redact=redact, others=paired)
    print(path)
