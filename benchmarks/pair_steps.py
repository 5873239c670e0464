"""Seconds of one training step on preference pairs, DPO and reward model: ours against TRL 1.16.0, and the peak memory of both.

Both sides train SmolLM2-135M on the same pairs (the shipped ones, or any source of docs/training_data.md) in the same form (the model's chat template),
16 pairs a step, float32, the same threads, no gradient checkpointing; DPO with the reference's log-probabilities computed beforehand on both sides. Sides
take turns in processes of their own; the first step of each is left out. Our speed comes from computing what both sides of a pair begin with once.

    make bench-trl-env && python benchmarks/pair_steps.py                      # DPO and reward model, LoRA of rank 16 and full
    python benchmarks/pair_steps.py --method dpo --lora 16 --data FILE.jsonl

Worked example of a line:  dpo lora 16      ours  11.7 s a step, 3.9 GiB   TRL  31.2 s, 7.4 GiB   TRL / ours 2.67 x
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Stamps:
    """When each step ended, and its loss."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float | None] = []

    def stage(self, name: str, steps: int, done: int) -> None:
        self.times.append(time.perf_counter())

    def step(self, name: str, step: int, values: Mapping[str, float | None]) -> None:
        self.times.append(time.perf_counter())
        self.losses.append(values["loss"])

    def say(self, text: str) -> None: ...

    def finished(self, name: str) -> None: ...


def ours(job: dict[str, Any]) -> dict[str, Any]:
    import itertools

    import torch

    from auditor.training import dpo, reward
    from auditor.training.core.stage import StageRun
    from auditor.training.core.world import World

    torch.set_num_threads(job["threads"])
    stamps = Stamps()
    shared: dict[str, Any] = {"data": job["data"], "lora_rank": job["lora_rank"], "batch_size": job["batch_size"], "max_steps": job["steps"], "lr": 1e-5,
                              "save_every": 1000, "limit": job["limit"]}
    with tempfile.TemporaryDirectory() as name:
        run = StageRun(name=job["method"], folder=Path(name), world=World(), inputs={"policy": "smollm2"}, reporter=stamps)
        if job["method"] == "dpo":
            dpo.train(dpo.Config(**shared), run)
        else:
            reward.train(reward.Config(held_out=0.01, **shared), run)
    return {"seconds": [later - sooner for sooner, later in itertools.pairwise(stamps.times)], "losses": stamps.losses,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def theirs(job: dict[str, Any]) -> dict[str, Any]:
    from auditor.models.resolve import resolve
    from auditor.schema import to_dict
    from auditor.training.data import load_preferences

    pairs = [{"prompt": to_dict(item.prompt), "chosen": [{"role": "assistant", "content": item.chosen}],
              "rejected": [{"role": "assistant", "content": item.rejected}]} for item in load_preferences(job["data"], limit=job["limit"] or None)]
    given = job | {"model": str(resolve("smollm2").folder), "pairs": pairs}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(given, file)
        file.flush()
        done = subprocess.run([job["python"], "-W", "ignore", str(ROOT / "benchmarks" / "_trl_pairs.py"), file.name], capture_output=True, text=True,
                              check=False)
    if done.returncode:
        sys.exit(f"TRL failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def side(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run one side in a process of its own; the first step is left out."""
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--side", name, "--job", json.dumps(job)], env=environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-500:]}{done.stderr[-2000:]}")
    found = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    print(f"  {name:6} steps of {', '.join(f'{value:.1f}' for value in found['seconds'])} s; losses {', '.join(f'{value:.3f}' for value in found['losses'])}",
          flush=True)
    return found | {"seconds": found["seconds"][1:]}


def compare(method: str, rank: int, asked: argparse.Namespace) -> None:
    job = {"method": method, "lora_rank": rank, "threads": asked.threads, "steps": asked.steps + 1, "batch_size": 16, "data": asked.data,
           "limit": 16 * (asked.steps + 2), "python": asked.peer}
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    peaks = {"ours": 0.0, "theirs": 0.0}
    for _ in range(asked.rounds):
        for name in seconds:
            found = side(name, job)
            seconds[name] += found["seconds"]
            peaks[name] = max(peaks[name], found["peak_gib"])
    mean = {name: sum(values) / len(values) for name, values in seconds.items()}
    print(f"{method} {f'lora {rank}' if rank else 'full'}: ours {mean['ours']:.1f} s a step, {peaks['ours']:.1f} GiB; TRL 1.16.0 {mean['theirs']:.1f} s, "
          f"{peaks['theirs']:.1f} GiB; TRL / ours {mean['theirs'] / mean['ours']:.2f} x", flush=True)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--method", action="append", choices=["dpo", "reward"])
    reader.add_argument("--lora", action="append", type=int, help="rank; 0 trains every weight")
    reader.add_argument("--data", default="shipped:preferences")
    reader.add_argument("--steps", type=int, default=3)
    reader.add_argument("--rounds", type=int, default=1, help="how often the sides take turns")
    reader.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    reader.add_argument("--peer", default=str(ROOT / ".venv-trl" / "bin" / "python"))
    reader.add_argument("--side")
    reader.add_argument("--job")
    asked = reader.parse_args()
    if asked.side:
        print(json.dumps({"ours": ours, "theirs": theirs}[asked.side](json.loads(asked.job))))
        return
    if not Path(asked.peer).exists():
        sys.exit(f"no TRL at {asked.peer}: make bench-trl-env installs it")
    for method in asked.method or ["dpo", "reward"]:
        for rank in asked.lora if asked.lora is not None else [16, 0]:
            compare(method, rank, asked)


if __name__ == "__main__":
    main()
