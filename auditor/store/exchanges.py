"""What a run asked and what it was answered, read back to be scored again."""

from __future__ import annotations

from pathlib import Path

from auditor.schema import Reply
from auditor.store import codec
from auditor.store.database import connect

ASKED = ("kind", "messages", "options", "sampling")  # columns in the order of codec.asked
Key = tuple[str, str, int, int, int]


def exchanges(database: Path, run_id: str) -> dict[Key, tuple[tuple[str, ...], Reply]]:
    """By (suite, sample, epoch, turn, slot): what was asked, as :func:`auditor.store.codec.asked` writes it, and the reply."""
    with connect(database, read_only=True) as connection:
        cursor = connection.execute("SELECT * FROM generation WHERE run_id = ?", [run_id])
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return {(row["suite"], row["sample_id"], row["epoch"], row["turn"], row["slot"]): (tuple(row[name] for name in ASKED), codec.reply_from_row(row))
            for row in rows}
