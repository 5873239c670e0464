"""A labeller's word as the reward of each rollout, without a reward model in between (d-RLAIF, Lee et al. 2023, arXiv 2309.00267, section 2.3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from auditor.schema import Message
from auditor.training.core.asking import Comparison, open_labeller
from auditor.training.core.rewards import Episode, Part
from auditor.training.core.stage import StageRun
from auditor.training.core.validation import measure_comparisons, measure_rated_context, measure_ratings, split_gold, unseen
from auditor.training.core.writing import Writer
from auditor.training.data import load_preferences


class _Asked:
    """A labeller that was measured on held-out gold pairs: ``facts["measured"]``, in the form that a reward model's facts have."""

    def __init__(self, part: Part, run: StageRun) -> None:
        self.uri = run.find(part.uri, "labeller")
        self.labeller = open_labeller(self.uri)
        self.engine = self.labeller.model
        gold = load_preferences(part.gold, seed=run.seed)
        held, told = unseen(gold, split_gold(gold, part.held_out, run.seed, self.labeller.spec)[1], self.labeller.spec)
        run.reporter.say(f"{run.name}: asking the labeller about {len(held)} held-out gold pairs")
        measure = measure_ratings if part.kind == "labeller" else measure_comparisons
        context = measure_rated_context(self.labeller, held, run.seed) if part.kind == "labeller" else {}
        self.facts: dict[str, Any] = {"measured": measure(self.labeller, held) | context | told}


class RatingReward(_Asked):
    """The labeller's expected rating from 1 to 9, scaled to [−1, 1]; None where it cannot be read."""

    def __call__(self, episodes: Sequence[Episode]) -> list[float | None]:
        return self.labeller.rate([(episode.messages, episode.text) for episode in episodes])


class JudgeReward(_Asked):
    """The probability, both orders together, that the labeller prefers the completion to the starting policy's own greedy reply.

    None where there is no verdict, or the starting policy wrote nothing.
    """

    def __init__(self, part: Part, run: StageRun) -> None:
        super().__init__(part, run)
        self.writer = Writer(run.find(part.against, "policy"), 0.0, part.against_tokens, run.seed)
        self.references: dict[tuple[Message, ...], str] = {}

    def __call__(self, episodes: Sequence[Episode]) -> list[float | None]:
        new = sorted({episode.messages for episode in episodes} - set(self.references), key=str)
        for messages, reply in zip(new, self.writer([(str(index), messages) for index, messages in enumerate(new)]), strict=True):
            self.references[messages] = "" if reply.error else reply.text.strip()
        asked = [index for index, episode in enumerate(episodes) if self.references[episode.messages]]
        opinions = self.labeller.compare([Comparison(messages=episodes[index].messages, a=episodes[index].text,
                                                     b=self.references[episodes[index].messages]) for index in asked])
        found: list[float | None] = [None] * len(episodes)
        for index, opinion in zip(asked, opinions, strict=True):
            found[index] = opinion.judgment.prefers_a
        return found
