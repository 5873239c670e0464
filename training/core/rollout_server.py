"""Completions of the policy in training, written by a vLLM server.

Weights go to the server as a LoRA adapter in a folder that it must see (the same machine, or a shared file system), loaded by its API while it
runs. Name and folder of an adapter follow from its weights: vLLM keeps computed prompts under both, so that neither may ever mean two things.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from auditor.errors import AuditorError, InputError, TrainingError
from auditor.items import file_sha256
from auditor.models.endpoint_asking import SEED_BITS
from auditor.models.endpoint_errors import Failure, failure
from auditor.models.endpoint_options import NO_KEY, EndpointOptions, api_key, check_url, is_exposed
from auditor.models.endpoint_pool import Pool
from auditor.models.endpoint_probe import PLAIN_SAMPLING, QUESTION, Probe, patiently
from auditor.models.endpoint_replies import ROUNDING, checked
from auditor.schema import Request, sha256_json
from auditor.training.core.batch import Encoded
from auditor.training.core.checkpoint import write_folder
from auditor.training.core.nets import PolicyNet
from auditor.training.core.rollout import Rollouts, Sampled, Sampling, row_seed
from auditor.training.core.stage import StageRun

WEIGHTS = "adapter_model.safetensors"
PREFIX = "auditor-"
T = TypeVar("T")
Prompt = tuple[str, tuple[int, ...]]


def save_adapter(net: PolicyNet, folder: Path, kept: str = "") -> Path:
    """Write the adapter under ``folder``, whole or not at all, in a folder named by its weights; all others but ``kept`` are removed.

    Raises TrainingError where the disk refuses.
    """
    partial = folder / "next"
    write_folder(partial, lambda place: net.model.save_pretrained(str(place), safe_serialization=True, save_embedding_layers=False))
    scale = sorted((config.r, config.lora_alpha) for config in net.model.peft_config.values())
    target = folder / (PREFIX + sha256_json([file_sha256(partial / WEIGHTS), scale])[:16])
    if target.exists():
        shutil.rmtree(partial)
    else:
        os.replace(partial, target)
    for other in folder.glob(PREFIX + "*"):
        if other.name not in (target.name, kept):
            shutil.rmtree(other, ignore_errors=True)
    return target


def read_completion(found: Mapping[str, Any], prompt: Sequence[int], room: int, stops: frozenset[int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Tokens of a reply and their log-probabilities. Raises Failure where it is not the whole completion of just this prompt."""
    choice = checked(found, "", 1)[0]
    tokens, logprobs = choice.get("token_ids"), choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list) or not isinstance(values, list):
        raise Failure("refused", "the reply has no token ids and log-probabilities of its own: a vLLM server of version 0.10.2 or newer is needed")
    if choice.get("prompt_token_ids") not in (None, list(prompt)):
        raise Failure("refused", f"the server changed the prompt: {len(prompt)} tokens went there and it read {len(choice['prompt_token_ids'])}")
    if not 0 < len(tokens) <= room or len(values) != len(tokens) or not all(type(token) is int for token in tokens):
        raise Failure("retry", f"the reply has {len(tokens)} tokens and {len(values)} log-probabilities, where up to {room} were asked for")
    if not all(isinstance(value, (int, float)) and math.isfinite(value) and value <= ROUNDING for value in values):
        raise Failure("retry", "the reply has a log-probability that is none: the server may not run with --logprobs-mode raw_logits or processed_logits")
    stopped, reason = tokens[-1] in stops, choice.get("finish_reason")
    if any(token in stops for token in tokens[:-1]) or reason != ("stop" if stopped else "length") or not (stopped or len(tokens) == room):
        raise Failure("retry", f"the reply ended after {len(tokens)} of {room} tokens for the reason {reason!r}, with token {tokens[-1]}")
    return tuple(tokens), tuple(min(0.0, float(value)) for value in values)


def has_temperature(plain: Mapping[str, float], drawn: Mapping[str, float], temperature: float) -> bool:
    """Whether ``drawn`` (token → log-probability) has the temperature in it, where ``plain`` is the same at 1: dividing logits by T divides every
    difference of log-probabilities by T. What shows nothing, for want of tokens in both or of any difference, is no yes."""
    both = sorted(set(plain) & set(drawn), key=lambda token: plain[token])
    spread, seen = (found[both[-1]] - found[both[0]] if both else 0.0 for found in (plain, drawn))
    return abs(seen - spread / temperature) < abs(seen - spread)


