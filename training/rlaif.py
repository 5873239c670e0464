"""Preferences from an AI labeller (RLAIF, Lee et al. 2023, arXiv 2309.00267): two completions a prompt, compared in both orders or by
their ratings, or the best and the worst rated of several; soft labels.

With ``constitution`` the comparison is against a sampled principle, as in the RL stage of Constitutional AI (Bai et al. 2022,
arXiv 2212.08073, section 4.1), and ``mix`` adds pairs about helpfulness. No weight changes here: a reward stage learns from what this writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from auditor.errors import InputError, TrainingError
from auditor.schema import Generation, Message, Preference, Prompt, to_dict
from auditor.training.core.asking import Comparison, Labeller, Manner, Opinion, by_ratings, comparison_of, gold_comparison, open_labeller
from auditor.training.core.batch import order
from auditor.training.core.chunks import in_chunks, write_rows
from auditor.training.core.config import check_above_0, check_from_0
from auditor.training.core.constitution import Principle, load_constitution, sample
from auditor.training.core.held_out import proportion
from auditor.training.core.overlap import learned_from
from auditor.training.core.stage import Outcome, StageRun
from auditor.training.core.validation import measure_comparisons, refuse_at_chance, shown, split_gold, unseen
from auditor.training.core.writing import Writer
from auditor.training.data import data_hash, load_preferences, load_prompts, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Who labels what, and how the labeller is asked.

    ``model`` writes ``completions`` of each of ``prompts`` (at most ``limit``; 0: all), at ``temperature``, of at most ``max_new_tokens``; of more
    than two, the highest and the lowest rated are kept (West-of-N, Pace et al. 2024, arXiv 2401.12086, with soft labels and without its filter of
    the pairs; needs ``ask`` = rating);
    ``labeller`` compares them ("": what an earlier labeller stage made): both in one question, in both orders (``ask`` = pairwise), or by rating
    each, P(first is better) = σ(difference of ratings) (rating: for a labeller trained on ratings). It is measured first on the share
    ``held_out`` of the topics of ``gold``, and refused unless above chance (``allow_unvalidated_labeller``). ``preamble`` stands before the
    question, then ``shots`` solved examples from the other gold topics; ``chain_of_thought`` has a rationale of at most ``rationale_tokens``
    tokens written first. ``constitution`` (a TOML file or shipped:constitution) asks about a principle sampled for each prompt. ``mix`` adds
    pairs from a source, its topics held out as those of gold are. ``chunk`` prompts at a time are saved.
    """

    model: str = ""
    labeller: str = ""
    ask: Literal["pairwise", "rating"] = "pairwise"
    prompts: str = "shipped:prompts"
    limit: int = 0
    completions: int = 2
    temperature: float = 1.0
    max_new_tokens: int = 48
    gold: str = "shipped:preferences"
    held_out: float = 0.2
    preamble: str = ""
    shots: int = 0
    chain_of_thought: bool = False
    rationale_tokens: int = 64
    constitution: str = ""
    mix: str = ""
    chunk: int = 32
    allow_unvalidated_labeller: bool = False


def check(config: Config, place: str) -> None:
    """Raise InputError where a number cannot be right."""
    check_above_0(config, ("temperature", "max_new_tokens", "rationale_tokens", "chunk"), place)
    if config.completions < 2:
        raise InputError(f"{place}: completions is {config.completions}; pass at least 2, of which two are compared")
    if config.completions > 2 and config.ask != "rating":
        raise InputError(f"{place}: completions = {config.completions} is for ask = rating, by which the best and the worst are found; pass 2, or "
                         "set ask = rating for a labeller trained on ratings")
    check_from_0(config, ("limit", "shots"), place)
    for name in ("preamble", "shots", "chain_of_thought"):
        if config.ask == "rating" and getattr(config, name):
            raise InputError(f"{place}: {name} = {getattr(config, name)!r} is for ask = pairwise; ratings are asked as the labeller was trained. Leave it out")


def soft_preference(prompt: Prompt, texts: tuple[str, str], opinion: Opinion, labeller: str) -> Preference | None:
    """The pair with the answer that both orders together prefer as chosen, and how probable that is as its label; None without a verdict.

    P(first is better) = ½·[P(first | shown first) + P(first | shown second)] (Lee et al. 2023, section 2.1).
    """
    soft = opinion.judgment.prefers_a
    if soft is None:
        return None
    chosen, rejected = texts if soft >= 0.5 else texts[::-1]
    return Preference(id=prompt.id, prompt=prompt.prompt, chosen=chosen, rejected=rejected, cluster_id=prompt.cluster_id, label=max(soft, 1 - soft),
                      labeller=labeller, rationale=opinion.rationale,
                      metadata={"kind": "rlaif", "first_shown_first": opinion.judgment.ab, "first_shown_second": opinion.judgment.ba,
                                "chosen_drawn": "first" if soft >= 0.5 else "second"})


