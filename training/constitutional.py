"""Constitutional AI, supervised stage (Bai et al. 2022, arXiv 2212.08073, section 3): draft, critique against a sampled principle, revision.

Writes demonstrations, the final revisions; an ``sft`` stage with data = "stage:constitutional" learns from them. The second stage of the method,
preferences from comparisons against a sampled principle, is ``rlaif`` with a constitution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.errors import TrainingError
from auditor.schema import Demonstration, Message, Prompt, assistant, sha256_json, to_dict, user
from auditor.training.core.chunks import in_chunks, write_rows
from auditor.training.core.config import check_above_0, check_from_0
from auditor.training.core.constitution import SHIPPED, Principle, load_constitution, sample
from auditor.training.core.held_out import proportion
from auditor.training.core.stage import Outcome, StageRun
from auditor.training.core.writing import Writer
from auditor.training.data import data_hash, load_demonstrations, load_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``model`` answers ``prompts`` (at most ``limit``; 0: all), criticises its reply against a principle of ``constitution`` (a TOML file or
    shipped:constitution) sampled for each prompt and round, and revises it, ``rounds`` times.

    Drafts and revisions have at most ``max_new_tokens``, critiques ``critique_tokens``; all are drawn at ``temperature``. ``mix`` adds
    demonstrations from a source, so that harmlessness is not all that is learned. ``chunk`` prompts at a time are saved.
    """

    model: str = ""
    prompts: str = "shipped:prompts"
    limit: int = 0
    constitution: str = SHIPPED
    rounds: int = 1
    temperature: float = 0.7
    max_new_tokens: int = 48
    critique_tokens: int = 48
    mix: str = ""
    chunk: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: the principle's id, the critique and the revision that it led to."""

    principle: str
    critique: str
    revision: str


def check(config: Config, place: str) -> None:
    """Raise InputError where a number cannot be right."""
    check_above_0(config, ("rounds", "temperature", "max_new_tokens", "critique_tokens", "chunk"), place)
    check_from_0(config, ("limit",), place)


def drawn(principles: Sequence[Principle], seed: int, prompt: str, number: int) -> Principle:
    """The principle of one prompt's round: a function of the seed, the prompt's id and the round's number."""
    found = sample(principles, seed, f"{prompt}|{number}")
    if found is None:
        raise ValueError("a constitution without principles")
    return found


def critique_turns(messages: Sequence[Message], reply: str, principle: Principle) -> list[Message]:
    """The conversation, its reply, and the principle's request for a critique."""
    return [*messages, assistant(reply), user(principle.critique)]


def revision_turns(messages: Sequence[Message], reply: str, principle: Principle, critique: str) -> list[Message]:
    """The same, the critique, and the principle's request for a revision."""
    return [*critique_turns(messages, reply, principle), assistant(critique), user(principle.revision)]


def train(config: Config, run: StageRun) -> Outcome:
    """Write ``demonstrations.jsonl`` in the stage's folder. Raises TrainingError where no revision came out."""
    check(config, f"stage {run.name!r}")
    prompts = load_prompts(config.prompts, limit=config.limit or None, seed=run.seed)
    principles = load_constitution(config.constitution)
    mixed = load_demonstrations(run.find(config.mix, "demonstrations"), seed=run.seed) if config.mix else []
    source = run.find(config.model, "policy")
    writers = Writer(source, config.temperature, config.max_new_tokens, run.seed), config.critique_tokens
    rows = in_chunks(prompts, config.chunk, lambda chunk: _revised(chunk, principles, writers, config.rounds), run, "revisions")
    kept = [row for row in rows if not row["reason"]]
    left_out = {reason: sum(row["reason"] == reason for row in rows) for reason in ("error", "empty")}
    if not kept:
        raise TrainingError(f"stage {run.name!r}: none of {len(rows)} prompts led to a revision ({left_out}); raise max_new_tokens or pass another model")
    target = run.folder / "demonstrations.jsonl"
    if run.world.is_main:
        write_rows(target, [*(_row(row["demonstration"]) for row in kept), *(_row(to_dict(item) | {"id": f"mix-{item.id}"}) for item in mixed)])
    run.world.wait()
    changed = np.array([float(row["demonstration"]["metadata"]["draft"] != row["demonstration"]["completion"]) for row in kept])
    hashes = {config.prompts: data_hash(prompts), config.constitution: sha256_json(principles)} | ({config.mix: data_hash(mixed)} if mixed else {})
    return Outcome(kind="demonstrations", path=target, data_hashes=hashes,
                   measured={"prompts": len(rows), "revised": len(kept), "left_out": left_out, "mixed_in": len(mixed), "changed": proportion(
                       changed, np.array([row["demonstration"]["cluster_id"] for row in kept]))})


def _revised(prompts: Sequence[Prompt], principles: Sequence[Principle], how: tuple[Writer, int], rounds: int) -> list[dict[str, Any]]:
    """A row for each prompt: its demonstration, or the reason (error, empty) why there is none. One that fails is asked no further."""
    writer, critique_tokens = how
    reasons = {prompt.id: "" for prompt in prompts}
    replies: dict[str, str] = {}
    history: dict[str, list[Round]] = {prompt.id: [] for prompt in prompts}

    def write(name: str, turns: dict[str, list[Message]], tokens: int | None = None) -> dict[str, str]:
        """Texts by prompt; one that did not come out is noted as such."""
        found = dict(zip(turns, writer([(f"{prompt}|{name}", messages) for prompt, messages in turns.items()], tokens), strict=True))
        for prompt, reply in found.items():
            reasons[prompt] = "error" if reply.error else "" if reply.text.strip() else "empty"
        return {prompt: reply.text.strip() for prompt, reply in found.items() if not reasons[prompt]}

    messages = {prompt.id: prompt.prompt for prompt in prompts}
    drafts = replies = write("draft", {name: list(turns) for name, turns in messages.items()})
    for number in range(rounds):
        principle = {name: drawn(principles, writer.seed, name, number) for name in replies}
        critiques = write(f"critique|{number}", {name: critique_turns(messages[name], replies[name], principle[name]) for name in replies}, critique_tokens)
        asked = {name: revision_turns(messages[name], replies[name], principle[name], critiques[name]) for name in critiques}
        replies = write(f"revision|{number}", asked)
        for name, text in replies.items():
            history[name].append(Round(principle=principle[name].id, critique=critiques[name], revision=text))
    return [{"reason": reasons[prompt.id], "demonstration": None if reasons[prompt.id] else to_dict(Demonstration(
        id=prompt.id, prompt=prompt.prompt, completion=replies[prompt.id], cluster_id=prompt.cluster_id,
        metadata={"draft": drafts[prompt.id], "rounds": history[prompt.id]}))} for prompt in prompts]


def _row(demonstration: dict[str, Any]) -> dict[str, Any]:
    """A demonstration as the data format writes it: what is metadata stands beside the rest."""
    return {**demonstration["metadata"], **{key: value for key, value in demonstration.items() if key != "metadata"}}