class ServerSampler:
    """A vLLM server as generator. Every call hands it the adapter first, if that has changed since the last one.

    Raises InputError on opening where the server is not there or lacks what is needed, TrainingError later where it fails.
    """

    def __init__(self, config: Rollouts, run: StageRun, engine: Any, policy: PolicyNet, longest: int) -> None:
        self.config, self.run, self.engine, self.policy = config, run, engine, policy
        self.url, self.key, self.folder = check_url(config.rollout_server), api_key(), (run.folder / "rollout").resolve()
        self.options = EndpointOptions(concurrency=config.rollout_concurrency, timeout=config.rollout_timeout)
        self.loaded = ""
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="rollouts", daemon=True).start()
        self.source = f"{self._agreed(self._open(longest))} at {self.url}"
        self._publish()
        if config.temperature != 1.0:
            self._agreed(self._check_temperature())
        if self.key != NO_KEY and is_exposed(self.url) and run.world.is_main:
            run.reporter.say(f"{run.name}: the key and all prompts cross the network unencrypted to {self.url} (http to another machine)")

    def __call__(self, prompts: Sequence[Prompt], sampling: Sampling, seed: int) -> list[Encoded]:
        done: dict[str, Encoded] = {}
        problem: AuditorError | None = None
        try:
            name = self._publish()
            self._await(self._draw_all(name, prompts, (sampling, seed), done))
        except (Failure, InputError) as error:
            problem = TrainingError(f"{self.url} does not write the policy's completions: {error}. The last good checkpoint stays; see to the server and "
                                    "go on with --resume")
        except TrainingError as error:  # it has lost the adapter and does not load it again
            problem = error
        self.run.world.agree(problem)
        return [done[name] for name, _ in prompts]

    def close(self) -> None:
        """Take the adapter off the server and remove its files."""
        if self.run.world.is_main:
            self._await(self._unload(self.loaded))
            shutil.rmtree(self.folder, ignore_errors=True)
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _agreed(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What the work gives, once no process has met an error in it."""
        found: T | None = None
        problem: AuditorError | None = None
        try:
            found = self._await(work)
        except AuditorError as error:
            problem = error
        self.run.world.agree(problem)
        return found

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        finally:
            future.cancel()  # on Ctrl-C nothing more is asked

    # -- opening --------------------------------------------------------------------------------------------------------------

    async def _open(self, longest: int) -> str:
        """Who is there. Raises ModelError for no API, InputError for a context that is too short."""
        async with _Opened(self) as pool:
            probe = Probe(pool, pool.servers[0], "")
            rows = (await probe.listing()).values()
            version = await probe.version()
        context = max((row["max_model_len"] for row in rows if type(row.get("max_model_len")) is int), default=None)
        if context is not None and context < longest:
            raise InputError(f"{self.url} serves a context of {context} tokens, and the longest prompt with its completion has {longest}; start it with "
                             f"--max-model-len {longest} or more")
        return f"vLLM {version}".strip()

    async def _check_temperature(self) -> None:
        """Whether log-probabilities are those of the distribution that is drawn from. Raises InputError where the temperature is not in them."""
        temperature, prompt = self.config.temperature, list(self.engine.prompt_ids(Request(kind="generate", messages=QUESTION)))
        asked = [self._body(self.loaded, prompt, 1, value) | {"logprobs": 5, "return_tokens_as_token_ids": True} for value in (1.0, temperature)]
        try:
            async with _Opened(self) as pool:
                found = [await pool.call("/completions", body, _likeliest) for body in asked]
        except Failure as problem:
            raise InputError(f"{self.url} does not write completions: {problem.text}") from None
        plain, drawn = (reply["choices"][0]["logprobs"]["top_logprobs"][0] for reply in found)
        if not has_temperature(plain, drawn, temperature):
            raise InputError(f"temperature = {temperature:g}: {self.url} gives log-probabilities before the temperature, not those of what it draws from; "
                             "start it with --logprobs-mode processed_logprobs, or set temperature = 1.0")

    # -- weights --------------------------------------------------------------------------------------------------------------

    def _publish(self) -> str:
        """Have the server hold the adapter as it is now; its name there. The first process does it, and all learn what came of it."""
        name, problem = self.run.world.gather([self._push() if self.run.world.is_main else ("", None)])[0]
        if problem is not None:
            raise problem
        self.loaded = name
        return name

    def _push(self) -> tuple[str, AuditorError | None]:
        try:
            place = save_adapter(self.policy, self.folder, self.loaded)
            if place.name != self.loaded:
                self._await(self._exchange(place))
            return place.name, None
        except AuditorError as error:
            return "", error

    async def _exchange(self, place: Path) -> None:
        async with _Opened(self) as pool:
            await self._load(pool, place)
        if self.loaded:
            await self._unload(self.loaded)

    async def _load(self, pool: Pool, place: Path) -> None:
        body = {"lora_name": place.name, "lora_path": str(place), "load_inplace": True}
        try:
            await patiently(lambda: _post(pool, "/load_lora_adapter", body), pool)
        except Failure as problem:
            raise self._no_adapter(problem, place) from None

    def _no_adapter(self, problem: Failure, place: Path) -> AuditorError:
        rank = self.config.lora_rank
        if "No adapter found" in problem.text:
            return InputError(f"{self.url} does not see {place}; it must run on this machine, or share the file system that holds --out ({problem.text})")
        if problem.text.startswith(("HTTP 404", "HTTP 405")) or "LoRA is not enabled" in problem.text:
            return InputError(f"{self.url} loads no adapters while it runs ({problem.text.partition(';')[0]}); start vLLM with "
                              f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment and the options --enable-lora --max-lora-rank {rank}")
        if "max_lora_rank" in problem.text:
            return InputError(f"{self.url} does not take an adapter of rank {rank}: start it with --max-lora-rank {rank} ({problem.text})")
        return TrainingError(f"{self.url} did not load the policy's adapter: {problem.text}. The last good checkpoint stays; see to the server and go on "
                             "with --resume")

    async def _unload(self, name: str) -> None:
        """Ask the server to forget an adapter; one that stays there harms nobody."""
        async with _Opened(self) as pool:
            try:
                await _post(pool, "/unload_lora_adapter", {"lora_name": name})
            except Failure:
                return

    # -- completions ----------------------------------------------------------------------------------------------------------

    async def _draw_all(self, name: str, prompts: Sequence[Prompt], how: tuple[Sampling, int], done: dict[str, Encoded]) -> None:
        """Fill ``done`` with all completions. A server that was started anew has lost its adapter: it gets it again, once. Raises Failure."""
        for attempt in range(2):
            try:
                async with _Opened(self) as pool:
                    slots = asyncio.Semaphore(self.options.concurrency)
                    async with asyncio.TaskGroup() as tasks:
                        for prompt in prompts:
                            if prompt[0] not in done:
                                tasks.create_task(self._draw((pool, slots), name, prompt, how, done))
                return
            except ExceptionGroup as group:
                first = group.exceptions[0]
                if attempt or not (isinstance(first, Failure) and first.text.startswith("HTTP 404")):
                    raise first from None
            async with _Opened(self) as pool:
                await self._load(pool, self.folder / name)

    async def _draw(self, line: tuple[Pool, asyncio.Semaphore], name: str, prompt: Prompt, how: tuple[Sampling, int], done: dict[str, Encoded]) -> None:
        (pool, slots), (sampling, seed), (row, ids) = line, how, prompt
        room = min(sampling.max_new_tokens, self.engine.context - len(ids))
        body = self._body(name, ids, room, sampling.temperature) | {"seed": row_seed(seed, row) & SEED_BITS}
        async with slots:
            found = await pool.call("/completions", body, lambda reply: _read(reply, name, (ids, room, self.engine.stop_tokens)))
        tokens, logprobs = read_completion(found, ids, room, self.engine.stop_tokens)
        done[row] = Sampled(id=row, prompt=ids, completion=tokens, logprobs=logprobs)

    def _body(self, name: str, ids: Sequence[int], room: int, temperature: float) -> dict[str, Any]:
        """A request for ``room`` tokens. What a server or a checkpoint's generation_config.json sets by default is switched off by name; the
        stop tokens are the trainer's own, and no others."""
        return {"model": name, "prompt": [list(ids)], "max_tokens": room, "temperature": temperature, "top_p": 1.0, **PLAIN_SAMPLING["vllm"],
                "logprobs": 1, "return_token_ids": True, "ignore_eos": True, "stop_token_ids": sorted(self.engine.stop_tokens)}


def _read(reply: dict[str, Any], name: str, expected: tuple[Sequence[int], int, frozenset[int]]) -> None:
    checked(reply, name, 1)
    read_completion(reply, *expected)


def _likeliest(reply: dict[str, Any]) -> None:
    try:
        found = checked(reply, "", 1)[0]["logprobs"]["top_logprobs"][0]
    except (KeyError, IndexError, TypeError):
        found = None
    if not isinstance(found, dict) or len(found) < 2:
        raise Failure("retry", "the reply has no log-probabilities of the likeliest tokens")


async def _post(pool: Pool, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A call whose answer is a line of text. Raises Failure."""
    try:
        async with asyncio.timeout(pool.options.timeout):
            return {"text": await pool.servers[0].client.post(path, cast_to=str, body=dict(body))}
    except Exception as error:  # the client and its HTTP library raise many kinds
        raise failure(error, pool.key, pool.options.timeout) from None


class _Opened:
    """Connections to the server, closed at the end."""

    def __init__(self, sampler: ServerSampler) -> None:
        self.pool = Pool([sampler.url], sampler.key, sampler.options)

    async def __aenter__(self) -> Pool:
        return self.pool

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()
