"""Is the fine-tuned labeller above chance? Its accuracy on held-out gold pairs, before and after, with intervals.

    python benchmarks/labeller.py                     # trains where nothing is committed yet, prints the table
    python benchmarks/labeller.py --again             # trains again
    python benchmarks/labeller.py --folder DIR        # where the run lives; killed, it goes on from its last checkpoint

SmolLM2-135M with LoRA on the shipped pairs, two epochs; one fifth of the topics is held out and not trained on. (The shipped recipes rlaif and d-rlaif make
one epoch of twice as many pairs, half of them with answers to other topics: benchmarks/recipes.py says what that labeller is worth.) The labeller
rates each answer from 1 to 9 by itself; it is right where the better answer of a held-out pair has the higher expected rating. (--ask pairwise trains and
measures the other question, which of two answers is better.) Results go to benchmarks/results/labeller.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from auditor.training.core.stage import StageRun
from auditor.training.core.validation import shown
from auditor.training.core.world import World
from auditor.training.labeller import Config, train

RESULTS = Path(__file__).parent / "results" / "labeller.json"
CONFIG = Config(ask="rating", lora_rank=16, lr=4e-4, epochs=2.0, batch_size=8, save_every=10)
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


def measure(folder: Path, config: Config, results: Path) -> dict[str, Any]:
    """Train in ``folder``, going on from what is there, and write the results."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    outcome = train(config, StageRun(name="labeller", folder=folder, world=World(), seed=SEED, resume=True, inputs={"policy": "smollm2"}, reporter=Printer()))
    found = {"model": "smollm2", "seed": SEED, "ask": config.ask, "lora_rank": config.lora_rank, "lr": config.lr, "batch_size": config.batch_size,
             "steps": outcome.steps,
             "dtype": config.dtype, "threads": torch.get_num_threads(), "cpus": os.cpu_count(), "data_hashes": dict(outcome.data_hashes),
             "seconds_of_the_last_start": round(time.perf_counter() - started), "measured": outcome.measured}
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return found


def table(found: Mapping[str, Any]) -> str:
    """The accuracies before and after, in all and by kind."""
    lines = [f"{found['model']}, asked by {found['ask']}, LoRA rank {found['lora_rank']}, {found['steps']} steps on {found['measured']['trained_on']} pairs, "
             f"seed {found['seed']}"]
    for when in ("before", "after"):
        measured = found["measured"][when][found["ask"]]
        lines.append(f"{when:7} accuracy {shown(measured)}; unscored {measured['unscored']}")
        lines += [f"        {kind:12} {part['value']:.3f} ({part['low']:.3f} to {part['high']:.3f}) on {part['n']}"
                  for kind, part in measured["by_kind"].items() if part["low"] is not None]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="train again, although results are committed")
    parser.add_argument("--folder", type=Path, help="folder of the run")
    parser.add_argument("--ask", choices=("rating", "pairwise"), default=CONFIG.ask, help="pairwise results go to labeller-pairwise.json")
    options = parser.parse_args()
    results = RESULTS if options.ask == CONFIG.ask else RESULTS.with_stem(f"labeller-{options.ask}")
    if results.is_file() and not options.again:
        found = json.loads(results.read_text(encoding="utf-8"))
    else:
        folder = options.folder or Path(tempfile.gettempdir()) / f"auditor-benchmark-labeller-{options.ask}"
        found = measure(folder, replace(CONFIG, ask=options.ask), results)
    print(table(found))


if __name__ == "__main__":
    main()
