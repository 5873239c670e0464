"""Do the shipped recipes learn, from their first stage to their last? What each stage measured on held-out pairs, and the reward along PPO.

    python benchmarks/recipes.py rlaif --folder out/recipes      # an hour or two on two cores; killed, it goes on where it stopped
    python benchmarks/recipes.py --show                           # prints what is committed

A recipe is trained as shipped, by `auditor train`. The rise is the mean reward of the last five updates minus that of the first five, in standard deviations
of the starting policy's samples, with Welch's 95 % interval over updates; KL is from the policy before PPO, in nats a completion. One seed. A result of
a recipe that has changed since says so. Results go to benchmarks/results/recipes.json.

Worked example of a line:  d-rlaif: labeller .91 [.82, .96] of 102; reward -0.23 -> +0.49, rise +0.72 [+0.29, +1.15]; KL at most 2.6 nats
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf import summary

from auditor.training.core.journal import read_steps
from auditor.training.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "recipes.json"
RECIPES = ("rlhf", "rlaif", "d-rlaif", "constitutional")
CURVES = ("reward", "kl", "length", "no_eos", "entropy")


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Train recipe ``name`` in ``folder``/``name``, or go on with it, and read what its stages measured."""
    recipe, out = read_recipe(name), folder.resolve() / name
    last = out / f"{len(recipe.stages)}-{recipe.stages[-1].name}"
    if not (last / "stage.json").is_file():
        command = [sys.executable, "-W", "ignore", "-m", "auditor", "train", name, "--out", str(out), "--db", str(folder / "runs.duckdb")]
        if subprocess.run([*command, *(["--resume"] if (out / "run.json").is_file() else [])], check=False).returncode:
            sys.exit(f"{name}: training stopped; start again to go on")
    stages = [json.loads(path.read_text()) for path in sorted(out.glob("*/stage.json"), key=lambda path: int(path.parent.name.split("-")[0]))]
    accuracies = [{"stage": stage["method"], **stage["measured"]["accuracy"]} for stage in stages if stage["measured"].get("accuracy")]
    steps = read_steps(last / "steps.jsonl")
    return {"hash": json.loads((out / "run.json").read_text())["hash"], "accuracies": accuracies,
            "ppo": {curve: [step[curve] for step in steps] for curve in CURVES}}


def table(found: Mapping[str, Any]) -> str:
    lines = []
    for name, one in found.items():
        told, length = summary(one["ppo"]), one["ppo"]["length"]
        measured = "; ".join(f"{item['stage']} {item['value']:.3f} [{item['low']:.3f}, {item['high']:.3f}] of {item['n']}" for item in one["accuracies"])
        changed = "" if read_recipe(name).hash == one["hash"] else "; the recipe has changed since"
        lines.append(f"{name}: {measured}; reward {told['first']:+.2f} -> {told['last']:+.2f}, rise {told['last'] - told['first']:+.2f} [{told['low']:+.2f}, "
                     f"{told['high']:+.2f}]; KL at most {told['kl']:.1f} nats; length {length[0]:.0f} -> {length[-1]:.0f} tokens{changed}")
    return "\n".join(lines)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("recipe", nargs="*", help=f"recipes to train: {', '.join(RECIPES)}")
    reader.add_argument("--folder", type=Path, default=ROOT / "out" / "recipes")
    reader.add_argument("--show", action="store_true", help="train nothing")
    asked = reader.parse_args()
    if unknown := set(asked.recipe) - set(RECIPES):
        reader.error(f"no recipe that ends with PPO: {', '.join(sorted(unknown))}; pass some of {', '.join(RECIPES)}")
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in [] if asked.show else asked.recipe:
        found[name] = measure(name, asked.folder)
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
