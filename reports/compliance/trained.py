"""The training run in the store that made the audited checkpoint: how its sources of feedback were asked, and how they did on held-out gold labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.reports import numbers
from auditor.reports.compliance.model import Fact, Source

ASKED = ("ask", "preamble", "constitution", "shots", "chain_of_thought")  # settings that say what a labeller was told
MEASURED = {"accuracy": "accuracy on held-out gold labels", "position_bias": "position bias", "prefers_longer": "prefers the longer answer",
            "on_topic": "prefers an answer to the question over one to another topic", "fixed_reply_wins": "prefers one fixed reply over the better answer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedStage:
    """One stage of that training run, as the store has it."""

    training_id: str
    stage: str
    method: str
    config: Mapping[str, Any]
    measured: Mapping[str, Any]


def stages(source: Source) -> tuple[TrainedStage, ...]:
    """The stages of the training run that made these weights, up to the one that made them; () where the store knows none."""
    weights = source.run.spec.model.weights_hash
    for training_id in source.store.training()["training_id"] if weights else ():
        rows = source.store.training_stages(training_id).to_dict("records")
        made = next((k for k, row in enumerate(rows) if row["weights_hash"] == weights), None)
        if made is not None:
            return tuple(TrainedStage(training_id=training_id, stage=row["stage"], method=row["method"], measured=json.loads(row["measured"] or "{}"),
                                      config=json.loads(row["lineage"] or "{}").get("config", {})) for row in rows[:made + 1])
    return ()


def told(found: tuple[TrainedStage, ...]) -> list[Fact]:
    """What each stage with a labeller told it: the settings that differ from none."""
    facts = []
    for one in found:
        words = [f"{name.replace('_', ' ')}: {one.config[name]}" for name in ASKED if one.config.get(name)]
        if words:
            facts.append(Fact(label=f"Stage {one.stage} ({one.method})", text="; ".join(words)))
    return facts


def agreement(found: tuple[TrainedStage, ...]) -> list[Fact]:
    """How reward models and labellers did on labels that they were not trained on."""
    facts = []
    for one in found:
        for part in _parts(one):
            words = [f"{name}{_which(part[key])} {proportion_text(part[key])}" for key, name in MEASURED.items() if part.get(key)]
            if part.get("accuracy"):
                facts.append(Fact(label=f"Stage {one.stage} ({one.method})", text="; ".join(words)))
    return facts


def _which(value: Any) -> str:
    return f" ({value['reply']!r})" if isinstance(value, Mapping) and value.get("reply") else ""


def by_kind(found: tuple[TrainedStage, ...]) -> list[Fact]:
    """The same by kind of pair."""
    return [Fact(label=f"Stage {one.stage}, by kind of pair", text="; ".join(f"{kind} {proportion_text(value)}" for kind, value in part["by_kind"].items()))
            for one in found for part in _parts(one) if part.get("by_kind")]


def _parts(one: TrainedStage) -> Iterator[Mapping[str, Any]]:
    """Where a stage keeps measurements of a source of feedback: a reward model's own, the labeller that was used, a labeller after its training."""
    after = one.measured.get("after")
    for part in (one.measured if one.method == "reward" else None, one.measured.get("labeller"), *(after.values() if isinstance(after, Mapping) else ())):
        if isinstance(part, Mapping):
            yield part


def proportion_text(value: Any) -> str:
    """``81.0 % (95 % interval 70.1 % to 88.9 %, n = 63)`` of an object with value, low, high and n; a plain number as it is."""
    if not isinstance(value, Mapping):
        return numbers.percent(value) if isinstance(value, float) else str(value)
    low, high = value.get("low"), value.get("high")
    interval = f"95 % interval {numbers.span(low, high, 'proportion')}" if low is not None and high is not None else "no interval"
    return f"{numbers.percent(value['value'])} ({interval}, n = {value.get('n', '?')})"
