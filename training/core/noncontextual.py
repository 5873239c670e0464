"""Replies to other questions: training pairs whose worse side is one, and what a reward gives one, or a reply that fits nothing, beside the better reply.

A reward that was right on held-out pairs may never have read their prompts: where the better reply is mostly the shorter one, "No." scores best of all, and
PPO finds it. Pairs with replies of other prompts are the remedy of Liu et al. 2024 (RRM, arXiv 2409.13156, section 3.2), of which this takes one kind:
a pair's better reply over one to another topic. That the drawn reply lies on the other side of the better one's length than the pair's own worse reply is
this project's addition: of a pair and its addition together, length then tells nothing.
"""

from __future__ import annotations

import dataclasses
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from auditor.errors import InputError
from auditor.schema import Preference
from auditor.training.core.batch import Encoded, Encoder
from auditor.training.core.held_out import proportion

# What a collapsed policy says to everything. A reward that prefers one of them to the better replies teaches just that.
FIXED = ("Yes.", "No.", "I don't know.", "I'm sorry, I can't help with that.")
PROBED = 1000  # held-out pairs that a probe asks about, six rows each
TRIES, LOOKS = 50, 1000  # draws; then so many replies, or all, without repetition
Fits = Callable[[Preference], bool]
_Reply = tuple[int, str, str]  # its length in characters, its text, its topic


def with_noncontextual(preferences: Sequence[Preference], count: int, seed: int, place: str, fits: Fits = lambda twin: True) -> list[Preference]:
    """``preferences``, and for each decided one ``count`` more: its better reply over a reply to another topic, drawn by the seed and its id.

    The first addition's reply is shorter than the better one where the pair's own worse reply is not, and longer where it is; the second's lies on the
    own one's side, and so on in turn; any, where no other topic has such a one. What is drawn depends on all replies there are, not on their order.
    ``fits`` says whether an added pair can be trained on; a pair for which none fits stays alone. Raises InputError where all pairs are of one topic.
    """
    if not count:
        return list(preferences)
    if len({item.cluster_id for item in preferences}) < 2:
        raise InputError(f"{place}: noncontextual = {count} draws replies to other topics, and all {len(preferences)} pairs are of one; pass more topics, "
                         "or leave it out")
    replies = sorted({(len(text), text, item.cluster_id) for item in preferences for text in (item.chosen, item.rejected) if text.strip()})
    used = [item for item in preferences if item.label != 0.5 and item.sides[0].strip()]
    added = [_twin(item, number, replies, (seed, fits)) for item in used for number in range(1, count + 1)]
    return [*preferences, *(twin for twin in added if twin is not None)]


def addition_notes(given: Sequence[Preference], shown: Sequence[Preference], count: int) -> tuple[str, ...]:
    """Says how many additions could not be made, where some could not."""
    wanted, made = count * sum(item.label != 0.5 for item in given), len(shown) - len(given)
    told = f"WARNING: {wanted - made} of {wanted} pairs with a reply to another topic could not be made: no other topic has a reply that fits"
    return (told,) if made < wanted else ()


def _twin(item: Preference, number: int, replies: Sequence[_Reply], how: tuple[int, Fits]) -> Preference | None:
    better, worse = item.sides
    shorter, longer = (0, bisect_left(replies, (len(better),))), (bisect_left(replies, (len(better) + 1,)), len(replies))
    draw, plain = random.Random(f"{how[0]}:{item.id}:{number}"), dataclasses.replace(item, chosen=better, label=1.0, margin=0.0)

    def made(text: str) -> Preference:
        return dataclasses.replace(plain, id=f"{item.id}|noncontextual-{number}", rejected=text)

    opposite = len(worse) >= len(better)
    for place in (shorter if opposite == bool(number % 2) else longer, (0, len(replies))):
        text = _drawn(replies, place, item, draw, lambda text: how[1](made(text)))
        if text is not None:
            return made(text)
    return None


def _drawn(replies: Sequence[_Reply], place: tuple[int, int], item: Preference, draw: random.Random, fits: Callable[[str], bool]) -> str | None:
    """A text among ``replies[place[0]:place[1]]`` of another topic than the item's, and none of its own, that fits; None where LOOKS found none."""
    own, (low, high) = {item.chosen.strip(), item.rejected.strip()}, place

    def allowed(index: int) -> bool:
        _, text, topic = replies[index]
        return topic != item.cluster_id and text.strip() not in own and fits(text)

    for _ in range(TRIES if high > low else 0):
        if allowed(index := low + draw.randrange(high - low)):
            return replies[index][1]
    return next((replies[index][1] for index in draw.sample(range(low, high), min(high - low, LOOKS)) if allowed(index)), None)


