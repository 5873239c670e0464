"""Experience for on-policy methods: completions from the policy, what every network says of them, and what the reward gives.

Dimensions: N completions, C tokens of the longest.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from auditor.errors import AuditorError, InputError, TrainingError
from auditor.schema import Message, Prompt
from auditor.training.core.batch import Batch, Encoded, Encoder, can_share, collate, micro_batches, order
from auditor.training.core.nets import PolicyNet, ScalarNet
from auditor.training.core.optimise import Stepper
from auditor.training.core.rewards import Episode, Part, Reward, Scale, combine, scales, score
from auditor.training.core.rollout import Sampled, Sampler, Sampling, ended
from auditor.training.core.world import World


class ActorCritic(nn.Module):
    """A policy and a value network of its own, as one module with one optimiser; gradients are clipped network by network."""

    networks = ("policy.", "value.")

    def __init__(self, policy: PolicyNet, value: ScalarNet) -> None:
        super().__init__()
        self.policy, self.value = policy, value

    def forward(self, batch: Batch, temperature: float = 1.0, entropy: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Log-probabilities (B, C), values (B, C) and, if asked, entropies (B, C)."""
        logprobs, entropies = self.policy(batch, temperature, entropy)
        return logprobs, self.value(batch, every_token=True), entropies


class Reference:
    """The frozen starting policy: the same weights without their adapter, or a copy where every weight is trained."""

    def __init__(self, policy: PolicyNet, world: World) -> None:
        self.adapted = hasattr(policy.model, "disable_adapter")
        self.net = (policy if self.adapted else copy.deepcopy(policy).requires_grad_(False).eval()).to(world.device)
        self.shards = None if self.adapted else world.shards(self.net)

    def whole(self) -> AbstractContextManager[None]:
        """A copy has its weights inside, where they are in parts. Every rank enters it."""
        return self.shards.whole() if self.shards else nullcontext()

    def active(self) -> AbstractContextManager[Any]:
        return self.net.model.disable_adapter() if self.adapted else nullcontext()

    @torch.no_grad()
    def logprobs(self, batch: Batch, temperature: float) -> torch.Tensor:
        """(B, C)."""
        with self.active():
            return self.net(batch, temperature)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A pass over all rows whose gradient can still be taken: log-probabilities and values (N, C), the rows as ``places`` of the experience names them."""

    places: tuple[int, ...]
    logprobs: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """N scored completions. Tensors are (N, C), 0 beyond the mask; ``scores`` (N,) is the reward; ``share`` as in :func:`collate`.

    ``sampler`` are the log-probabilities by whoever drew the completions, None where it was the policy itself. ``first`` is the pass that ``old``
    and ``values`` come from, where it was made with its gradient and left out no row.
    """

    rows: tuple[Encoded, ...]
    mask: torch.Tensor
    old: torch.Tensor
    values: torch.Tensor
    reference: torch.Tensor
    entropy: torch.Tensor
    scores: torch.Tensor
    sampler: torch.Tensor | None = None
    first: Pass | None = None
    share: bool = False
    statistics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How completions are drawn and scored."""

    sampling: Sampling
    parts: tuple[Part, ...]
    missing_eos: str
    penalty: float
    budget: int
    seed: int
    stage: str = ""  # part of every draw's key: two stages never draw alike


def prompts_at(count: int, seed: int, update: int, size: int) -> list[tuple[int, int]]:
    """(pass, index) of the prompts, ``count`` in all, of one update (0-based) of ``size`` completions: a function of the seed and the update alone."""
    places = [divmod(place, count) for place in range(update * size, (update + 1) * size)]
    passes = {epoch: order(count, seed, epoch) for epoch in {epoch for epoch, _ in places}}
    return [(epoch, passes[epoch][index]) for epoch, index in places]


Look = Callable[[Batch, bool], tuple[torch.Tensor, ...]]


