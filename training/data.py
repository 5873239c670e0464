"""Training data: one format, read from the shipped set, files or the hub, checked row by row, split by topic.

Sources and their options are described in :mod:`auditor.training.sources`, the shapes of rows in :mod:`auditor.training.formats`,
both with examples in ``docs/training_data.md``. Every loader raises InputError where a source cannot be read or is one-sided as a
whole, and DataError (file and line) at a bad row. ``limit`` keeps that many items, drawn by a hash of seed and id: neither the
order of the file nor its other rows decide which.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from auditor.errors import DataError, InputError
from auditor.schema import Demonstration, Preference, Prompt, Unpaired, sha256_json
from auditor.training.formats import Item, detect
from auditor.training.sources import Options, parse, read_rows

T = TypeVar("T", Preference, Demonstration, Unpaired, Prompt)
log = logging.getLogger(__name__)


def load_preferences(source: str, *, limit: int | None = None, seed: int = 0) -> list[Preference]:
    """Preference pairs, in the order of the source.

    Raises InputError also where no label tells chosen from rejected, all tell against chosen, or all pairs share one chosen text.
    """
    items = _load(source, _as_preference, "preference pairs")
    labels = {item.label for item in items}
    if max(labels) < 0.5:
        raise InputError(f"{source}: every label is below 0.5 (highest {max(labels):g}), so chosen is never the better one; exchange the two, or add ?swap=1")
    if labels == {0.5}:
        raise InputError(f"{source}: every label is 0.5, which prefers neither reply; pass pairs that somebody preferred")
    if len(items) > 1 and len({item.chosen.strip() for item in items}) == 1:
        raise InputError(f"{source}: all {len(items)} pairs share one chosen text ({items[0].chosen[:40]!r}); a model trained on it would say only that")
    return _limited(items, limit, seed)


def load_demonstrations(source: str, *, limit: int | None = None, seed: int = 0) -> list[Demonstration]:
    """Demonstrations; a pair gives its chosen reply (``field=rejected`` its rejected one), an unpaired row its reply if it is desirable."""
    return _limited(_load(source, _as_demonstration, "demonstrations"), limit, seed)


def load_unpaired(source: str, *, limit: int | None = None, seed: int = 0) -> list[Unpaired]:
    """Replies marked as wanted or not; a pair gives one of each. Raises InputError also where all are marked alike."""
    items = _load(source, _as_unpaired, "marked replies")
    if len({item.desirable for item in items}) == 1:
        raise InputError(f"{source}: all {len(items)} replies are {'' if items[0].desirable else 'un'}desirable; both kinds are needed")
    return _limited(items, limit, seed)


def load_prompts(source: str, *, limit: int | None = None, seed: int = 0) -> list[Prompt]:
    """Prompts for rollouts, from any shape; a prompt that comes again is kept once."""
    first = {item.prompt: item for item in reversed(_load(source, _as_prompt, "prompts"))}
    return _limited(list(reversed(first.values())), limit, seed)


def split(items: Sequence[T], share: float, seed: int = 0) -> tuple[list[T], list[T]]:
    """(train, held out): a cluster is held out where the hash of seed and cluster id falls below ``share``.

    So more rows never move a cluster from one part to the other. Where the hash holds none out, the cluster with the smallest one is.
    Raises InputError where ``share`` is not in (0, 1) or nothing is left to train on.
    """
    if not 0 < share < 1:
        raise InputError(f"a held-out share of {share!r}; pass a number between 0 and 1, such as 0.1")
    hashes = {item.cluster_id: _uniform(seed, item.cluster_id) for item in items}
    held = {cluster for cluster, value in hashes.items() if value < share} or {min(hashes, key=lambda cluster: hashes[cluster], default="")}
    if held >= set(hashes):
        raise InputError(f"{len(items)} items in {len(hashes)} clusters leave nothing to train on when {share:g} is held out; pass more topics")
    return [item for item in items if item.cluster_id not in held], [item for item in items if item.cluster_id in held]


def data_hash(items: Sequence[Item]) -> str:
    """SHA-256 of all fields of all items, in their order."""
    return sha256_json(list(items))


def _uniform(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7]) / 2**56


def _limited(items: list[T], limit: int | None, seed: int) -> list[T]:
    if limit is None:
        return items
    if limit < 1:
        raise InputError(f"a limit of {limit}; pass at least 1, or none")
    kept = set(sorted((item.id for item in items), key=lambda name: _uniform(seed, name))[:limit])
    return [item for item in items if item.id in kept]


def _load(source: str, convert: Callable[[Item, Options], Iterable[T]], wanted: str) -> list[T]:
    """All items of a source, of the type that ``convert`` makes of them."""
    place, options = parse(source)
    seen: set[str] = set()
    found: list[T] = []
    for item in _items(place, options):
        if not options.keeps(item.cluster_id, item.metadata):
            continue
        if item.id in seen:
            raise InputError(f"{place}: two rows have the id {item.id!r}; give each its own")
        seen.add(item.id)
        found += convert(item, options)
    if not found:
        raise InputError(f"{source} holds no {wanted}; check its format and its options")
    return found


def _items(place: str, options: Options) -> Iterator[Item]:
    convert, left_out, total, first = None, 0, 0, ""
    for row in read_rows(place, options.config):
        convert = convert or detect(row, options.format)
        total += 1
        try:
            yield from list(convert(row))
        except DataError as error:
            if not options.skip:
                raise
            left_out, first = left_out + 1, first or str(error)
    if left_out:
        log.warning("%s: left out %d of %d rows; the first: %s", place, left_out, total, first)


def _as_preference(item: Item, options: Options) -> Iterator[Preference]:
    if isinstance(item, Preference):
        yield dataclasses.replace(item, chosen=item.rejected, rejected=item.chosen) if options.swap else item


def _as_demonstration(item: Item, options: Options) -> Iterator[Demonstration]:
    if isinstance(item, Preference):
        worse = (item.label < 0.5) != (options.swap != (options.field == "rejected"))
        text = item.rejected if worse else item.chosen
        yield Demonstration(id=item.id, prompt=item.prompt, completion=text, cluster_id=item.cluster_id, metadata=item.metadata)
    elif isinstance(item, Demonstration):
        yield item
    elif isinstance(item, Unpaired) and item.desirable:
        yield Demonstration(id=item.id, prompt=item.prompt, completion=item.completion, cluster_id=item.cluster_id, metadata=item.metadata)


def _as_unpaired(item: Item, options: Options) -> Iterator[Unpaired]:
    if isinstance(item, Unpaired):
        yield dataclasses.replace(item, desirable=item.desirable != options.swap)
    elif isinstance(item, Preference):
        better = item.label >= 0.5
        for name, text, wanted in (("chosen", item.chosen, better), ("rejected", item.rejected, not better)):
            yield Unpaired(id=f"{item.id}-{name}", prompt=item.prompt, completion=text, desirable=wanted != options.swap, cluster_id=item.cluster_id,
                           metadata=item.metadata)


def _as_prompt(item: Item, options: Options) -> Iterator[Prompt]:
    yield Prompt(id=item.id, prompt=item.prompt, cluster_id=item.cluster_id, metadata=item.metadata)
