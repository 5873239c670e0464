"""Is the fine-tuned labeller above chance? Its accuracy on held-out gold pairs, before and after, with intervals.

    python benchmarks/labeller.py                     # trains where nothing is committed yet, prints the table
    python benchmarks/labeller.py --again             # trains again
    python benchmarks/labeller.py --folder DIR        # where the run lives; killed, it goes on from its last checkpoint

SmolLM2-135M with LoRA on the shipped pairs, one fifth of the topics held out; no held-out topic is trained on. Both orders of a pair are
asked, and the soft label is their mean. Results go to benchmarks/results/labeller.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from auditor.training.core.stage import StageRun
from auditor.training.core.validation import shown
from auditor.training.core.world import World
from auditor.training.labeller import Config, train

RESULTS = Path(__file__).parent / "results" / "labeller.json"
CONFIG = Config(lora_rank=16, lr=5e-4, max_steps=30, batch_size=8, save_every=5)
SEED = 0


class Printer:
    """Prints every step: on a busy machine that is all there is to see for minutes."""

    def stage(self, name: str, steps: int, done: int) -> None:
        print(f"{name}: {steps} steps, {done} done", flush=True)

    def step(self, name: str, step: int, values: Mapping[str, float | None]) -> None:
        told = ", ".join(f"{key} {value:.4g}" for key, value in values.items() if value is not None)
        print(f"step {step}: {told}", flush=True)

    def say(self, text: str) -> None:
        print(text, flush=True)

    def finished(self, name: str) -> None: ...


def measure(folder: Path) -> dict[str, Any]:
    """Train in ``folder``, going on from what is there, and write the results."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    outcome = train(CONFIG, StageRun(name="labeller", folder=folder, world=World(), seed=SEED, resume=True, inputs={"policy": "smollm2"}, reporter=Printer()))
    found = {"model": "smollm2", "seed": SEED, "lora_rank": CONFIG.lora_rank, "lr": CONFIG.lr, "batch_size": CONFIG.batch_size, "steps": outcome.steps,
             "dtype": CONFIG.dtype, "threads": torch.get_num_threads(), "cpus": os.cpu_count(), "data_hashes": dict(outcome.data_hashes),
             "seconds_of_the_last_start": round(time.perf_counter() - started), "measured": outcome.measured}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return found


def table(found: Mapping[str, Any]) -> str:
    """The accuracies before and after, in all and by kind, with the position bias."""
    lines = [f"{found['model']}, LoRA rank {found['lora_rank']}, {found['steps']} steps on {found['measured']['trained_on']} pairs, seed {found['seed']}"]
    for when in ("before", "after"):
        measured = found["measured"][when]["pairwise"]
        lines.append(f"{when:7} accuracy {shown(measured)}; position bias {measured['position_bias']['value']:.3f}; "
                     f"first place gets {measured['prefers_first']['value']:.3f}; unscored {measured['unscored']}")
        lines += [f"        {kind:12} {part['value']:.3f} ({part['low']:.3f} to {part['high']:.3f}) on {part['n']}"
                  for kind, part in measured["by_kind"].items() if part["low"] is not None]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="train again, although results are committed")
    parser.add_argument("--folder", type=Path, help="folder of the run")
    options = parser.parse_args()
    if RESULTS.is_file() and not options.again:
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    else:
        found = measure(options.folder or Path(tempfile.gettempdir()) / "auditor-benchmark-labeller")
    print(table(found))


if __name__ == "__main__":
    main()
