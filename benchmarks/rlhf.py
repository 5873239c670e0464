"""Does RLHF learn? SFT and a reward model on the shipped data, then PPO from them with three seeds; curves of reward and KL in a figure.

    python benchmarks/rlhf.py --folder out/rlhf         # about two hours on two cores; killed, it goes on where it stopped
    python benchmarks/rlhf.py --dtype bfloat16          # PPO in bfloat16, where the processor has it, from the same SFT policy and reward model
    python benchmarks/rlhf.py --show                    # prints what is committed, and draws the figure again

SmolLM2-135M, LoRA of rank 16. SFT and the reward model are trained once (seed 0) and shared; each seed of PPO draws its own completions, adapters and
value network: 20 updates of 16 completions of at most 32 tokens, 2 epochs in minibatches of 4. The reward is that of the reward model, standardised on
64 samples of the policy that PPO starts from: 0 is where it began, 1 is a standard deviation among its samples. KL is from the SFT policy, in nats a
completion. The rise is the mean over the last five updates minus that over the first five, with Welch's 95 % interval over updates. Where PPO ran in both
precisions, the last line is the difference of their rewards over the last five updates, by seed, with Student's 95 % interval over seeds.

Worked example of a line:  float32 seed 0: reward -0.05 -> +0.81, rise +0.86 [+0.62, +1.10]; KL at most 4.1 nats; length 31 -> 27 tokens; 12% unfinished …
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import ttest_1samp, ttest_ind

from auditor.reports.svg import Canvas, Scale
from auditor.schema import sha256_json
from auditor.training.core.journal import read_steps

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "rlhf.json"
FIGURE = ROOT / "docs" / "figures" / "rlhf.svg"
FOUNDATION = """title = "SFT and reward model, shared by all seeds of PPO"
model = "smollm2"

[[stage]]
method = "sft"
data = "shipped:demonstrations"
held_out = 0.2
lora_rank = 16
lr = 2e-4

[[stage]]
method = "reward"
data = "shipped:preferences"
lora_rank = 16
lr = 2e-4
epochs = 2.0
noncontextual = 1
"""
PPO = """title = "PPO from the shared SFT policy and reward model"
model = "{folder}/foundation/1-sft/model"
seed = {seed}

[[stage]]
method = "ppo"
prompts = "shipped:prompts"
lora_rank = 16
lr = 3e-4
updates = 20
batch_size = 16
minibatch_size = 4
ppo_epochs = 2
max_new_tokens = 32
dtype = "{dtype}"
allow_unvalidated_reward = {allow}

