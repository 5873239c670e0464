"""`auditor verify`: whether a run's rows, or a report's page, are what was recorded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from auditor.cli.output import check_format, print_json
from auditor.cli.text import printable
from auditor.errors import InputError
from auditor.schema import to_dict
from auditor.store import Store
from auditor.store.verify import Verification

SELF_CONSISTENT = ("self-consistent only: someone who can write this file could have rebuilt the whole chain; "
                   "pass --head with a head kept elsewhere (a log, a signed file)")
_HEAD = re.compile("[0-9a-f]{64}")


def verify_command(db: Path, target: str, head: str | None, output: str) -> int:
    """Check a run or a report and return 0 where everything agrees, 1 where something does not."""
    check_format(output)
    expected = _checked(head) if head is not None else None
    store = Store.open(db)
    path = Path(target)
    if path.is_file() or path.suffix.lower() in (".html", ".htm"):
        return _verify_report(store, path, expected, output)
    found = store.verify(target, expected)
    if output == "json":
        print_json(verification_object(found))
    else:
        print_verification(found)
    return 0 if found.agrees else 1


def _verify_report(store: Store, path: Path, expected: str | None, output: str) -> int:
    """Check the page, then the rows of every run on it; a run without a chain is an error where the page itself is all right."""
    from auditor.cli.verifying_report import UNDECIDED, check_report, print_check, runs_shown

    check = check_report(store, path)
    runs, unsealed = [], ""
    for run in runs_shown(check.carried):
        try:
            runs.append(store.verify(run, expected if run == check.carried.run else None))
        except InputError as error:
            unsealed = unsealed or str(error)
    agrees = check.agrees and all(found.agrees for found in runs)
    if output == "json":
        print_json({"agrees": agrees and check.comparable and not unsealed, "report": check.as_object(), "runs": [verification_object(found) for found in runs],
                    "not_sealed": unsealed or None})
    else:
        print_check(check)
        for found in runs:
            print_verification(found, beside=found.run_id != check.carried.run)
    if agrees and unsealed:
        raise InputError(unsealed)
    return 1 if not agrees else 0 if check.comparable else UNDECIDED


def _checked(head: str) -> str:
    if not _HEAD.fullmatch(head.strip().lower()):
        raise InputError(f"--head {head!r} is no head: pass the 64 hexadecimal digits that `auditor run` or `auditor show` printed")
    return head.strip().lower()


def verification_object(found: Verification) -> dict[str, Any]:
    """What came of checking a run, as JSON-ready data."""
    return {"run_id": found.run_id, "agrees": found.agrees, "self_consistent_only": found.expected is None, "head": found.head,
            "expected_head": found.expected, "rows": dict(found.rows), "counts": dict(found.counts),
            "differences": [to_dict(one) for one in found.differences], "chain": list(found.chain)}


def print_verification(found: Verification, *, beside: bool = False) -> None:
    """What came of checking a run, for people; nothing that was stored reaches the terminal as it is. No ``--head`` is for a run ``beside`` it."""
    rows = f"{sum(found.rows.values()):,} rows"
    if found.agrees:
        print(printable(f"run {found.run_id}: {rows} agree with the hash chain ({', '.join(f'{name} {n:,}' for name, n in found.rows.items())})"))
        print(printable(f"head {found.head}" + (", as given" if found.expected else "")))
    else:
        what = ", ".join(f"{n:,} {kind}" for kind, n in found.counts.items()) + f" ({rows})" if found.counts else "the chain itself is not what it was"
        print(printable(f"run {found.run_id} DOES NOT AGREE: {what}"))
        for one in found.differences:
            print(printable(f"  {one.kind:8s} {one.table:10s} {' · '.join(map(str, one.key))}{': ' + one.detail if one.detail else ''}").replace("\n", "\\n"))
        more = sum(found.counts.values()) - len(found.differences)
        if more:
            print(f"  and {more:,} more")
        for problem in found.chain:
            print(printable(f"  chain    {problem}"))
    if found.expected is None and not beside:
        print(SELF_CONSISTENT)
