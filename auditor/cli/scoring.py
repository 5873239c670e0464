"""`auditor score`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def score_command(db: Path, name: str, suites: Sequence[str], strict: bool, output: str) -> int:
    """Score a run's stored replies again, print the new run, and return the exit code of its verdicts."""
    from auditor.cli.output import check_format, print_run
    from auditor.cli.watching import Watching
    from auditor.engine.rescore import rescore
    from auditor.verdict import exit_code

    check_format(output)
    with Watching() as progress:
        run_id, verdicts, unasked = rescore(db, name, suites, progress)
    if unasked:
        print(f"note: {unasked} requests of today's suites were not asked in that run; their scores are missing and counted", file=sys.stderr)
    print_run(db, run_id, output)
    return exit_code(verdicts, strict)