def usable(replies: Sequence[Generation]) -> tuple[list[str], str]:
    """The different texts among some replies, in their order, and why there are fewer than two: "error", "empty", "identical" or ""."""
    texts = list(dict.fromkeys(text for reply in replies if not reply.error and (text := reply.text.strip())))
    if len(texts) > 1:
        return texts, ""
    if any(reply.error for reply in replies):
        return texts, "error"
    return texts, "identical" if all(reply.text.strip() for reply in replies) else "empty"


def extremes(texts: Sequence[str], ratings: Sequence[float | None]) -> Opinion | None:
    """The highest and the lowest rated of ``texts`` as an opinion, the one drawn earlier as a; None where fewer than two could be rated.

    Among equals the earliest is the highest, the latest the lowest.
    """
    rated = sorted((value, -place) for place, value in enumerate(ratings) if value is not None)
    if len(rated) < 2:
        return None
    first, second = sorted((-rated[0][1], -rated[-1][1]))
    return by_ratings(texts[first], texts[second], ratings[first], ratings[second])


def train(config: Config, run: StageRun) -> Outcome:
    """Label pairs of the policy's completions; writes ``preferences.jsonl`` in the stage's folder.

    Raises InputError for a labeller that is not above chance, TrainingError where no pair could be labelled.
    """
    check(config, f"stage {run.name!r}")
    uri = run.find(config.labeller, "labeller")
    prompts = load_prompts(config.prompts, limit=config.limit or None, seed=run.seed)
    principles = load_constitution(config.constitution) if config.constitution else []
    gold = load_preferences(config.gold, seed=run.seed)
    mixed = split(load_preferences(run.find(config.mix, "preferences"), seed=run.seed), config.held_out, run.seed)[0] if config.mix else []
    _refuse_without_standard(config, principles)
    labeller = open_labeller(uri)
    rest, held = split_gold(gold, config.held_out, run.seed, labeller.spec)
    held, told = unseen(gold, held, labeller.spec)
    labeller.manner = Manner(ask=config.ask, preamble=config.preamble, shots=_shots(config, run, rest), chain_of_thought=config.chain_of_thought,
                             rationale_tokens=config.rationale_tokens)
    run.reporter.say(f"{run.name}: asking the labeller about {len(held)} held-out gold pairs")
    measured = measure_comparisons(labeller, held, principles, run.seed) | told
    notes = refuse_at_chance(measured, uri, f"stage {run.name!r}", config.allow_unvalidated_labeller)
    run.reporter.say(f"{run.name}: labeller's accuracy {shown(measured)}")
    writer = Writer(run.find(config.model, "policy"), config.temperature, config.max_new_tokens, run.seed)
    stage = _Stage(config, run, (writer, labeller), principles)
    rows = in_chunks(prompts, config.chunk, stage.label, run, "labels")
    preferences, counts = _collected(rows, run, ordered=config.ask == "pairwise")
    target = run.folder / "preferences.jsonl"
    if run.world.is_main:
        write_rows(target, [*(row["preference"] for row in rows if row["preference"]), *map(_mixed, mixed)])
    run.world.wait()
    hashes = {config.prompts: data_hash(prompts), config.gold: data_hash(gold)} | ({f"{config.mix} (mixed in)": data_hash(mixed)} if mixed else {})
    return Outcome(kind="preferences", path=target, data_hashes=hashes, data_sketches=(learned_from(gold, ()),), judges=(labeller.described,), notes=notes,
                   measured={"labeller": measured, "prompts": len(prompts), "labelled": preferences, "mixed_in": len(mixed), **counts})


def _shots(config: Config, run: StageRun, rest: Sequence[Preference]) -> tuple[Comparison, ...]:
    """Solved examples: decided pairs of topics that are not held out, drawn by the seed."""
    decided = [comparison for item in rest if (comparison := gold_comparison(item)) is not None]
    if config.shots > len(decided):
        raise InputError(f"stage {run.name!r}: shots is {config.shots} and {config.gold} has {len(decided)} decided pairs to draw them from; pass fewer")
    return tuple(decided[index] for index in order(len(decided), run.seed, 0)[:config.shots])


def _refuse_without_standard(config: Config, principles: Sequence[Principle]) -> None:
    missing = next((principle.id for principle in principles if not principle.standard.strip()), None)
    if config.ask == "rating" and missing:
        raise InputError(f"constitution {config.constitution!r}: principle {missing!r} has no standard, by which one answer is rated; write it, or "
                         "set ask = pairwise")


