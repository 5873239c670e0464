"""Do the shipped recipes learn, from their first stage to their last? What each stage measured on held-out pairs, and the reward along PPO.

    python benchmarks/recipes.py rlaif --folder out/recipes      # an hour or two on two cores; killed, it goes on where it stopped
    python benchmarks/recipes.py rlaif --folder out/recipes --audit
    python benchmarks/recipes.py --show                           # prints what is committed

A recipe is trained as shipped, by `auditor train`. "Own prompt" is how often a reply to the prompt is scored above one to another topic, "fixed" how often the
best fixed reply, such as "No.", is scored above the better reply. The rise is the mean reward of the last five updates minus that of the first five, in
standard deviations of the starting policy's samples, with Welch's 95 % interval over updates; KL is from the policy before PPO, in nats a completion. One
seed. A result of a recipe that has changed since says so. With --audit the policy that PPO made and the one that it started from are audited (verbosity,
refusal, diversity) and compared by the default policy of `auditor compare`: no worse on any headline measurement; a gain is an improvement, whatever the
direction. Results go to benchmarks/results/recipes.json.

Worked example of a line:  d-rlaif: labeller .91 [.82, .96] of 102; reward -0.23 -> +0.49, rise +0.72 [+0.29, +1.15]; KL at most 2.6 nats
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from organisms import auditor
from rlhf import summary

from auditor.training.core.journal import read_steps
from auditor.training.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "recipes.json"
RECIPES = ("rlhf", "rlaif", "d-rlaif", "constitutional")
CURVES = ("reward", "kl", "length", "no_eos", "entropy")
SUITES = ("verbosity", "refusal", "diversity")


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
    return {"hash": json.loads((out / "run.json").read_text())["hash"], "accuracies": accuracies, "context": _context(stages),
            "ppo": {curve: [step[curve] for step in steps] for curve in CURVES}}


def _context(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Whether the labeller and the reward model read the prompt, where that was measured."""
    found = []
    for stage in stages:
        measured = stage["measured"].get("after", {}).get("rating") or stage["measured"]
        found += [{"stage": stage["method"], "on_topic": measured["on_topic"], "fixed": measured["fixed_reply_wins"]}] if measured.get("on_topic") else []
    return found


def audited(name: str, folder: Path) -> dict[str, Any]:
    """The policy of recipe ``name`` beside the one that PPO started from: what `auditor compare` decides, criterion by criterion."""
    out, database = folder.resolve() / name, str(folder.resolve() / f"{name}.duckdb")
    runs = []
    for stage in ("sft", "ppo"):
        (path,) = out.glob(f"*-{stage}/model")
        told, made = path.parent / "audit.json", json.loads((path.parent / "stage.json").read_text())["weights_hash"]
        if not told.is_file() or json.loads(told.read_text()).get("weights_hash") != made:
            chosen = [option for suite in SUITES for option in ("--suite", suite)]
            run = json.loads(auditor("run", str(path), *chosen, "--db", database, "--format", "json"))
            told.write_text(json.dumps({"run_id": run["run_id"], "weights_hash": made}))
        runs.append(json.loads(told.read_text())["run_id"])
    compared = json.loads(auditor("compare", *runs, "--db", database, "--format", "json"))
    criteria = [{"metric": one["rule"]["metric"], "decided": one["decided"], **_change(one["difference"])} for one in compared["candidates"][0]["decisions"]]
    return {"suites": list(SUITES), "headline": compared["headline"], "criteria": criteria}


def _change(difference: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Baseline, candidate and the gain with its interval; {} where the criterion has no difference."""
    if not isinstance(difference, Mapping):
        return {}
    sign, ci = 1 if difference["higher_is_better"] else -1, difference["ci"]
    ends = sorted(sign * ci[end] for end in ("low", "high")) if ci else [None, None]
    return {"baseline": difference["baseline"], "candidate": difference["candidate"], "gain": sign * difference["difference"], "low": ends[0],
            "high": ends[1], "n": difference["n_pairs"], "unit": difference["unit"]}


def table(found: Mapping[str, Any]) -> str:
    lines = []
    for name, one in found.items():
        told, length = summary(one["ppo"]), one["ppo"]["length"]
        measured = "; ".join(f"{item['stage']} {share(item)}" for item in one["accuracies"])
        measured += "".join(f"; {item['stage']}: own prompt {share(item['on_topic'])}, fixed {item['fixed']['reply']!r} {share(item['fixed'])}"
                            for item in one.get("context", ()))
        changed = "" if read_recipe(name).hash == one["hash"] else "; the recipe has changed since"
        lines.append(f"{name}: {measured}; reward {told['first']:+.2f} -> {told['last']:+.2f}, rise {told['last'] - told['first']:+.2f} [{told['low']:+.2f}, "
                     f"{told['high']:+.2f}]; KL at most {told['kl']:.1f} nats; length {length[0]:.0f} -> {length[-1]:.0f} tokens{changed}")
        lines += _audit_lines(one["audit"]) if "audit" in one else ["    not audited beside the policy that PPO started from"]
    return "\n".join(lines)


def share(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of {found['n']}"


def _audit_lines(audit: Mapping[str, Any]) -> list[str]:
    lines = [f"    audited beside the policy that PPO started from ({', '.join(audit['suites'])}): {audit['headline']}"]
    for item in audit["criteria"]:
        told = "not compared" if "gain" not in item else f"{item['baseline']:.3f} -> {item['candidate']:.3f}, gain {item['gain']:+.3f}"
        interval = f" [{item['low']:+.3f}, {item['high']:+.3f}]" if item.get("low") is not None else ""
        lines.append(f"        {item['metric']:34} {told}{interval}{' of ' + str(item['n']) + ' ' + item['unit'] if 'n' in item else ''}: {item['decided']}")
    return lines


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("recipe", nargs="*", help=f"recipes to train: {', '.join(RECIPES)}")
    reader.add_argument("--folder", type=Path, default=ROOT / "out" / "recipes")
    reader.add_argument("--audit", action="store_true", help="audit the policy beside the one that PPO started from, and compare")
    reader.add_argument("--show", action="store_true", help="train nothing")
    asked = reader.parse_args()
    if unknown := set(asked.recipe) - set(RECIPES):
        reader.error(f"no recipe that ends with PPO: {', '.join(sorted(unknown))}; pass some of {', '.join(RECIPES)}")
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in [] if asked.show else asked.recipe:
        before = found.get(name, {})
        found[name] = measure(name, asked.folder)
        if asked.audit:
            found[name]["audit"] = audited(name, asked.folder)
        elif "audit" in before and before["ppo"] == found[name]["ppo"]:  # of this very policy
            found[name]["audit"] = before["audit"]
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
