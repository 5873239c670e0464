"""TRL's side of benchmarks/ppo_update.py, run in an environment of its own (make bench-ppo-env). Prints one JSON line with seconds per update."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    tokenizer = AutoTokenizer.from_pretrained(given["model"], padding_side="left")
    tokenizer.pad_token = "<|endoftext|>"  # TRL masks by token id: padding must not be the end token
    rows = Dataset.from_list([{"input_ids": ids} for ids in given["prompts"]])

    def load(kind: Any, **more: Any) -> Any:
        torch.manual_seed(0)
        model = kind.from_pretrained(given["model"], dtype=torch.float32, **more)
        model.config.pad_token_id = tokenizer.pad_token_id
        return model

    stamps: list[float] = []

    class Watch(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = PPOConfig(output_dir=folder, per_device_train_batch_size=16, total_episodes=16 * given["updates"], num_ppo_epochs=4, num_mini_batches=1,
                              response_length=48, temperature=1.0, stop_token="eos", missing_eos_penalty=1.0, kl_coef=0.05, learning_rate=1e-5,
                              num_sample_generations=0, report_to=[], bf16=given["bf16"], gradient_checkpointing=False, use_cpu=True, save_strategy="no",
                              logging_steps=1, disable_tqdm=True)
        trainer = PPOTrainer(args=arguments, processing_class=tokenizer, model=load(AutoModelForCausalLM), ref_model=load(AutoModelForCausalLM),
                             reward_model=load(AutoModelForSequenceClassification, num_labels=1), train_dataset=rows, eval_dataset=rows,
                             value_model=load(AutoModelForSequenceClassification, num_labels=1), callbacks=[Watch()])
        trainer.train()
    print(json.dumps({"seconds": [later - sooner for sooner, later in itertools.pairwise(stamps)]}))


if __name__ == "__main__":
    main()