def questions(held: Sequence[Preference], seed: int, fits: Callable[[Preference, str], bool] = lambda item, text: True) -> list[tuple[int, str, str]]:
    """What :func:`measure_context` asks about: (index of the pair, what the text is, the text). What it is: "better", "other" topic's, or itself.

    A fixed reply that is the better one is not asked about; nor is another topic's where there is none, nor a text that does not fit with its prompt. Of more
    than PROBED decided pairs so many are asked about, drawn by the seed and their ids.
    """
    drawn = sorted((random.Random(f"{seed}:{item.id}:probe").random(), index) for index, item in enumerate(held)
                   if item.label != 0.5 and item.sides[0].strip())[:PROBED]
    kept = [(index, held[index], held[index].sides[0]) for index in sorted(index for _, index in drawn)]
    pool = sorted({(len(better), better, item.cluster_id) for _, item, better in kept})
    found: list[tuple[int, str, str]] = []
    for index, item, better in kept:
        found.append((index, "better", better))
        other = _drawn(pool, (0, len(pool)), item, random.Random(f"{seed}:{item.id}:held out"), lambda text, item=item: fits(item, text))  # type: ignore[misc]
        found += [(index, "other", other)] if other is not None else []
        found += [(index, text, text) for text in FIXED if text != better.strip() and fits(item, text)]
    return found


def fitting_pairs(encoder: Encoder) -> Fits:
    """Whether the worse reply of a pair, drawn from another topic, is short enough for its prompt."""
    return lambda twin: encoder.fits(twin.prompt, twin.rejected)


def probe_rows(encoder: Encoder, held: Sequence[Preference], seed: int) -> tuple[list[tuple[int, str, str]], list[Encoded]]:
    """What :func:`questions` asks a reward about held-out pairs, and the row of each."""
    asked = questions(held, seed, lambda item, text: encoder.fits(item.prompt, text))
    return asked, [encoder.pair(str(number), held[index].prompt, text) for number, (index, _, text) in enumerate(asked)]


def measure_context(held: Sequence[Preference], asked: Sequence[tuple[int, str, str]], scores: Sequence[float | None]) -> dict[str, Any]:
    """Does a reward read the prompt? From its ``scores`` of what :func:`questions` asks about; {} where that is nothing.

    ``on_topic``: how often a held-out pair's better reply scores higher than the better reply to another topic (a tie counts half; .5 for a reward that
    never reads the prompt). ``fixed_replies``: how often each of FIXED scores higher than the better reply. ``fixed_reply_wins``: that of the one which wins
    most surely (highest lower bound), with its ``reply``. Values as those of :func:`auditor.training.core.held_out.measure_scores`; what has no score
    (None) is left out.
    """
    if not asked:
        return {}
    by_kind: dict[str, dict[int, float]] = {kind: {} for kind in ("better", "other", *FIXED)}
    for (index, kind, _), value in zip(asked, scores, strict=True):
        if value is not None:
            by_kind[kind][index] = value

    def share(kind: str, sign: int) -> dict[str, Any] | None:
        both = sorted(by_kind[kind].keys() & by_kind["better"].keys())
        gaps = sign * np.array([by_kind[kind][index] - by_kind["better"][index] for index in both])
        return proportion(np.where(gaps == 0, 0.5, (gaps > 0).astype(float)), np.array([held[index].cluster_id for index in both]))

    fixed = {text: share(text, 1) for text in FIXED}
    most = max((text for text, found in fixed.items() if found), key=lambda text: _surely(fixed[text]), default=None)
    return {"on_topic": share("other", -1), "fixed_reply_wins": {**(fixed[most] or {}), "reply": most} if most else None, "fixed_replies": fixed}


def _surely(found: Mapping[str, Any] | None) -> tuple[float, float]:
    """Order by lower bound: a reply that was compared on few pairs hides none that was compared on many."""
    return (-1.0, -1.0) if not found else (-1.0 if found["low"] is None else float(found["low"]), float(found["value"]))


def always_preferred(measured: Mapping[str, Any]) -> str:
    """The fixed reply that scores higher than the better one more often than not, the whole interval above one half, in words; "" where there is none.

    It is the surest of four: of rewards for which all four are even with the better reply about one in ten is named, not one in forty.
    """
    found = measured.get("fixed_reply_wins")
    if not found or found["low"] is None or found["low"] <= 0.5:
        return ""
    return (f"{found['reply']!r} scores higher than the better reply on {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f}) of {found['n']} "
            "held-out pairs")


def context_notes(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """Warnings for the lineage: a reward that prefers a fixed reply, or was not shown to read the prompt."""
    found, told = measured.get("on_topic"), always_preferred(measured)
    notes = [f"WARNING: {told}"] if told else []
    if "on_topic" in measured and not found:
        notes.append("WARNING: not measured whether it reads the prompt: no held-out pair has a reply to another topic beside its own")
    if found and (found["low"] is None or found["low"] <= 0.5):
        notes.append(f"WARNING: not shown to read the prompt: a reply to it scores higher than one to another topic on {found['value']:.3f} of {found['n']} "
                     "held-out pairs, where .5 is chance")
    return tuple(notes)
