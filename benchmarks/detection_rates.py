"""How often does each suite detect a planted fault of a given dose, and how often does it raise a false alarm?

    python benchmarks/detection_rates.py                        # what is committed, and whatever cell is missing
    python benchmarks/detection_rates.py --suite refusal --simulations 300
    python benchmarks/detection_rates.py --again                # everything anew

Simulated models answer all shipped items through the suite's own solve and score (_organism.py): an imperfect parent, and a candidate that has the
suite's fault on each item with probability ``dose`` and else differs from its parent by noise. *Detected*: the 95 % interval of the paired
difference candidate − parent lies beyond zero for the worse; *beyond the margin*: beyond a change that matters, stated for each
measurement. *Fails*: the verdict on the criterion of that measurement is fail for the candidate and not for the parent (verbosity's and
diversity's criteria on a change from a baseline have the parent as that baseline). At dose 0 these are false alarms: at most 2.5 % of
simulations should lie beyond zero. FALSE_ALARM_FACTOR times as many simulations are drawn there.

Faults are planted only in the measurements of one suite, so that a suite which a fault should leave alone is left alone by construction:
this says nothing about faults that spill over, for which trained organisms are needed. Nor are the replies a real model's: the rates say
what the shipped number of items and the intervals can see.

A cell (suite, dose) is written to benchmarks/results/detection_rates.json when it is done; a later run goes on from there and adds what is
missing to the number of simulations asked for. Where the suite's items, version or criteria or the simulated models changed, it begins anew.
The figure is docs/figures/detection_rates.svg.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _detection_report import figure, table
from _organism import NOISE, SHARED, VARIANTS, Design, Measured, Organisms, Picks

from auditor.items import shipped
from auditor.schema import Score
from auditor.stats import MetricBuilder
from auditor.verdict import decide

RESULTS = Path(__file__).parent / "results" / "detection_rates.json"
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "detection_rates.svg"
DOSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
SIMULATIONS = 100
FALSE_ALARM_FACTOR = 5
SUITES = ("sycophancy", "refusal", "confidence", "verbosity", "diversity", "judge_agreement")
ANY = "any of them"


def design_of(suite: str) -> Design:
    """The simulated models of a suite; imported late, as the embedder takes seconds to load."""
    if suite in ("sycophancy", "confidence", "judge_agreement"):
        import _organisms_options as designs
    else:
        import _organisms_texts as designs  # type: ignore[no-redef]
    return getattr(designs, suite)


# -- one simulation -----------------------------------------------------------------------------------------------------


def simulate(organisms: Organisms, name: str, dose: float) -> dict[str, dict[str, float]]:
    """Parent and candidate of one simulation, measured: what happened to each measurement."""
    parent, candidate = organisms.draw(name, "parent", 0.0), organisms.draw(name, "candidate", dose)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    sides = scores_of(organisms, candidate, parent)
    builders = [MetricBuilder(suite=organisms.design.suite.name, samples=organisms.samples, scores=scores, seed=seed) for scores in sides]
    found = {one.name: _happened(one, builders, sides[1]) for one in organisms.design.measured}
    alarms = ("beyond_zero", "beyond_margin", "fails")
    return {**found, ANY: {alarm: float(any(events[alarm] for events in found.values())) for alarm in alarms}}


def scores_of(organisms: Organisms, candidate: Picks, parent: Picks) -> tuple[list[Score], list[Score]]:
    """The scores that the measurements need, of both models."""
    wanted = frozenset(one.scorer for one in organisms.design.measured if not one.matched) | {"refused"}
    matched = organisms.matched(candidate, parent)
    return organisms.scores(candidate, wanted) + matched[0], organisms.scores(parent, wanted) + matched[1]


def _happened(one: Measured, builders: Sequence[MetricBuilder], parent_scores: Sequence[Score]) -> dict[str, float]:
    change = one.change_of(builders[0], parent_scores)
    judged = [change] if one.is_change else [one.level_of(builder) for builder in builders]
    outcomes = [decide(one.criterion, metric).outcome for metric in judged]
    if change.ci is None or change.value is None:
        raise RuntimeError(f"{one.name}: no interval ({change.reason or change.flags}); the simulated models must be measurable")
    near, far = (change.ci.low, change.ci.high) if one.worse > 0 else (-change.ci.high, -change.ci.low)
    return {
        "beyond_zero": float(near > 0), "beyond_margin": float(near > one.margin), "better": float(far < 0), "difference": change.value,
        "fails": float(outcomes[0] == "fail" and "fail" not in outcomes[1:]), "parent_fails": float("fail" in outcomes[1:]),
    }


# -- all of a suite -----------------------------------------------------------------------------------------------------


def extended(organisms: Organisms, dose: float, cell: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The cell's counts carried on to ``count`` simulations, by measurement; ``difference`` is a sum. Simulation k is the same whenever it is drawn."""
    sums = {name: Counter(events) for name, events in cell["measured"].items()}
    for k in range(cell["n"], count):
        for name, events in simulate(organisms, f"{organisms.design.suite.name}|{dose}|{k}", dose).items():
            sums.setdefault(name, Counter()).update(events)  # type: ignore[arg-type]
    return {"n": count, "measured": {name: dict(events) for name, events in sums.items()}}


def setting(design: Design) -> dict[str, Any]:
    """What the counts depend on; another setting makes a cell stale."""
    items = hashlib.sha256(shipped(design.suite.name).read_bytes()).hexdigest()
    modules = ("_organism", design.answer.__module__)
    code = hashlib.sha256(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in modules)).hexdigest()
    measured = {one.name: {"margin": one.margin, "worse": one.worse, "criterion": one.criterion.metric, "bound": one.criterion.bound}
                for one in design.measured}
    return {"fault": design.fault, "version": design.suite.version, "items": items[:16], "models": code[:16], "measured": measured,
            "noise": NOISE, "shared_in_cluster": SHARED, "variants": VARIANTS}


def run(suite: str, results: Path, simulations: int, again: bool = False) -> dict[str, Any]:
    """The suite's cells, those that are missing simulated and written one by one."""
    design, found = design_of(suite), read(results)
    kept = found.get(suite, {})
    if again or kept.get("setting") != setting(design):
        kept = {"setting": setting(design), "cells": {}}
    organisms = None
    for dose in DOSES:
        count, cell = simulations * (1 if dose else FALSE_ALARM_FACTOR), kept["cells"].get(str(dose), {"n": 0, "measured": {}})
        if cell["n"] >= count:
            continue
        started, organisms = time.process_time(), organisms or Organisms(design)
        kept["cells"][str(dose)] = extended(organisms, dose, cell, count)
        print(f"{suite}, dose {dose}: {cell['n']} simulations were there, now {count}; {time.process_time() - started:.1f} s of processor time", flush=True)
        write(results, suite, kept)
    return kept


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(path: Path, suite: str, kept: Mapping[str, Any]) -> None:
    """Put the suite's results beside the others', atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**read(path), suite: kept}, indent=1) + "\n"
    beside = path.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


# -- the command --------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this suite (may be repeated)")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help="at each dose above 0; FALSE_ALARM_FACTOR times as many at 0")
    parser.add_argument("--again", action="store_true", help="forget what is there")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    given = parser.parse_args()
    if given.simulations < 1:
        parser.error(f"--simulations {given.simulations}: pass at least 1")
    for suite in given.suite or SUITES:
        run(suite, given.results, given.simulations, given.again)
    found = {suite: kept for suite in SUITES if (kept := read(given.results).get(suite))}
    given.figure.parent.mkdir(parents=True, exist_ok=True)
    given.figure.write_text(figure(found) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
