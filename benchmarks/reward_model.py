"""Does the reward model learn what people prefer? Accuracy on held-out pairs of any source, with its interval, and its taste for length.

    python benchmarks/reward_model.py                                                # the shipped pairs
    python benchmarks/reward_model.py --data 'harmless_base_test_half.jsonl.gz?skip=1' --longest 256 --held-out .33 --name hh-rlhf
    python benchmarks/reward_model.py --data 'en_trees.jsonl?skip=1' --longest 400 --held-out .33 --name oasst
    python benchmarks/reward_model.py --data 'annotations.csv?skip=1' --longest 256 --held-out .33 --name tulu
    python benchmarks/reward_model.py --show                                         # prints what is committed

SmolLM2-135M with LoRA of rank 16, one epoch (two on the shipped pairs, as the recipe rlhf); a fifth of the topics is held out, a third of the public ones.
Public sources are read from the user's own copies, without pairs of more tokens than --longest. A run that was killed goes on where it stopped.
Results go to benchmarks/results/reward_model.json.

Worked example of a line:  shipped    accuracy .863 [.778, .919] on 102 held-out pairs; chosen longer .846, shorter .894; prefers the longer .495, people .525
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labeller import Printer

from auditor.models.resolve import resolve
from auditor.schema import to_dict
from auditor.training.core.stage import StageRun
from auditor.training.core.world import World
from auditor.training.data import load_preferences
from auditor.training.reward import Config, train

RESULTS = Path(__file__).parent / "results" / "reward_model.json"


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Train on ``asked.data`` and return what was measured on the held-out topics."""
    folder = asked.folder or Path(tempfile.gettempdir()) / f"auditor-benchmark-reward-{asked.name}"
    folder.mkdir(parents=True, exist_ok=True)
    source, left_out = _short(asked, folder)
    config = Config(data=source, limit=asked.limit, lora_rank=16, lr=2e-4, epochs=asked.epochs, held_out=asked.held_out, save_every=10)
    outcome = train(config, StageRun(name="reward", folder=folder, world=World(), seed=0, resume=True, inputs={"policy": "smollm2"}, reporter=Printer()))
    return {"limit": asked.limit, "longest": asked.longest, "left_out": left_out, "held_out": asked.held_out, "epochs": asked.epochs, "steps": outcome.steps,
            "measured": outcome.measured, "data_hash": next(iter(outcome.data_hashes.values()))}


def _short(asked: argparse.Namespace, folder: Path) -> tuple[str, int]:
    """The source without the pairs of more than ``longest`` tokens, and how many those are."""
    if not asked.longest:
        return asked.data, 0
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(resolve("smollm2").folder))
    pairs = load_preferences(asked.data)
    texts = ["".join(message.content for message in pair.prompt) + max(pair.chosen, pair.rejected, key=len) for pair in pairs]
    kept = [pair for pair, text in zip(pairs, texts, strict=True) if len(tokenizer(text)["input_ids"]) <= asked.longest]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps({name: value for name, value in to_dict(pair).items() if name != "metadata"}) + "\n" for pair in kept))
    return str(path), len(pairs) - len(kept)


def table(found: Mapping[str, Any]) -> str:
    return "\n".join(f"{name:10} accuracy {_told(one['measured']['accuracy'])} on {one['measured']['n']} held-out pairs; chosen longer "
                     f"{_told(one['measured']['accuracy_chosen_longer'])}, shorter {_told(one['measured']['accuracy_chosen_shorter'])}; prefers the longer "
                     f"{_told(one['measured']['prefers_longer'])}, people {_told(one['measured']['gold_prefers_longer'])}" for name, one in found.items())


def _told(value: Mapping[str, Any] | None) -> str:
    return "–" if value is None else f"{value['value']:.3f}" + (f" [{value['low']:.3f}, {value['high']:.3f}]" if value["low"] is not None else "")


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--data", default="shipped:preferences", help="a source of docs/training_data.md")
    reader.add_argument("--name", default="shipped", help="what the results are kept under")
    reader.add_argument("--limit", type=int, default=0, help="at most so many pairs")
    reader.add_argument("--epochs", type=float, default=1.0)
    reader.add_argument("--held-out", type=float, default=0.2, help="the share of the topics that is kept to measure on")
    reader.add_argument("--longest", type=int, default=0, help="leave out pairs of more tokens than this; 0 for none")
    reader.add_argument("--folder", type=Path)
    reader.add_argument("--show", action="store_true", help="train nothing")
    asked = reader.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not asked.show:
        found[asked.name] = measure(asked)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
