"""`auditor export` and `auditor import`: a run with its hash chain, from one database to another."""

from __future__ import annotations

from pathlib import Path

from auditor.cli.output import check_format, print_json
from auditor.cli.text import printable
from auditor.errors import InputError

FORMS = {"json": ".jsonl", "parquet": ""}


def export_command(db: Path, name: str, to: str, out: Path | None, output: str) -> None:
    """Verify a run and write it out."""
    from auditor.store import Store
    from auditor.store.database import connect
    from auditor.store.exporting import export_json, export_parquet, manifest

    check_format(output)
    if to not in FORMS:
        raise InputError(f"unknown --to {to!r}; pass {' or '.join(FORMS)}")
    run_id = Store.open(db).run(name).run_id
    out = out or Path(f"{run_id}{FORMS[to]}")
    with connect(db, read_only=True) as connection:
        found = (export_json if to == "json" else export_parquet)(connection, run_id, out)
    if output == "json":
        print_json({"path": str(out), **manifest(found)})
    else:
        print(printable(f"{out}: run {run_id}, {sum(found.rows.values()):,} rows and their hash chain, which holds\nhead {found.head}"))


def import_command(db: Path, path: Path, output: str) -> None:
    """Take a run over, or say that it is there."""
    from auditor.store.importing import import_run

    check_format(output)
    found = import_run(db, path)
    if output == "json":
        print_json({"run_id": found.run_id, "head": found.head, "rows": dict(found.rows), "imported": found.new})
    elif found.new:
        print(f"run {found.run_id}: {sum(found.rows.values()):,} rows imported into {db}; the hash chain holds: self-consistent only, "
              f"for whoever wrote the file could have made the whole chain. Hold the head against one that was kept elsewhere\nhead {found.head}")
    else:
        print(f"run {found.run_id} is in {db} already, with the same head: nothing to do\nhead {found.head}")
