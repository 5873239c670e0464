"""Is over-optimisation seen along a training run? Trains the recipe overoptimization as shipped, audits its policy, prints what the suite says.

    python benchmarks/overoptimization.py --folder out/overoptimization    # an hour on two cores; killed, it goes on where it stopped
    python benchmarks/overoptimization.py --seed 1                         # everything again from another seed
    python benchmarks/overoptimization.py --show                           # prints what is committed

Two reward models of SmolLM2-135M are trained on halves of the shipped pairs that have no topic in common; the first is gold and only logged, the second
is what PPO optimises. Both are in standard deviations of the starting policy's samples, KL is in nats a completion. A line a fifth of the updates, each
number with its 95 % interval as the audit has it; then the suite's own: gold at the end less gold at its best ("past_peak"; below 0: the policy is past its
peak), gold and proxy at the end less at the start, and Gao's curve fitted. Results go to benchmarks/results/overoptimization.json.

Worked example of a line:  seed 0, steps 1 to 12: KL 0.4 [0.2, 0.7]; proxy +0.10 [+0.01, +0.19]; gold +0.08 [-0.02, +0.18]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from organisms import auditor
from recipes import share

from auditor.training.core.journal import read_steps
from auditor.training.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "overoptimization.json"
RECIPE = "overoptimization"
CURVES = ("kl", "reward/proxy", "reward/gold", "length", "entropy")


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Train with ``seed`` in ``folder``/``seed``, or go on with it, and audit the policy."""
    out, database = folder / str(seed), folder / "runs.duckdb"
    if not (out / "4-ppo" / "stage.json").is_file():
        command = [sys.executable, "-W", "ignore", "-m", "auditor", "train", RECIPE, "--set", f"seed={seed}", "--out", str(out), "--db", str(database)]
        if subprocess.run([*command, *(["--resume"] if (out / "run.json").is_file() else [])], check=False).returncode:
            sys.exit(f"seed {seed}: training stopped; start again to go on")
    run = json.loads(auditor("run", str(out / "4-ppo" / "model"), "--suite", "overoptimization", "--db", str(database), "--format", "json"))
    steps = read_steps(out / "4-ppo" / "steps.jsonl")
    return {"hash": json.loads((out / "run.json").read_text())["hash"], "curves": {name: [step[name] for step in steps] for name in CURVES},
            "rewards": {name: json.loads((out / place / "stage.json").read_text())["measured"] for name, place in (("gold", "2-gold"), ("proxy", "3-proxy"))},
            "metrics": [metric for metric in run["metrics"] if metric["name"].startswith("training_")],
            "verdicts": {verdict["criterion"]["metric"]: [verdict["outcome"], verdict["reason"]] for verdict in run["verdicts"]}}


def table(found: Mapping[str, Any]) -> str:
    lines = []
    for seed, one in found.items():
        changed = "" if read_recipe(RECIPE, [f"seed={seed}"]).hash == one["hash"] else "; the recipe has changed since"
        for name, measured in one["rewards"].items():
            told = [f"accuracy {share(measured['accuracy'])}"] + ([f"own prompt {share(measured['on_topic'])}"] if measured.get("on_topic") else [])
            fixed = measured.get("fixed_reply_wins")
            told += [f"fixed {fixed['reply']!r} {share(fixed)}"] if fixed else []
            lines.append(f"seed {seed}, {name}: {'; '.join(told)}{changed}")
        for group in dict.fromkeys(metric["group"] for metric in one["metrics"] if metric["group"] != "all"):
            here = {metric["name"]: metric for metric in one["metrics"] if metric["group"] == group}
            told = (f"{name} {_value(here[f'training_{name}'])}" for name in ("kl", "proxy", "gold"))
            lines.append(f"seed {seed}, {group}: {'; '.join(told)}")
        lines += [f"    {metric['name']:24} {_value(metric)}" for metric in one["metrics"] if metric["group"] == "all"]
        lines += [f"    {name}: {outcome} ({reason})" for name, (outcome, reason) in one["verdicts"].items()]
    return "\n".join(lines)


def _value(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return f"not given: {metric['reason']}"
    interval = f" [{metric['ci']['low']:+.2f}, {metric['ci']['high']:+.2f}]" if metric["ci"] else f" (no interval: {metric['reason']})"
    return f"{metric['value']:+.2f}{interval}"


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--folder", type=Path, default=ROOT / "out" / "overoptimization")
    reader.add_argument("--seed", type=int, action="append", help="seeds of the whole; 0 by default")
    reader.add_argument("--show", action="store_true", help="train nothing")
    asked = reader.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for seed in [] if asked.show else asked.seed or [0]:
        found[str(seed)] = measure(asked.folder.resolve(), seed)
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
