"""What the harness costs over an endpoint, and around vLLM in process: requests a second of a recorded run against the engine left to itself.

Both sides ask the same (the suites' own items, mixed lengths), greedily, one after the other in turns. Over an endpoint the bare side is asyncio, a
semaphore and ``client.chat.completions.create`` of the official client, with the same server and concurrency; in process it is one call of
``vllm.LLM.generate`` with all prompts tokenized. The harness side is a whole suite run: plan, replies in order, journal with fsync, database. Opening
(loading the model, or asking what the server can do) is left out of the ratio and printed.

    python benchmarks/endpoint_overhead.py                                                      # starts the tests' small server around SmolLM2
    python benchmarks/endpoint_overhead.py --url http://127.0.0.1:8000/v1 --model smollm2       # a real one: vllm serve … --served-model-name smollm2
    .venv-vllm/bin/python benchmarks/endpoint_overhead.py --in-process                          # vLLM in this process (make vllm-env)

Worked example of a line:  round 1   harness 10.21 requests/s   bare 10.30 requests/s   ratio 0.991
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("diversity", "verbosity", "refusal", "confidence", "sycophancy", "judge_agreement")
TARGET = 0.95


def prompts(count: int) -> list[str]:
    """The last user message of ``count`` items, taken from all suites in turn."""
    from auditor.engine.suites import load_suites

    pools = [[sample.messages[-1].content for sample in suite.load(None) if sample.messages[-1].role == "user"] for suite in load_suites(SUITES)]
    return [pool[place] for place in range(count) for pool in pools if place < len(pool)][:count]


def harness(model: Any, texts: list[str], tokens: int, name: str) -> float:
    """Seconds of a recorded run of all prompts."""
    from auditor.engine.rounds import Engines, SuiteRun
    from auditor.schema import Context, RunRecord, RunSpec, Sample, Suite, ask, user
    from auditor.store import RunWriter

    def solve(sample: Sample, context: Context) -> Iterator[Any]:
        yield [ask(sample.messages, max_tokens=tokens)]

    suite = Suite(name="load", version="1", title="", question="", method="", limits="", reference="", feedback_stage="", load=lambda _: [], solve=solve,
                  score=lambda *_: [], aggregate=lambda _: [], criteria=(), headline=())
    samples = [Sample(id=f"{index:05d}", messages=(user(text),), cluster_id=str(index)) for index, text in enumerate(texts)]
    record = RunRecord(run_id=name, spec=RunSpec(suites=("load",), suite_versions=("1",), model=model.spec), created="2026-01-01T00:00:00+00:00")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with RunWriter.create(Path(folder) / "load.duckdb", record) as writer:
            writer.samples("load", samples)
            data = SuiteRun(suite=suite, samples=samples, engines=Engines(model=model), writer=writer, context=Context(seed=0)).execute()
            seconds = time.perf_counter() - started
            writer.finish()
    failed = sum(reply.error is not None for replies in data.replies.values() for reply in replies[0])
    if failed:
        sys.exit(f"{failed} requests got no reply; the comparison would not be of the same work")
    return seconds


def bare(said: argparse.Namespace, texts: list[str], extra: dict[str, Any]) -> float:
    """Seconds of the same requests without the harness."""
    from openai import AsyncOpenAI

    from auditor.models.endpoint_options import api_key

    async def load() -> float:
        slots = asyncio.Semaphore(said.concurrency)
        async with AsyncOpenAI(base_url=said.url, api_key=api_key()) as client:

            async def one(text: str) -> None:
                async with slots:
                    await client.chat.completions.create(model=said.model, messages=[{"role": "user", "content": text}], max_tokens=said.tokens,
                                                         temperature=0.0, top_p=1.0, extra_body=extra)

            started = time.perf_counter()
            await asyncio.gather(*map(one, texts))
            return time.perf_counter() - started

    return asyncio.run(load())


@contextmanager
def own_server() -> Iterator[str]:
    """The tests' small server around the embedded model, in a process of its own."""
    from auditor.models.resolve import resolve

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.txt"
        command = [sys.executable, str(ROOT / "tests" / "endpoint" / "server.py"), str(resolve("smollm2").folder), "--name", "smollm2", "--ready", str(ready)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                while not ready.exists() and server.poll() is None:
                    time.sleep(0.1)
                if server.poll() is not None:
                    sys.exit("the server did not start")
                yield ready.read_text()
            finally:
                server.kill()


def over_endpoint(said: argparse.Namespace) -> tuple[Any, Callable[[list[str]], float]]:
    """The model, and the bare side of it: seconds for a list of texts."""
    from auditor.models.endpoint import EndpointModel
    from auditor.models.endpoint_options import EndpointOptions

    model = EndpointModel(f"openai:{said.model}@{said.url}", EndpointOptions(concurrency=said.concurrency))
    extra = dict(model.asker.abilities.sampling)
    return model, lambda texts: bare(said, texts, extra)


def in_process(said: argparse.Namespace) -> tuple[Any, Callable[[list[str]], float]]:
    """vLLM in this process, and ``LLM.generate`` on the same tokens without the harness."""
    from auditor.models.resolve import EngineOptions, open_model
    from auditor.schema import ask, user

    model: Any = open_model(f"vllm:{said.model}", EngineOptions(dtype="float32", engine_args=(("max_model_len", "2048"),)))

    def alone(texts: list[str]) -> float:
        sampling = model.vllm.SamplingParams(temperature=0.0, max_tokens=said.tokens)
        started = time.perf_counter()
        model.llm.generate([{"prompt_token_ids": model.prompt_ids(ask([user(text)]))} for text in texts], sampling, use_tqdm=False)
        return time.perf_counter() - started

    return model, alone


def measure(said: argparse.Namespace) -> float:
    started = time.perf_counter()
    model, alone = in_process(said) if said.in_process else over_endpoint(said)
    print(f"{model.spec.engine}   opened in {time.perf_counter() - started:.1f} s   {said.prompts} prompts, at most {said.tokens} tokens"
          + ("" if said.in_process else f", {said.concurrency} in flight"))
    texts = prompts(said.prompts)
    alone(texts)  # warms the engine up, its cache of prompts too: else the side that goes first would fill it for the other
    ratios = []
    for turn in range(said.rounds):
        seconds: dict[str, float] = {}
        for side in ("harness", "bare") if turn % 2 == 0 else ("bare", "harness"):
            seconds[side] = harness(model, texts, said.tokens, f"load-{turn}") if side == "harness" else alone(texts)
        ratios.append(seconds["bare"] / seconds["harness"])
        print(f"round {turn + 1}   harness {len(texts) / seconds['harness']:.2f} requests/s   bare {len(texts) / seconds['bare']:.2f} requests/s   "
              f"ratio {ratios[-1]:.3f}", flush=True)
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--in-process", action="store_true", help="vLLM in this process instead of an endpoint")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    if said.url or said.in_process:
        ratio = measure(said)
    else:
        with own_server() as said.url:
            ratio = measure(said)
    print(f"harness / bare: {ratio:.3f} (median of {said.rounds}; target {TARGET})")


if __name__ == "__main__":
    main()
