"""Which samples a run asks, and the random seed of each request: pure functions of the run's specification."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from auditor.errors import InputError
from auditor.schema import Request, Sample

QUICK_LIMIT = 40
FULL_EPOCHS = 3
PROFILES = ("quick", "standard", "full")


def load_samples(load: object, path: Path | None, suite: str) -> list[Sample]:
    """Read a suite's items. Raises InputError where two share an id or there are none."""
    samples: list[Sample] = load(path)  # type: ignore[operator]
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise InputError(f"suite {suite}: two items share the id {sample.id!r} in {path or 'the shipped items'}; ids must be unique")
        seen.add(sample.id)
    if not samples:
        raise InputError(f"suite {suite}: {path or 'the shipped file'} holds no items")
    return samples


def select(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most ``limit`` samples: tasks in proportion to their size, within a task one per cluster before a second of any.

    The choice depends on ids and the seed alone, so a smaller limit's samples are nearly a part of a larger one's.
    """
    if limit is None or limit >= len(samples):
        return list(samples)
    tasks: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        tasks[str(sample.metadata.get("task", ""))].append(sample)
    shares = _shares({task: len(members) for task, members in tasks.items()}, limit)
    chosen = {sample.id for task, members in tasks.items() for sample in _spread(members, shares[task], seed)}
    return [sample for sample in samples if sample.id in chosen]


def _shares(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """Largest-remainder shares; every task gets one sample where the limit allows."""
    total = sum(sizes.values())
    exact = {task: limit * size / total for task, size in sizes.items()}
    shares = {task: int(value) for task, value in exact.items()}
    if limit >= len(sizes):
        shares = {task: max(1, count) for task, count in shares.items()}
    while sum(shares.values()) > limit:
        shares[max(shares, key=lambda task: (shares[task] - exact[task], shares[task]))] -= 1
    for task in sorted(exact, key=lambda task: exact[task] - shares[task], reverse=True):
        if sum(shares.values()) >= limit:
            break
        shares[task] += 1
    return shares


def _spread(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    clusters: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        clusters[sample.cluster_id].append(sample)
    ranked = []
    for name, members in clusters.items():
        for rank, sample in enumerate(sorted(members, key=lambda sample: keyed(seed, sample.id))):
            ranked.append((rank, keyed(seed, name), sample))
    return [sample for _, _, sample in sorted(ranked, key=lambda item: item[:2])[:count]]


def keyed(seed: int, *parts: object) -> int:
    """A 63-bit number that depends on the seed and the parts alone."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def placed(request: Request, suite: str, sample: tuple[str, int], place: tuple[int, int], seed: int) -> Request:
    """The request with its sample (id, epoch), place (turn, slot) and its own seed filled in."""
    sample_id, epoch = sample
    turn, slot = place
    return dataclasses.replace(request, suite=suite, sample_id=sample_id, epoch=epoch, turn=turn, slot=slot,
                               seed=keyed(seed, suite, sample_id, epoch, turn, slot))
