"""Seconds of one PPO update: ours against TRL 1.12.0's PPOTrainer, the last that has one.

Both sides train SmolLM2-135M with a value network and a reward model of their own on the same prompts (shipped, of mixed length): 16 completions of at
most 48 new tokens that may end by themselves, 4 epochs, one minibatch, the same threads, no gradient checkpointing. Sides take turns in processes of
their own; seconds are those of whole updates (rollout, reward, log-probabilities, epochs), the first of each process left out. bfloat16 is autocast over
float32 weights: on TRL's side as accelerate's mixed precision gives it, for the epochs (it writes completions and asks reference and reward in float32), on
ours for all but the reward. Our share of the machine is the work that `auditor train --dry-run` counts for an update, all completions at 48 tokens,
over what the machine's own matrix product does in the same seconds.

    make bench-ppo-env && python benchmarks/ppo_update.py                                 # full fine-tuning, float32, both sides
    python benchmarks/ppo_update.py --variant separate --variant shared --variant lora    # our other variants, beside it
    python benchmarks/ppo_update.py --precision float32 --precision bfloat16              # both sides in both, where the processor has bfloat16

Worked example of a line:  ours separate float32   41.2 s an update   (2 updates: 41.0, 41.4; rollout 4.1, reward 0.9, logprobs 3.8, update 32.4)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = ("float32", "bfloat16")


def ours(job: dict[str, Any]) -> dict[str, Any]:
    import torch

    from auditor.training import ppo
    from auditor.training.core.config import Optimisation
    from auditor.training.core.journal import read_steps
    from auditor.training.core.rewards import Part
    from auditor.training.core.stage import StageRun
    from auditor.training.core.weights import save_reward, scalar_net
    from auditor.training.core.world import World
    from auditor.training.planning import plan
    from auditor.training.recipe import Recipe, Stage

    torch.set_num_threads(job["threads"])
    with tempfile.TemporaryDirectory() as name:
        run = StageRun(name="ppo", folder=Path(name), world=World())
        engine = run.open("smollm2")
        save_reward(engine, scalar_net(engine, Optimisation(), 0), {"measured": {}}, Path(name) / "reward")
        more = {"separate": {}, "shared": {"value": "shared"}, "lora": {"lora_rank": 16}}[job["variant"]]
        config = ppo.Config(model="smollm2", reward=(Part(uri=str(Path(name) / "reward")),), updates=job["updates"] + 1, normalise_on=1, save_every=1000,
                            allow_unvalidated_reward=True, dtype="bfloat16" if job["bf16"] else "float32", limit=160, **more)
        ppo.train(config, run)
        (planned,) = plan(Recipe(name="ppo", title="ppo", model="smollm2", seed=0, stages=(Stage(name="ppo", method="ppo", config=config),)))
        steps = read_steps(Path(name) / "steps.jsonl")[1:]
    parts = ("seconds_rollout", "seconds_reward", "seconds_logprobs", "seconds_update")
    return {"seconds": [sum(step[part] for part in parts) for step in steps], "tflop": planned.flops / config.updates / 1e12,
            "parts": {part.removeprefix("seconds_"): sum(step[part] for step in steps) / len(steps) for part in parts}}


def theirs(job: dict[str, Any]) -> dict[str, Any]:
    from auditor.models.resolve import resolve
    from auditor.training.core.batch import Encoder
    from auditor.training.core.stage import StageRun
    from auditor.training.core.world import World
    from auditor.training.data import load_prompts

    engine = StageRun(name="x", folder=Path("."), world=World()).open("smollm2")
    encoder = Encoder(engine, 1024)
    prompts = [list(encoder.prompt(item.prompt)) for item in load_prompts("shipped:prompts", limit=160)]
    given = {"model": str(resolve("smollm2").folder), "prompts": prompts, "updates": job["updates"] + 1, "threads": job["threads"], "bf16": job["bf16"]}
    del engine, encoder
    command = [job["python"], "-W", "ignore", str(ROOT / "benchmarks" / "_trl_ppo.py"), json.dumps(given)]
    # TRL 1.12.0 hands its bf16 option to no one: the variable is how accelerate hears of it.
    environment = os.environ | {"ACCELERATE_MIXED_PRECISION": "bf16" if job["bf16"] else "no"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"TRL failed:\n{done.stderr[-2000:]}")
    return {"seconds": json.loads(done.stdout.strip().splitlines()[-1])["seconds"][1:]}


def matmul_rate(threads: int, bf16: bool) -> float:
    """GFLOP/s of this machine's matrix product, measured for a second."""
    import torch

    torch.set_num_threads(threads)
    a = torch.randn(1024, 1024, dtype=torch.bfloat16 if bf16 else torch.float32)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 1:
        a @ a
        count += 1
    return 2 * 1024**3 * count / (time.perf_counter() - started) / 1e9


