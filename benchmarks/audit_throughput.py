"""Generation throughput of the audit engine against plain ``model.generate`` and lm-evaluation-harness.

All sides answer the same prompts (the suites' own items, mixed lengths) with the same weights, dtype, threads, batch
size and token limit, greedily, stopping where the model stops. Each runs in a process of its own, one after the other; the
seconds are those of generation, without start-up and loading. Tokens counted are those of the answers, up to the stop.

    python benchmarks/audit_throughput.py                     # all sides that are installed, batch 64 and 256
    make bench-env                                            # installs lm-eval into .venv-bench, for its side

Worked example of a line:  ours  batch 64  256 prompts  21034 tokens  96.1 s  219 tokens/s  ...
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GFLOP_A_TOKEN = 0.27  # 2 × 135 million parameters
SUITES = ("diversity", "verbosity", "refusal", "confidence", "sycophancy", "judge_agreement")


def prompts(count: int) -> list[list[dict[str, str]]]:
    """The last user message of ``count`` items, taken from all suites in turn."""
    from auditor.engine.suites import load_suites

    pools = [[sample.messages for sample in suite.load(None)] for suite in load_suites(SUITES)]
    mixed = [pool[place] for place in range(count) for pool in pools if place < len(pool)]
    return [[{"role": "user", "content": messages[-1].content}] for messages in mixed[:count]]


def ours(job: dict[str, Any]) -> dict[str, float]:
    from dataclasses import replace

    from auditor.models.resolve import EngineOptions, open_model
    from auditor.schema import Message, ask

    model = open_model(job["folder"], EngineOptions(dtype=job["dtype"], batch_rows=job["batch"]))
    requests = [replace(ask([Message(**message) for message in chat], max_tokens=job["limit"]), sample_id=str(index))
                for index, chat in enumerate(job["prompts"])]
    list(model.run(requests[:2]))
    model.clock.model_seconds = 0.0
    started = time.perf_counter()
    replies = [reply for batch in model.plan(requests) for reply in model.run(batch)]
    seconds = time.perf_counter() - started
    tokens = sum(reply.usage.completion_tokens for reply in replies)
    return {"seconds": seconds, "tokens": tokens, "read": sum(reply.usage.prompt_tokens for reply in replies),
            "outside": 1 - model.clock.model_seconds / seconds}


def plain(job: dict[str, Any]) -> dict[str, float]:
    """transformers' own generate in fixed batches, in the order of the prompts sorted by length, as a careful user would."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"], padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(job["folder"], dtype=getattr(torch, job["dtype"])).eval()
    texts = sorted((tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in job["prompts"]), key=len)
    stop = tokenizer.eos_token_id
    started, tokens = time.perf_counter(), 0
    for first in range(0, len(texts), job["batch"]):
        read = tokenizer(texts[first:first + job["batch"]], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            written = model.generate(**read, max_new_tokens=job["limit"], do_sample=False, pad_token_id=stop)
        for row in written[:, read["input_ids"].shape[1]:].tolist():
            tokens += row.index(stop) if stop in row else len(row)
    return {"seconds": time.perf_counter() - started, "tokens": tokens}


def lm_eval(job: dict[str, Any]) -> dict[str, float]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=job["folder"], dtype=job["dtype"], batch_size=job["batch"], device="cpu")
    stop = model.tokenizer.eos_token
    texts = [model.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in job["prompts"]]
    asked = [Instance(request_type="generate_until", doc={}, idx=index, arguments=(text, {"until": [stop], "max_gen_toks": job["limit"], "do_sample": False}))
             for index, text in enumerate(texts)]
    started = time.perf_counter()
    written = model.generate_until(asked, disable_tqdm=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "tokens": sum(len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in written)}


def matrix_rate(dtype: str) -> float:
    """This machine's matrix-product rate in GFLOP/s: the best of several products of 2048 × 2048."""
    import torch

    a, b = (torch.randn(2048, 2048).to(getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best / 1e9


def measure(side: str, python: str, job: dict[str, Any]) -> dict[str, float]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([python, __file__, "--side", side], input=json.dumps(job), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(arguments: argparse.Namespace) -> None:
    from auditor.models.resolve import resolve

    peer = ROOT / ".venv-bench" / "bin" / "python"
    pythons = {"ours": sys.executable, "plain": sys.executable, **({"lm_eval": str(peer)} if peer.exists() else {})}
    if not peer.exists():
        print("lm-eval is not installed (make bench-env): its side is left out")
    rate = matrix_rate(arguments.dtype)
    print(f"machine: {rate:.0f} GFLOP/s in {arguments.dtype} matrix products; {GFLOP_A_TOKEN} GFLOP a token; limit {arguments.limit} tokens")
    for batch in arguments.batch:
        job = {"folder": str(resolve("smollm2").folder), "batch": batch, "limit": arguments.limit, "dtype": arguments.dtype,
               "prompts": prompts(arguments.prompts)}
        found = {side: measure(side, python, job) for side, python in pythons.items()}
        for side, result in found.items():
            print(f"{side:8} batch {batch:3}  {arguments.prompts} prompts  {result['tokens']:.0f} tokens  {result['seconds']:.1f} s  "
                  f"{result['tokens'] / result['seconds']:.0f} tokens/s")
        best = max((side for side in found if side != "ours"), key=lambda side: found[side]["tokens"] / found[side]["seconds"])
        speeds = {side: result["tokens"] / result["seconds"] for side, result in found.items()}
        work = (found["ours"]["tokens"] + found["ours"]["read"]) * GFLOP_A_TOKEN / found["ours"]["seconds"]
        print(f"batch {batch}: ours / better of the others ({best}) = {speeds['ours'] / speeds[best]:.2f} (target 1.5); outside the model "
              f"{100 * found['ours']['outside']:.1f} % of the time (target 5); {work:.0f} GFLOP/s = {100 * work / rate:.0f} % of the machine's rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--side", choices=("ours", "plain", "lm_eval"))
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps({"ours": ours, "plain": plain, "lm_eval": lm_eval}[arguments.side](json.load(sys.stdin))))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