class Collector:
    """Draws prompts, completions and scores. ``prompts`` are (id, messages, tokens).

    Completions are written in ``stepper``'s type, as they are trained on; rewards are computed as their own models were measured, in float32.
    """

    def __init__(self, engine: Any, prompts: Sequence[tuple[str, tuple[Message, ...], tuple[int, ...]]], rewards: Mapping[str, Reward],
                 rules: Rules, stepper: Stepper) -> None:
        self.engine, self.prompts, self.rewards, self.rules = engine, prompts, rewards, rules
        self.computing, self.world = stepper.computing, stepper.world
        self.how: dict[str, Scale] = {}
        self.share = can_share(engine.model.config)

    def normalise(self, sampler: Sampler, count: int) -> float:
        """Set each component's mean and sd on ``count`` samples of the policy as it is now; returns the share that did not end by itself."""
        # Prompts of all kinds, drawn as the updates draw theirs: in a file's own order the first may all be of one topic.
        chosen = [self.prompts[index] for _, index in prompts_at(len(self.prompts), self.rules.seed, 0, count)]
        names = [f"{self.rules.stage}|normalise|{index}|{name}" for index, (name, _, _) in enumerate(chosen)]
        mine = self.world.share(list(zip(names, chosen, strict=True)))
        rows, scored, _ = self._written([(name, item[1], item[2]) for name, item in mine], sampler)
        gathered = {name: self.world.gather(values) for name, values in scored.items()}
        self.how = scales(self.rules.parts, gathered)
        open_ended = self.world.gather([not ended(row, self.engine.stop_tokens) for row in rows])
        return sum(open_ended) / len(open_ended)

    def _written(self, mine: Sequence[tuple[str, tuple[Message, ...], tuple[int, ...]]],
                 sampler: Sampler) -> tuple[Sequence[Encoded], dict[str, list[float | None]], float]:
        """Completions of this rank's prompts, each component's scores of them, and when the last was written. One rank's error is every rank's."""
        rows: Sequence[Encoded] = ()
        scored: dict[str, list[float | None]] = {}
        wrote, problem = 0.0, None
        try:
            with self.computing():
                rows = sampler([(name, tokens) for name, _, tokens in mine], self.rules.sampling, self.rules.seed)
            wrote = time.perf_counter()
            scored = score(self.rewards, [self._episode(item[1], row) for item, row in zip(mine, rows, strict=True)])
        except AuditorError as error:
            problem = error
        self.world.agree(problem)
        return rows, scored, wrote

    def _episode(self, messages: tuple[Message, ...], row: Encoded) -> Episode:
        tokens = row.completion[:-1] if ended(row, self.engine.stop_tokens) else row.completion
        text = str(self.engine.tokenizer.decode(list(tokens), skip_special_tokens=True))
        return Episode(messages=messages, row=row, text=text, finished=ended(row, self.engine.stop_tokens))

    def choose(self, update: int, size: int) -> list[tuple[str, tuple[Message, ...], tuple[int, ...]]]:
        """The prompts of one update: an order of all prompts per pass over them, drawn from the seed and the pass."""
        chosen = [(epoch, self.prompts[index]) for epoch, index in prompts_at(len(self.prompts), self.rules.seed, update, size)]
        return [(f"{self.rules.stage}|{name}|{epoch}", messages, tokens) for epoch, (name, messages, tokens) in chosen]

    def collect(self, update: int, size: int, sampler: Sampler, look: Look) -> Experience:
        """One update's experience. ``look(batch, whole)`` gives log-probabilities, values, reference log-probabilities and entropies, each (B, C).
        ``whole``: the batch holds all rows and would be one micro-batch in training. The first two may then carry their gradient; the experience
        keeps that pass where every row could be scored.

        Completions whose reward cannot tell are left out and counted. Raises TrainingError where none is left.
        """
        started = time.perf_counter()
        mine = self.world.share(self.choose(update, size))
        rows, scored, wrote = self._written(mine, sampler)
        totals = combine(self.rules.parts, scored, self.how)
        judged = time.perf_counter()
        seen, first = self._look(rows, look)
        looked = time.perf_counter()
        together = self.world.gather(list(zip(rows, totals, seen, strict=True)))
        components = {name: self.world.gather(values) for name, values in scored.items()}
        kept = [(row, total, tensors) for row, total, tensors in together if total is not None]
        if not kept:
            raise TrainingError(f"the reward could not score any of the {len(together)} completions of update {update + 1}; "
                                "pass prompts that it can judge")
        seconds = {"seconds_rollout": wrote - started, "seconds_reward": judged - wrote, "seconds_logprobs": looked - judged}
        experience = self._assemble(kept, len(together) - len(kept), components, seconds)
        return replace(experience, first=first) if len(kept) == len(rows) else experience

    def _look(self, rows: Sequence[Encoded], look: Look) -> tuple[list[list[torch.Tensor]], Pass | None]:
        """What ``look`` says of each of this rank's rows; and the pass itself, where there was one with its gradient."""
        found: dict[int, list[torch.Tensor]] = {}
        first = None
        trained, groups = (micro_batches(range(len(rows)), lambda place: rows[place].length, factor * self.rules.budget) for factor in (1, 2))
        for group in groups:
            parts = look(collate([rows[place] for place in group], self.world.device, share=self.share), len(trained) == 1)
            if parts[0].requires_grad:
                first = Pass(places=tuple(group), logprobs=parts[0], values=parts[1])
            for index, place in enumerate(group):
                found[place] = [part[index, :len(rows[place].completion)].detach().float().cpu() for part in parts]
        return [found[place] for place in range(len(rows))], first

    def _assemble(self, kept: Sequence[tuple[Encoded, float, list[torch.Tensor]]], unscored: int,
                  components: Mapping[str, Sequence[float | None]], seconds: Mapping[str, float]) -> Experience:
        rows = tuple(row for row, _, _ in kept)
        counts = torch.tensor([len(row.completion) for row in rows])
        mask = torch.arange(int(counts.max()))[None, :] < counts[:, None]
        padded = [torch.nn.utils.rnn.pad_sequence([tensors[place] for _, _, tensors in kept], batch_first=True) for place in range(4)]
        finished = torch.tensor([ended(row, self.engine.stop_tokens) for row in rows])
        proxy = torch.tensor([total for _, total, _ in kept], dtype=torch.float32)
        replaced = torch.where(finished, proxy, -torch.full_like(proxy, self.rules.penalty))
        scores = proxy - self.rules.penalty * (~finished).float() if self.rules.missing_eos == "subtract" else replaced
        lengths = counts.float()
        statistics = {f"reward/{name}": _mean(values) for name, values in components.items()} | dict(seconds) | {
            "reward": float(proxy.mean()), "score": float(scores.mean()), "unscored": float(unscored), "no_eos": float((~finished).float().mean()),
            "length": float(lengths.mean()), "length_p95": float(lengths.quantile(0.95))}
        device = self.world.device
        old, values, reference, entropy = (part.to(device) for part in padded)
        drawn = [torch.tensor(row.logprobs) for row in rows if isinstance(row, Sampled)]
        sampler = torch.nn.utils.rnn.pad_sequence(drawn, batch_first=True).to(device) if drawn else None
        return Experience(rows=rows, mask=mask.to(device), old=old, values=values, reference=reference, entropy=entropy, scores=scores.to(device),
                          sampler=sampler, share=self.share, statistics=statistics)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def encoded_prompts(items: Sequence[Prompt], encoder: Encoder, room: int) -> list[tuple[str, tuple[Message, ...], tuple[int, ...]]]:
    """(id, messages, tokens) of each prompt. Raises InputError for one that leaves no ``room`` tokens for its completion."""
    found = [(item.id, item.prompt, encoder.prompt(item.prompt)) for item in items]
    for name, _, tokens in found:
        if len(tokens) + room > encoder.limit:
            raise InputError(f"prompt {name!r} has {len(tokens)} tokens: with max_new_tokens = {room} it exceeds {encoder.limit} "
                             "(max_length, or the model's context); shorten it, leave it out, or raise max_length")
    return found
