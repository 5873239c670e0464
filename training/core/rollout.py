"""Completions from the policy in training: by the audit engine's decoder, where rows leave the batch at their end of sequence, or by a server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from auditor.errors import InputError, ModelError, TrainingError
from auditor.models.decode import Clock, Row, decode, uniforms
from auditor.models.endpoint_options import check_url
from auditor.training.core.batch import Encoded
from auditor.training.core.config import Optimisation, check_above_0
from auditor.training.core.nets import PolicyNet
from auditor.training.core.stage import StageRun

MOST_UNFINISHED = 0.3  # share of completions without an end


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts(Optimisation):
    """Who writes the completions of an on-policy method.

    ``rollout_server``: the URL of a vLLM server, up to and with /v1, that is handed the LoRA adapter before each update; "" for the built-in
    decoder, and then nothing else here has an effect. ``importance`` = truncate weighs each token's policy loss by π_trainer/π_server at
    sampling time, at most ``importance_cap``. A mean difference of their log-probabilities above ``mismatch_limit`` (nats a token)
    stops the run. ``rollout_concurrency`` requests at once, each given up after ``rollout_timeout`` seconds.
    """

    max_new_tokens: int = 48
    temperature: float = 1.0
    rollout_server: str = ""
    importance: Literal["truncate", "none"] = "truncate"
    importance_cap: float = 2.0
    mismatch_limit: float = 0.1
    rollout_concurrency: int = 64
    rollout_timeout: float = 600.0


def check_rollouts(config: Rollouts, place: str) -> None:
    """Raise InputError where a setting cannot be right."""
    check_above_0(config, ("max_new_tokens", "temperature", "mismatch_limit", "rollout_concurrency", "rollout_timeout"), place)
    if config.importance_cap < 1:
        raise InputError(f"{place}: importance_cap is {config.importance_cap}; pass 1 or more: a lower cap would cut the weight of tokens on which all agree")
    if not config.rollout_server:
        return
    if not re.match(r"https?://", config.rollout_server, re.IGNORECASE):
        said = "holds a user name or password" if "@" in config.rollout_server else f"is {config.rollout_server!r}"
        raise InputError(f'{place}: rollout_server {said}; pass the server\'s URL up to and with /v1, such as "http://127.0.0.1:8000/v1"')
    try:
        check_url(config.rollout_server)
    except ModelError as error:
        raise InputError(f"{place}: rollout_server: {error}") from None
    if not config.lora_rank:
        raise InputError(f"{place}: rollout_server with lora_rank = 0: only adapters can be handed to a running server; set lora_rank (16, say), or leave "
                         "rollout_server out to train every weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn: no top-k, no top-p, so that the sampled distribution is the one whose log-probabilities are trained."""

    temperature: float = 1.0
    max_new_tokens: int = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Encoded):
    """A completion written elsewhere: ``logprobs`` of its tokens in the distribution that they were drawn from."""

    logprobs: tuple[float, ...]


class Sampler(Protocol):
    """A generator: tokens in, tokens out. ``source`` names one that is not the network in training itself; its completions are Sampled."""

    source: str

    def __call__(self, prompts: Sequence[tuple[str, tuple[int, ...]]], sampling: Sampling, seed: int) -> Sequence[Encoded]:
        """Completions of (id, prompt tokens), in order. One that ended by itself ends with its stop token; no other does."""

    def close(self) -> None:
        """No more will be asked for."""


def row_seed(seed: int, name: str) -> int:
    """The seed of one completion: a function of the run's seed and the sample's name, never of its place in a batch."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big")


@contextmanager
def _casts_kept(model: Any) -> Iterator[None]:
    """Under autocast each weight is cast once, not at every token. Autocast keeps its casts of those weights alone that want a gradient, which those below
    adapters do not. The casts were made without one: earlier releases of PyTorch would give the next pass none, hence they are let go of."""
    frozen: list[torch.Tensor] = []
    if torch.is_autocast_enabled(model.device.type):
        frozen = [weight for weight in model.parameters() if weight.is_floating_point() and not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
        torch.clear_autocast_cache()


class EngineSampler:
    """The audit engine's decoder on the network in training. ``rows`` bounds the batch."""

    source = ""

    def __init__(self, engine: Any, model: Any, rows: int = 64) -> None:
        self.engine, self.model, self.rows = engine, model, rows
        self.clock = Clock()

    def __call__(self, prompts: Sequence[tuple[str, tuple[int, ...]]], sampling: Sampling, seed: int) -> list[Encoded]:
        training = self.model.training
        self.model.eval()  # in training mode with gradient checkpointing there is no cache
        ordered = sorted(range(len(prompts)), key=lambda index: len(prompts[index][1]))
        done: dict[int, Encoded] = {}
        for start in range(0, len(ordered), self.rows):
            places = ordered[start:start + self.rows]
            rows = [self._row(*prompts[place], sampling, seed) for place in places]
            with _casts_kept(self.model):
                decode(self.model, rows, self.engine.stop_tokens, self.clock)
            if not all(row.finite for row in rows):
                raise TrainingError("the policy gives logits that are not finite: its weights have come apart; go back to the last checkpoint with a lower lr")
            for place, row in zip(places, rows, strict=True):
                name, prompt = prompts[place]
                ending = () if row.stopped_by is None else (row.stopped_by,)
                done[place] = Encoded(id=name, prompt=prompt, completion=(*row.tokens, *ending))
        self.model.train(training)
        return [done[index] for index in range(len(prompts))]

    def close(self) -> None:
        """There is nothing to give back."""

    def _row(self, name: str, prompt: tuple[int, ...], sampling: Sampling, seed: int) -> Row:
        room = min(sampling.max_new_tokens, self.engine.context - len(prompt))
        numbers = uniforms(row_seed(seed, name), room + 1) if sampling.temperature > 0 else None
        return Row(prompt=list(prompt), max_tokens=room, temperature=sampling.temperature, uniforms=numbers)


def ended(row: Encoded, stop_tokens: frozenset[int]) -> bool:
    """Whether a completion ended by itself."""
    return bool(row.completion) and row.completion[-1] in stop_tokens


def warn_of_unfinished(config: Rollouts, run: StageRun, whose: str, share: float) -> bool:
    """Say so where so many completions have no end of sequence that the reward reads half-sentences."""
    if share > MOST_UNFINISHED:
        run.reporter.say(f"{run.name}: {share:.0%} of {whose} do not end within {config.max_new_tokens} tokens; a larger max_new_tokens would let most "
                         "of them end, no_eos_limit stops a run at a share")
    return share > MOST_UNFINISHED


def open_sampler(config: Rollouts, run: StageRun, engine: Any, policy: PolicyNet, longest: int) -> Sampler:
    """Who writes the completions. ``longest``: the most tokens that a prompt and its completion have together.

    Raises InputError for a server that is not there, cannot load adapters, or lacks what training needs of it.
    """
    if not config.rollout_server:
        return EngineSampler(engine, policy.lm)
    try:
        import openai  # noqa: F401
    except ImportError:
        raise InputError("rollout_server needs the official openai client, which is not installed here; pip install 'alignment-auditor[openai]'") from None
    from auditor.training.core.rollout_server import ServerSampler

    return ServerSampler(config, run, engine, policy, longest)
