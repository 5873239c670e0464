"""Supervised training: epochs over examples, in optimiser steps, with checkpoints that continue to the same losses."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from auditor.errors import InputError
from auditor.training.core.batch import micro_batches, order
from auditor.training.core.config import Optimisation
from auditor.training.core.guard import Guard
from auditor.training.core.optimise import Stepper
from auditor.training.core.stage import StageRun

Sums = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is trained on what.

    ``loss(net, examples)`` returns the *sum* of the examples' losses and sums of statistics; ``weight(example)`` is what an example adds to
    the divisor (1, or its tokens for a mean over tokens): the step's loss is all sums over all weights, however the batch is cut up.
    """

    net: nn.Module
    examples: Sequence[Any]
    loss: Callable[[nn.Module, Sequence[Any]], tuple[torch.Tensor, Sums]]
    length: Callable[[Any], int]
    weight: Callable[[Any], float] = lambda example: 1.0


def steps_of(config: Optimisation, examples: int) -> int:
    """Optimiser steps that the configuration makes of so many examples."""
    steps = math.ceil(config.epochs * math.ceil(examples / config.batch_size))
    return min(steps, config.max_steps) if config.max_steps else steps


def batch_at(config: Optimisation, count: int, seed: int, step: int) -> list[int]:
    """Indices of the examples in optimiser step ``step`` (0-based): a function of the seed and the step alone."""
    per_epoch = math.ceil(count / config.batch_size)
    epoch, place = divmod(step, per_epoch)
    return order(count, seed, epoch)[place * config.batch_size:(place + 1) * config.batch_size]


def fit(task: Task, config: Optimisation, run: StageRun) -> Stepper:
    """Train ``task.net`` in place and return its stepper. With ``run.resume`` it goes on from the newest checkpoint.

    Raises TrainingError where the loss is not finite or explodes, or the disk is full; InputError without examples.
    """
    if not task.examples:
        raise InputError(f"stage {run.name!r} has no examples; pass data that hold at least one")
    total = steps_of(config, len(task.examples))
    stepper = Stepper(task.net, config, total, run.world)
    guard = Guard(run.name, config.on_divergence)
    data = fingerprint(task.examples)
    start, state = restore(stepper, config, run, data)
    guard.losses.extend(state.get("losses", ()))
    run.reporter.stage(run.name, total, start)
    for step in range(start, total):
        chosen = [task.examples[index] for index in batch_at(config, len(task.examples), run.seed, step)]
        values = train_step(task, chosen, stepper)
        record(run, step + 1, values)
        guard.check(step + 1, values)
        if (step + 1) % config.save_every == 0 and step + 1 < total:
            save(stepper, config, run, step + 1, {"data": data, "losses": list(guard.losses)})
    stepper.finish()
    run.reporter.finished(run.name)
    return stepper


def train_step(task: Task, chosen: Sequence[Any], stepper: Stepper) -> dict[str, float | None]:
    """One optimiser step on ``chosen``; returns its loss, statistics, gradient norm, learning rate and tokens per second."""
    started = time.perf_counter()
    weight = sum(task.weight(example) for example in chosen)
    mine = stepper.world.share(chosen)
    sums: dict[str, float] = {"loss": 0.0}

    def compute(rows: Sequence[Any], share: float) -> torch.Tensor:
        loss, statistics = task.loss(stepper.net, rows)
        for name, value in {"loss": loss, **statistics}.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) * (share > 0)
        return loss * share / weight

    groups = stepper.world.in_step(micro_batches(mine, task.length, stepper.config.micro_tokens), chosen[:1])
    lr = stepper.lr
    stepper.accumulate([lambda group=group: compute(*group) for group in groups])
    norm = stepper.step()
    totals = stepper.world.total(sums)
    tokens = sum(task.length(example) for example in chosen)
    means: dict[str, float | None] = {name: value / weight for name, value in totals.items()}
    return means | {
        "gradient_norm": norm, "lr": lr, "tokens_per_second": tokens / (time.perf_counter() - started)}


def record(run: StageRun, step: int, values: Mapping[str, float | None]) -> None:
    """Write one step's statistics and tell whoever watches."""
    if run.world.is_main:
        run.log.write(step, values)
        run.reporter.step(run.name, step, values)


def save(stepper: Stepper, config: Optimisation, run: StageRun, step: int, extra: Mapping[str, Any] | None = None) -> None:
    """A checkpoint after ``step`` steps."""
    tensors = stepper.tensors()
    if run.world.is_main:
        run.checkpoints(config.keep).save(step, tensors, {"done": stepper.done, "seed": run.seed, **(extra or {})})
        if run.after_step:
            run.after_step(step)
    run.world.wait()


def fingerprint(items: Sequence[Any]) -> str:
    """SHA-256 of examples as they are trained on."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr(item).encode())
    return digest.hexdigest()


def restore(stepper: Stepper, config: Optimisation, run: StageRun, data: str) -> tuple[int, Mapping[str, Any]]:
    """Put the newest checkpoint back where the run resumes; returns the steps behind it and what was saved beside the weights.

    Raises InputError where the examples have changed since.
    """
    found = run.checkpoints(config.keep).latest() if run.resume else None
    step = 0
    state: Mapping[str, Any] = {}
    if found is not None:
        tensors, state = found
        if state.get("data") != data:
            raise InputError(f"stage {run.name!r}: its data (or its model's tokenizer) changed since the checkpoint at step {state['step']}; restore them, "
                             "or start again in another --out")
        stepper.restore(tensors, int(state["done"]))
        step = int(state["step"])
    if run.world.is_main:
        run.log.rewind(step)
    return step, state
