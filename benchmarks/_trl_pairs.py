"""TRL's side of benchmarks/pair_steps.py, run in an environment of its own (make bench-trl-env). Prints one JSON line: seconds a step, peak memory."""

from __future__ import annotations

import itertools
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer


class Watch(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.stamps.append(time.perf_counter())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.stamps.append(time.perf_counter())


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    rows, watch = Dataset.from_list(given["pairs"]), Watch()
    adapter = LoraConfig(r=given["lora_rank"], lora_alpha=2 * given["lora_rank"], lora_dropout=0.0, target_modules="all-linear",
                         task_type="CAUSAL_LM" if given["method"] == "dpo" else "SEQ_CLS") if given["lora_rank"] else None
    with tempfile.TemporaryDirectory() as folder:
        shared: dict[str, Any] = {"output_dir": folder, "per_device_train_batch_size": given["batch_size"], "max_steps": given["steps"], "learning_rate": 1e-5,
                                  "report_to": [], "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "save_strategy": "no",
                                  "logging_steps": 1, "disable_tqdm": True, "max_length": 1024}
        if given["method"] == "dpo":
            model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
            trainer: Any = DPOTrainer(model=model, args=DPOConfig(precompute_ref_log_probs=True, beta=0.1, **shared), train_dataset=rows,
                                      processing_class=tokenizer, peft_config=adapter, callbacks=[watch])
        else:
            model = AutoModelForSequenceClassification.from_pretrained(given["model"], dtype=torch.float32, num_labels=1)
            trainer = RewardTrainer(model=model, args=RewardConfig(**shared), train_dataset=rows, processing_class=tokenizer, peft_config=adapter,
                                    callbacks=[watch])
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(json.dumps({"seconds": [later - sooner for sooner, later in itertools.pairwise(watch.stamps)], "losses": losses,
                      "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


if __name__ == "__main__":
    main()
