"""Were these pairs trained on? A sample of the pairs that a stage learned from travels with its checkpoint, and is held against those that would measure it.

Bottom-k sketch (Broder 1997, On the resemblance and containment of documents): of the hashes of all pairs the k smallest. A set of up to SIZE pairs is known
whole; of N more, a pair is recognised with probability SIZE/N, so that m common pairs stay unseen with (1 − SIZE/N)^m: 500 of 100,000 with .006.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from auditor.schema import Preference, sha256_json

SIZE, BYTES = 1024, 6  # hashes of 48 bits: of 10,000 other pairs one is in a whole sketch by chance once in 27 million times


def learned_from(given: Sequence[Preference], learned: Sequence[Preference]) -> dict[str, Any]:
    """For a lineage: of the set ``given`` (its SHA-256) a stage learned from so many different pairs, the SIZE smallest of whose hashes are there as base64."""
    hashes = sorted(set(map(_hash, learned)))
    return {"data": sha256_json(list(given)), "learned": len(hashes), "pairs": base64.b64encode(b"".join(hashes[:SIZE])).decode()}


def shared(preferences: Sequence[Preference], sketches: Sequence[Mapping[str, Any]]) -> tuple[list[Preference], bool]:
    """The pairs that are known to be in one of the sets, and whether those sets are known whole, so that the other pairs are known not to be.

    Which reply is called better, the id and the topic do not matter.
    """
    own = [_hash(item) for item in preferences]
    meeting = [(entry, known) for entry in sketches if (known := _hashes(entry).intersection(own))]
    taught = set().union(*(known for _, known in meeting))
    return [item for item, digest in zip(preferences, own, strict=True) if digest in taught], all(_whole(entry) for entry, _ in meeting)


def known_whole(digest: str, sketches: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is known of every pair of the set of this SHA-256 if it was learned from."""
    found = [entry for entry in sketches if entry.get("data") == digest]
    return bool(found) and all(map(_whole, found))


def all_whole(sketches: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every set is known whole: else one may hold pairs of another that nothing tells of."""
    return all(map(_whole, sketches))


def sketches_of(lineage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of :func:`learned_from` in a lineage; one from before there were any says of no set what was learned of it."""
    found = lineage.get("data_sketches")
    if isinstance(found, list | tuple):
        return [entry for entry in found if isinstance(entry, Mapping)]
    return [{"data": digest, "pairs": None} for digest in lineage.get("data_hashes", {}).values()]


def _hash(item: Preference) -> bytes:
    texts = [[[message.role, message.content.strip()] for message in item.prompt], sorted((item.chosen.strip(), item.rejected.strip()))]
    return hashlib.sha256(json.dumps(texts).encode()).digest()[:BYTES]


def _whole(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("pairs"), str) and entry.get("learned") == len(_hashes(entry))


def _hashes(entry: Mapping[str, Any]) -> set[bytes]:
    """The hashes of an entry; none of one that is damaged, which is then not known whole."""
    try:
        raw = base64.b64decode(entry.get("pairs") or "", validate=True)
    except (ValueError, TypeError):
        return set()
    if len(raw) % BYTES:
        return set()
    return {raw[start:start + BYTES] for start in range(0, len(raw), BYTES)}
