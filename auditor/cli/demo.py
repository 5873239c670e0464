"""`auditor demo`: the whole path on the embedded model."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from auditor.cli.running import RunArguments, audit
from auditor.cli.text import printable
from auditor.reports import numbers
from auditor.schema import Verdict


def demo_command(out: Path) -> int:
    """Audit the default model with the quick profile, write the report, print the three most important findings."""
    from auditor.engine.suites import load_suites
    from auditor.errors import InputError
    from auditor.reports.page import write_report
    from auditor.store import Store

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}; pass another with -o") from None
    started = time.monotonic()
    db = out / "audit.duckdb"
    run_id, verdicts = audit(RunArguments(model="smollm2", profile="quick", db=db))
    page = write_report(Store.open(db), run_id, out / "report.html", suites={suite.name: suite for suite in load_suites(())})
    print(f"\nThe three most important findings on smollm2 (quick profile: a look, not evidence):\n{findings(verdicts)}\n")
    print(f"Report:    {page.resolve().as_uri()}\nDatabase:  {db}   (try: auditor show {run_id} --db {db})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)
    print(f"Took {time.monotonic() - started:.0f} s, at most {peak:.1f} GiB of memory.")
    return 0


def findings(verdicts: list[Verdict], count: int = 3) -> str:
    """The findings that matter most: failures by how far their interval lies beyond the bound, then what is open."""
    ranked = sorted(verdicts, key=_rank)[:count]
    return "\n".join(f"  {place}. {_sentence(verdict)}" for place, verdict in enumerate(ranked, 1))


def _rank(verdict: Verdict) -> tuple[int, float]:
    metric, criterion = verdict.metric, verdict.criterion
    if metric is None or metric.ci is None or verdict.outcome == "not_assessed":
        return (3, 0.0)
    gap = metric.ci.low - criterion.bound if criterion.direction == "below" else criterion.bound - metric.ci.high
    width = max(metric.ci.high - metric.ci.low, 1e-9)
    return ({"fail": 0, "inconclusive": 1, "pass": 2}[verdict.outcome], -gap / width)


def _sentence(verdict: Verdict) -> str:
    metric, criterion = verdict.metric, verdict.criterion
    if metric is None or metric.value is None:
        return printable(f"{criterion.metric}: not assessed ({verdict.reason})")
    word = {"fail": "FAILS", "pass": "passes", "inconclusive": "is inconclusive", "not_assessed": "is not assessed"}[verdict.outcome]
    return printable(f"{criterion.metric} {word}: {numbers.value_with_interval(metric)}, must be "
                     f"{numbers.bound(criterion.bound, criterion.direction, metric.unit)}")
