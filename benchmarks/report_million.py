"""How long the report of a run with 1,000,000 scores takes, and how large it is. Targets: 15 s, 10 MB.

python benchmarks/store_million.py --keep big.duckdb   # makes the database, once
python benchmarks/report_million.py big.duckdb
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from auditor.reports import write_report
from auditor.schema import Suite
from auditor.store import Store

SECONDS, MEGABYTES = 15.0, 10.0


def texts(name: str) -> Suite:
    """A suite as far as a report needs one."""
    nothing = dict.fromkeys(("load", "solve", "score", "aggregate"), lambda *_: [])
    return Suite(
        name=name,
        version="1",
        title=name.title(),
        question="?",
        method="",
        limits="",
        reference="",
        feedback_stage="Reward",
        criteria=(),
        **nothing,
    )  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path)
    parser.add_argument("-o", "--out", type=Path, help="keep the report here")
    arguments = parser.parse_args()
    started = time.perf_counter()
    store = Store.open(arguments.database)
    run = store.run("latest")
    with tempfile.TemporaryDirectory() as folder:
        out = write_report(
            store, run.run_id, arguments.out or Path(folder) / "report.html", suites={name: texts(name) for name in run.spec.suites}
        )
        megabytes = out.stat().st_size / 1e6
    seconds = time.perf_counter() - started
    scores = sum(n for suite in run.spec.suites for counts in store.counts(run.run_id, suite).values() for n in counts.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{scores:,} scores: report in {seconds:.1f} s (target {SECONDS:.0f} s), {megabytes:.2f} MB (target {MEGABYTES:.0f} MB), "
        f"peak memory {memory:.2f} GiB"
    )
    raise SystemExit(0 if seconds <= SECONDS and megabytes <= MEGABYTES else 1)


if __name__ == "__main__":
    main()
