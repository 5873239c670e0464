"""benchmarks/store_million.py in small: that it runs, and that what it keeps can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from auditor.store import Store

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "store_million.py"


def test_a_small_run_is_verified():
    done = subprocess.run([sys.executable, str(SCRIPT.with_name("verify_million.py")), "--rows", "3000"], capture_output=True, text=True, check=True)
    assert "verify 3,026 rows" in done.stdout


def test_a_small_run_of_the_benchmark(tmp_path):
    kept = tmp_path / "big.duckdb"
    command = [sys.executable, str(SCRIPT), "--scores", "2000", "--keep", str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2000 scores stored in" in done.stdout
    store = Store.open(kept)
    assert [(run.run_id, run.status) for run in store.runs()] == [("million", "done")]
    counts = [store.counts("million", suite) for suite in store.run("million").spec.suites]
    assert sum(sum(statuses.values()) for scorers in counts for statuses in scorers.values()) == 2000
    assert len(store.transcripts("million", "refusal", "accuracy")) == 5
