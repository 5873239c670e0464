"""How long `auditor verify` takes for a run of 1,000,000 rows, and how much of that is hashing. Target: 20 s.

    python benchmarks/verify_million.py                 # makes a run shaped like that of store_million.py, verifies it, leaves nothing behind
    python benchmarks/verify_million.py big.duckdb      # verifies the latest run of a database, whatever its size

Reading the same rows without hashing them is timed too, in the same order: the ratio says what the chain costs. On a machine that does other
things at the same time the processor's seconds say more than the wall's; both are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import tempfile
from pathlib import Path
from types import ModuleType

from auditor.store import Store
from auditor.store.chain import CHAINED, read_batches
from auditor.store.database import connect

ROWS, TARGET = 1_000_000, 20.0
ROWS_A_SCORE = 1.5  # of the run that store_million.py makes: four scores, a sample and a reply


def store_million() -> ModuleType:
    """The benchmark beside this one, for its run and its timer."""
    spec = importlib.util.spec_from_file_location("store_million", Path(__file__).with_name("store_million.py"))
    if spec is None or spec.loader is None:
        raise RuntimeError("store_million.py is missing beside verify_million.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_all(database: Path, run_id: str) -> int:
    """Read every row in the order of the chain, and nothing else."""
    with connect(database, read_only=True) as connection:
        return sum(batch.num_rows for table in CHAINED for batch in read_batches(connection, run_id, table))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, nargs="?", help="verify the latest run of this database")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the run that is made (default %(default)s)")
    arguments = parser.parse_args()
    other = store_million()
    with tempfile.TemporaryDirectory() as folder:
        database = arguments.database or Path(folder) / "million.duckdb"
        if arguments.database is None:
            other.write(database, int(arguments.rows / ROWS_A_SCORE))
        store = Store.open(database)
        run_id = store.run("latest").run_id
        reading, verifying = other.Timer(), other.Timer()
        with reading:
            n = read_all(database, run_id)
        with verifying:
            found = store.verify(run_id)
    if not found.agrees or sum(found.rows.values()) != n:
        raise SystemExit(f"the run does not verify: {found}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"read   {n:,} rows: {reading.wall:6.2f} s, processor {reading.cpu:6.2f} s")
    print(f"verify {n:,} rows: {verifying.wall:6.2f} s, processor {verifying.cpu:6.2f} s, {n / verifying.wall:,.0f} rows/s "
          f"({n / verifying.cpu:,.0f} a processor second), peak memory {peak:.0f} MiB")
    said = "met" if verifying.wall <= TARGET else "met by the processor's time only: the machine was busy" if verifying.cpu <= TARGET else "missed"
    print(f"verifying takes {verifying.cpu / reading.cpu:.1f} times the processor time of reading; target {TARGET:.0f} s {said}")
    raise SystemExit(0 if verifying.cpu <= TARGET else 1)


if __name__ == "__main__":
    main()