class _Stage:
    """Writes and compares one chunk of prompts."""

    def __init__(self, config: Config, run: StageRun, models: tuple[Writer, Labeller], principles: Sequence[Principle]) -> None:
        self.config, self.run, self.principles = config, run, principles
        self.writer, self.labeller = models

    def label(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        """A row of labels.jsonl for each prompt: its preference, or why there is none."""
        count = self.config.completions
        drawn = self.writer([(f"{prompt.id}|{number}", prompt.prompt) for prompt in prompts for number in range(1, count + 1)])
        replies = [drawn[count * index:count * (index + 1)] for index in range(len(prompts))]
        found = [usable(several) for several in replies]
        principles = [sample(self.principles, self.run.seed, prompt.id) if self.principles else None for prompt in prompts]
        asked = [index for index, (_, reason) in enumerate(found) if not reason]
        opinions = self._opinions([(prompts[index].prompt, found[index][0], principles[index]) for index in asked])
        rows: list[dict[str, Any]] = [{"id": prompt.id, "reason": reason, "preference": None,
                                       "unfinished": sum(reply.finish_reason == "length" for reply in several),
                                       "unwritten": sum(bool(reply.error) for reply in several), "unrated": 0}
                                      for prompt, (_, reason), several in zip(prompts, found, replies, strict=True)]
        for index, (opinion, unrated) in zip(asked, opinions, strict=True):
            made = soft_preference(prompts[index], (opinion.judgment.a, opinion.judgment.b), opinion, self.labeller.spec.uri) if opinion else None
            rows[index] |= {"unrated": unrated} | ({"preference": _row(made, principles[index])} if made else {"reason": "unlabelled"})
        return rows

    def _opinions(self, asked: Sequence[tuple[tuple[Message, ...], list[str], Principle | None]]) -> list[tuple[Opinion | None, int]]:
        """The labeller's word on the two texts of each (messages, texts, principle), or on the two ends where they are rated; and how many it could
        not rate."""
        if self.config.ask == "pairwise":
            return [(opinion, 0) for opinion in self.labeller.compare([comparison_of(messages, (texts[0], texts[1]), principle)
                                                                       for messages, texts, principle in asked])]
        sides = [(messages, text) for messages, texts, _ in asked for text in texts]
        standards = [principle.standard if principle else "" for _, texts, principle in asked for _ in texts]
        values = iter(self.labeller.rate(sides, standards))
        rated = [(texts, [next(values) for _ in texts]) for _, texts, _ in asked]
        return [(extremes(texts, ratings), ratings.count(None)) for texts, ratings in rated]


def _row(preference: Preference, principle: Principle | None = None) -> dict[str, Any]:
    """A preference as the data format writes it: what is metadata stands beside the rest."""
    row = to_dict(preference)
    return {**row.pop("metadata"), **row, **({"principle": principle.id} if principle else {})}


def _mixed(preference: Preference) -> dict[str, Any]:
    return {**_row(preference), "id": f"mix-{preference.id}"}


def _collected(rows: Sequence[dict[str, Any]], run: StageRun, *, ordered: bool) -> tuple[int, dict[str, Any]]:
    """How many pairs were labelled, and what is known of them and of those left out; no position bias where none was shown in an order."""
    kept = [row["preference"] for row in rows if row["preference"]]
    left_out = {reason: sum(row["reason"] == reason for row in rows) for reason in ("error", "empty", "identical", "unlabelled")}
    if not kept:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise TrainingError(f"stage {run.name!r}: none of {len(rows)} pairs of completions could be labelled ({told}); "
                            "raise temperature or max_new_tokens, or pass another model or labeller")
    orders = np.array([[row["first_shown_first"], row["first_shown_second"]] for row in kept])
    clusters = np.array([row["cluster_id"] for row in kept])
    return len(kept), {"left_out": left_out, **{f"{what}_completions": _total(rows, what) for what in ("unfinished", "unwritten", "unrated")},
                       "position_bias": proportion(np.abs(orders[:, 0] - orders[:, 1]), clusters) if ordered else None,
                       "label": proportion(np.array([row["label"] for row in kept]), clusters),
                       "first_drawn_chosen": proportion(np.array([float(row["chosen_drawn"] == "first") for row in kept]), clusters)}


def _total(rows: Sequence[dict[str, Any]], name: str) -> int | None:
    """A count over all prompts; None where some were labelled by a version that did not count it."""
    counts = [row[name] for row in rows if name in row]
    return sum(counts) if len(counts) == len(rows) else None
