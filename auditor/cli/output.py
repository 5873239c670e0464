"""Printing a run, as text for people and as JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auditor.cli.text import printable, short, verdict_rows
from auditor.errors import InputError
from auditor.reports.numbers import interval, number
from auditor.schema import Metric, to_dict
from auditor.store import Store
from auditor.store.records import StoredRun


def check_format(output: str) -> None:
    if output not in ("text", "json"):
        raise InputError(f"unknown --format {output!r}; pass text or json")


def run_object(store: Store, run_id: str) -> dict[str, Any]:
    """The JSON object of a run: run_id, model, status, spec, environment, metrics, verdicts."""
    run = store.run(run_id)
    return {
        "run_id": run.run_id, "model": run.spec.model.uri, "status": run.status, "evidence": run.evidence, "created": run.created,
        "finished": run.finished, "head": run.head, "spec": {**to_dict(run.spec), "hash": run.spec.hash},
        "environment": {"git_commit": run.git_commit, "packages": dict(run.packages), "hardware": dict(run.hardware)},
        "metrics": [to_dict(metric) for metric in store.metrics(run.run_id)],
        "verdicts": [to_dict(verdict) for verdict in store.verdicts(run.run_id)],
    }


def print_run(db: Path, run_id: str, output: str, *, samples: bool = False) -> None:
    """Print a run in the chosen format, with every score if ``samples``."""
    store = Store.open(db)
    run = store.run(run_id)
    if output == "json":
        print_json(run_object(store, run.run_id), store.score_rows(run.run_id) if samples else None)
        return
    if run.notice:
        print(f"note: {run.notice}", file=sys.stderr)
    print_metrics(store, run)
    if samples:
        print_samples(store, run.run_id)


def print_json(found: dict[str, Any], rows: Any = None) -> None:
    """One JSON object; the scores are written one by one, because there may be a million."""
    if rows is None:
        print(json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False))
        return
    head = json.dumps(found, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(head[:-1] + ', "samples": [')
    for index, row in enumerate(rows):
        sys.stdout.write((", " if index else "") + "\n" + json.dumps(to_dict(row), ensure_ascii=False, allow_nan=False))
    sys.stdout.write("]}\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; cells are plain text, never markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(drawn)


def print_metrics(store: Store, run: StoredRun) -> None:
    metrics, verdicts = store.metrics(run.run_id), store.verdicts(run.run_id)
    rows = [_metric_row(metric) for metric in metrics]
    columns = ("suite", "metric", "value", "95 % interval", "n", "clusters", "unscored", "notes")
    table(f"Metrics of run {run.run_id}, model {short(run.spec.model.uri)}", columns, rows)
    table("Verdicts", ("verdict", "criterion", "measured", "must be"), verdict_rows(verdicts))
    if not run.evidence:
        print("NOT EVIDENCE: this run asked only a part of the items.")
    print(printable(f"head of the hash chain: {run.head or 'none, the run is not sealed'}"))


def _metric_row(metric: Metric) -> tuple[str, ...]:
    name = metric.name + ("" if metric.group == "all" else f" ({metric.group})")
    value = number(metric.value, metric.unit) if metric.value is not None else "–"
    counts = (str(metric.n), str(metric.n_clusters), str(metric.n_unscored))
    return (metric.suite, name, value, interval(metric.ci, metric.unit), *counts, "; ".join(filter(None, (metric.reason, *metric.flags))))


def print_samples(store: Store, run_id: str) -> None:
    for row in store.score_rows(run_id):
        value = row["value"] if row["value"] is not None else row["status"]
        print(printable(f"\n── {row['suite']} · {row['sample_id']} · {row['scorer']} = {value}"))
        for message in row["prompt"]:
            print(printable(f"{message['role']}: {message['content']}"))
        print(printable(f"→ {row['completion']}"))