def side(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run one side in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--side", name, "--job", json.dumps(job)], env=environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-500:]}{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def line(name: str, found: dict[str, Any]) -> float:
    seconds = found["seconds"]
    mean = sum(seconds) / len(seconds)
    parts = "; " + ", ".join(f"{part} {value:.1f}" for part, value in found["parts"].items()) if "parts" in found else ""
    print(f"{name:24} {mean:7.1f} s an update   ({len(seconds)} updates: {', '.join(f'{value:.1f}' for value in seconds)}{parts})", flush=True)
    return mean


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--updates", type=int, default=2)
    reader.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    reader.add_argument("--variant", action="append", choices=["separate", "shared", "lora"])
    reader.add_argument("--precision", action="append", choices=PRECISIONS, help="float32 by default")
    reader.add_argument("--peer", default=str(ROOT / ".venv-ppo" / "bin" / "python"))
    reader.add_argument("--rounds", type=int, default=1, help="how often the sides take turns")
    reader.add_argument("--side")
    reader.add_argument("--job")
    asked = reader.parse_args()
    if asked.side:
        print(json.dumps({"ours": ours, "theirs": theirs}[asked.side](json.loads(asked.job))))
        return
    job = {"updates": asked.updates, "threads": asked.threads, "python": asked.peer}
    precisions, variants = asked.precision or ["float32"], asked.variant or ["separate"]
    rates = {kind: matmul_rate(asked.threads, kind == "bfloat16") for kind in precisions}
    print(f"matrix product {', '.join(f'{rate:.0f} GFLOP/s in {kind}' for kind, rate in rates.items())}; {asked.threads} threads", flush=True)
    taken: dict[tuple[str, str], list[float]] = {}
    work: dict[str, float] = {}
    for _ in range(asked.rounds):
        for kind in precisions:
            given = job | {"bf16": kind == "bfloat16"}
            for variant in variants:
                found = side("ours", given | {"variant": variant})
                work[variant] = found["tflop"]
                taken.setdefault((variant, kind), []).append(line(f"ours {variant} {kind}", found))
            if Path(asked.peer).exists():
                taken.setdefault(("TRL", kind), []).append(line(f"TRL 1.12.0 {kind}", side("theirs", given)))
    mean = {what: sum(seconds) / len(seconds) for what, seconds in taken.items()}
    for kind in precisions:
        for variant in variants:
            if ("TRL", kind) in mean:
                print(f"TRL / ours {variant}, {kind}: {mean['TRL', kind] / mean[variant, kind]:.2f} x")
            print(f"ours {variant}, {kind}: {work[variant]:.1f} TFLOP, {1000 * work[variant] / rates[kind] / mean[variant, kind]:.2f} of the machine's rate")
    if len(set(precisions)) > 1:
        for variant in variants:
            print(f"ours {variant}, float32 / bfloat16: {mean[variant, 'float32'] / mean[variant, 'bfloat16']:.2f} x")
    if not Path(asked.peer).exists():
        print(f"no TRL at {asked.peer}: make bench-ppo-env installs it")


if __name__ == "__main__":
    main()
