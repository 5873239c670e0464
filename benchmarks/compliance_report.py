"""How long the reports of a run with 100,000 samples take, how large they are, and how soon Chromium shows them. Targets: 10 s, 10 MB, 2 s.

    python benchmarks/compliance_report.py                 # makes a database, measures, leaves nothing behind
    python benchmarks/compliance_report.py --keep DIR      # keeps the database and the pages

The run holds five of the shipped suites with 20,000 samples each and four scores a sample, every metric and criterion that those suites have,
and three earlier runs of the same weights. Each time is that of the whole command, from its start to its end; the processor's
time stands beside it for machines that do something else meanwhile. Chromium's time is from opening
the file to the end of its load event, the median and the best of five in a fresh page each; without a browser it is left out, and said so.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from store_million import SUITES, batches, make_replies, make_samples, make_scores

from auditor.engine.suites import load_suite
from auditor.schema import ConfidenceInterval, Context, Metric, ModelSpec, RunRecord, RunSpec, SuiteData
from auditor.store import RunWriter
from auditor.verdict import decide_all

SAMPLES = 100_000
BATCH = 5_000
SECONDS, MEGABYTES, OPEN = 10.0, 10.0, 2.0
RUN = "hundred-thousand"
MODEL = ModelSpec(uri="benchmark", weights_hash="ab" * 32, lineage={
    "history": ["sft", "reward", "ppo"], "data_hashes": {f"data-{k}.jsonl": f"{k:064x}" for k in range(20)},
    "rewards": [{"name": f"part {k}", "kind": "model", "weight": 1.0, "uri": f"out/{k}", "weights_hash": f"{k:064x}"} for k in range(8)]})
FORMS = {
    "audit report": (), "EU AI Act": ("--standard", "eu-ai-act"), "NIST AI RMF": ("--standard", "nist-ai-rmf"), "ISO/IEC 42001": ("--standard", "iso-42001"),
    "JSON": ("--standard", "eu-ai-act", "--format", "json"), "model card": ("--format", "markdown"),
}


def make_metrics(name: str, n: int, draw: random.Random) -> list[Metric]:
    """Every metric of a shipped suite, with values of their own."""
    suite = load_suite(name)
    empty = suite.aggregate(SuiteData(samples=tuple(suite.load(None)), replies={}, scores=(), context=Context()))
    metrics = []
    for metric in empty:
        value = draw.random()
        ci = ConfidenceInterval(low=value - 0.01, high=value + 0.01, method="cluster-robust Wilson")
        metrics.append(Metric(suite=name, name=metric.name, value=value, ci=ci, group=metric.group, n=n, n_clusters=n // 5, unit=metric.unit,
                              higher_is_better=metric.higher_is_better, design_effect=1.2))
    return metrics


def write_run(database: Path, run_id: str, created: str, n: int) -> None:
    """A run of ``n`` samples a suite with all results."""
    draw = random.Random(run_id)
    criteria = tuple(criterion for name in SUITES for criterion in load_suite(name).criteria)
    spec = RunSpec(suites=SUITES, suite_versions=("1",) * len(SUITES), model=MODEL, criteria=criteria)
    with RunWriter.create(database, RunRecord(run_id=run_id, spec=spec, created=created, packages={"torch": "2.13.0"})) as writer:
        metrics: list[Metric] = []
        for name in SUITES:
            samples = make_samples(name, n)
            for chunk in batches(samples, BATCH):
                writer.samples(name, chunk)
                writer.replies(name, "model", make_replies(name, chunk, draw))
                writer.scores(name, make_scores(chunk, draw))
            metrics += make_metrics(name, n, draw)
        writer.metrics(metrics)
        writer.verdicts(decide_all(criteria, metrics))
        writer.finish()


def make_page(database: Path, options: Sequence[str], out: Path) -> tuple[float, float]:
    """Seconds that `auditor report` takes, from its start to its end: by the clock, and of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "auditor", "report", RUN, "--db", str(database), *options, "-o", str(out)], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def open_page(out: Path, times: int = 5) -> tuple[float, float] | None:
    """Median and least seconds until Chromium has loaded the page; None without Chromium or playwright."""
    executable = os.environ.get("AUDITOR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if executable is None:
        return None
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(times):
            page = browser.new_page()
            started = time.perf_counter()
            page.goto(out.as_uri(), wait_until="load")
            found.append(time.perf_counter() - started)
            page.close()
        browser.close()
    return statistics.median(found), min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the database and the pages here")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="samples of the run (default: 100,000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / "reports.duckdb"
        if not database.exists():
            for k in range(3):
                write_run(database, f"earlier-{k}", f"2026-01-0{k + 1}T00:00:00+00:00", 40)
            write_run(database, RUN, "2026-02-01T00:00:00+00:00", arguments.samples // len(SUITES))
        raise SystemExit(0 if min([measure(database, folder, name, options) for name, options in FORMS.items()]) else 1)


def measure(database: Path, folder: Path, name: str, options: Sequence[str]) -> bool:
    """Make one form of the report, print what it took, and say whether the targets are met."""
    kind = {"JSON": "json", "model card": "md"}.get(name, "html")
    out = folder / f"{name.lower().replace(' ', '-').replace('/', '-')}.{kind}"
    seconds, processor = make_page(database, options, out)
    shown = open_page(out) if kind == "html" else None
    megabytes = out.stat().st_size / 1e6
    loaded = "Chromium not measured: none was found" if shown is None else f"opened in {shown[0]:.2f} s (target {OPEN:.0f} s; best {shown[1]:.2f} s)"
    print(f"{name}: {seconds:.1f} s (target {SECONDS:.0f} s; processor {processor:.1f} s), {megabytes:.2f} MB (target {MEGABYTES:.0f} MB)"
          + (f", {loaded}" if kind == "html" else ""), flush=True)
    return seconds <= SECONDS and megabytes <= MEGABYTES and (shown is None or shown[0] <= OPEN)


if __name__ == "__main__":
    main()