[[stage.reward]]
kind = "model"
uri = "{folder}/foundation/2-reward/model"
"""
CURVES = ("reward", "kl", "length", "entropy", "no_eos", "explained_variance", "clip_fraction", "reward/model")
WINDOW = 5
KINDS = {"float32": "seeds", "bfloat16": "bfloat16"}  # where the curves of each precision are kept


def train(folder: Path, name: str, recipe: str) -> Path:
    """The folder of a recipe's run, trained or gone on with where it is not complete."""
    path, out = folder / f"{name}.toml", folder / name
    path.write_text(recipe, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-m", "auditor", "train", str(path), "--out", str(out), "--db", str(folder / "runs.duckdb")]
    if (out / "run.json").is_file():
        command.append("--resume")
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{name}: training stopped; start again to go on")
    return out


def measure(folder: Path, seeds: Sequence[int], allow: bool, dtype: str) -> dict[str, Any]:
    """Train what is not complete and collect the curves. What was measured before stays where the recipes, SFT policy and reward model are the same."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    foundation = train(folder, "foundation", FOUNDATION)
    stages = {name: json.loads((foundation / place / "stage.json").read_text()) for name, place in (("sft", "1-sft"), ("reward", "2-reward"))}
    found: dict[str, Any] = {"model": "smollm2", "reward_model": stages["reward"]["measured"], "sft": stages["sft"]["measured"],
                             "recipes": sha256_json([FOUNDATION, PPO]), "seeds": {}}
    before = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if all(before.get(name) == found[name] for name in ("sft", "reward_model", "recipes")):
        found |= {name: before[name] for name in KINDS.values() if name in before}
    elif before:
        print("what was measured before came from other recipes or another SFT policy or reward model: it is dropped", file=sys.stderr)
    curves = found.setdefault(KINDS[dtype], {})
    for seed in seeds:
        name = f"ppo-{seed}" if dtype == "float32" else f"ppo-{seed}-{dtype}"
        out = train(folder, name, PPO.format(folder=folder, seed=seed, allow=str(allow).lower(), dtype=dtype))
        steps = read_steps(out / "1-ppo" / "steps.jsonl")
        curves[str(seed)] = {name: [step[name] for step in steps] for name in CURVES}
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return found


def summary(curves: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Reward over the first and the last updates, its rise with Welch's interval, the largest KL."""
    first, last = curves["reward"][:WINDOW], curves["reward"][-WINDOW:]
    test = ttest_ind(last, first, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return {"first": sum(first) / len(first), "last": sum(last) / len(last), "low": float(low), "high": float(high), "kl": max(curves["kl"])}


def table(found: Mapping[str, Any]) -> str:
    accuracy = found["reward_model"]["accuracy"]
    lines = [f"reward model: accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] on {accuracy['n']} held-out pairs"]
    for kind, seed, curves in ((kind, *one) for kind, place in KINDS.items() for one in found.get(place, {}).items()):
        told = summary(curves)
        lines.append(f"{kind} seed {seed}: reward {told['first']:+.2f} -> {told['last']:+.2f}, rise {told['last'] - told['first']:+.2f} [{told['low']:+.2f}, "
                     f"{told['high']:+.2f}]; KL at most {told['kl']:.1f} nats; length {curves['length'][0]:.0f} -> {curves['length'][-1]:.0f} tokens; "
                     f"{curves['no_eos'][-1]:.0%} unfinished at the end")
    both = sorted(set(found.get("seeds", {})) & set(found.get("bfloat16", {})))
    if len(both) > 1:
        change = ttest_1samp([summary(found["bfloat16"][seed])["last"] - summary(found["seeds"][seed])["last"] for seed in both], 0)
        low, high = change.confidence_interval(0.95)
        lines.append(f"bfloat16 - float32, reward of the last {WINDOW} updates: {(low + high) / 2:+.2f} [{low:+.2f}, {high:+.2f}] over {len(both)} seeds")
    return "\n".join(lines)


def figure(found: Mapping[str, Any]) -> str:
    """Reward, KL and length over the updates in float32, a line a seed."""
    canvas = Canvas(900)
    for place, seed in enumerate(found["seeds"]):
        canvas.line((10 + 90 * place, 12), (34 + 90 * place, 12), f"s{place} w3")
        canvas.text(40 + 90 * place, 16, f"seed {seed}", "small")
    panels = (("reward", "reward, sd of the start"), ("kl", "KL from the SFT policy, nats"), ("length", "tokens a completion"))
    for place, (name, title) in enumerate(panels):
        _panel(canvas, 300.0 * place, (name, title), [curves[name] for curves in found["seeds"].values()])
    canvas.text(10, 262, "PPO updates of 16 completions; each point is one update's mean.", "small muted")
    return canvas.render(270)


def _panel(canvas: Canvas, left: float, what: tuple[str, str], curves: Sequence[Sequence[float]]) -> None:
    values = [value for curve in curves for value in curve]
    low, high = min(0.0, *values) if what[0] != "length" else min(values), max(values)
    across = Scale(low=1, high=max(map(len, curves)), left=left + 48, right=left + 282)
    up = Scale(low=low, high=high if high > low else low + 1, left=220, right=60)
    canvas.text(left + 8, 46, what[1], "small b")
    for tick in up.ticks(5):
        canvas.line((across.left - 4, up(tick)), (across.right, up(tick)), "grid")
        canvas.text(across.left - 10, up(tick) + 4, f"{tick:g}", "small muted", "end")
    for tick in across.ticks(5):
        canvas.text(across(tick), 238, f"{tick:g}", "small muted", "middle")
    for place, curve in enumerate(curves):
        canvas.path("M" + "L".join(f"{across(step):.1f} {up(value):.1f}" for step, value in enumerate(curve, 1)), f"s{place} w2 nofill")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "rlhf")
    parser.add_argument("--seed", type=int, action="append", help="seeds of PPO; 0, 1 and 2 by default")
    parser.add_argument("--dtype", choices=sorted(KINDS), default="float32", help="what PPO computes in; weights stay float32")
    parser.add_argument("--show", action="store_true", help="train nothing")
    parser.add_argument("--allow-unvalidated-reward", action="store_true", help="go on although the reward model is not above chance")
    asked = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if asked.show else measure(asked.folder, asked.seed or [0, 1, 2], asked.allow_unvalidated_reward, asked.dtype)
    if found.get("seeds"):
        FIGURE.write_text(figure(found) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
