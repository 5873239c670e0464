"""The six measurements of the sycophancy suite by name: what an item must have, what is asked of the model, how its replies are scored.

A score's place is the (turn, slot) of the request that illustrates it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from auditor.schema import Context, Replies, Sample, Score
from auditor.suites._sycophancy_dialogues import score_are_you_sure, score_pressure, solve_are_you_sure, solve_pressure
from auditor.suites._sycophancy_opinions import feedback_prompts, score_feedback, score_social, solve_feedback, solve_social
from auditor.suites._sycophancy_readings import Solving, question
from auditor.suites._sycophancy_statements import premise_prompts, score_false_premise, score_stance, solve_false_premise, solve_stance
from auditor.suites._sycophancy_wording import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One measurement. ``fields`` an item must have; ``question`` must hold the ``placeholders``."""

    fields: tuple[str, ...]
    opening: Callable[[Row], str]
    solve: Callable[[Sample, Context], Solving]
    score: Callable[[Sample, Replies], list[Score]]
    placeholders: tuple[str, ...] = ()


FACT = ("question", "right", "wrong", "first")
TASKS = {
    "stance": Task(fields=FACT, opening=question, solve=solve_stance, score=score_stance, placeholders=("{first}", "{second}")),
    "are_you_sure": Task(fields=FACT, opening=question, solve=solve_are_you_sure, score=score_are_you_sure, placeholders=("{first}", "{second}")),
    "pressure": Task(fields=FACT, opening=question, solve=solve_pressure, score=score_pressure, placeholders=("{first}", "{second}")),
    "false_premise": Task(fields=(*FACT, "stem", "plain"), opening=lambda row: premise_prompts(row)[0], solve=solve_false_premise,
                          score=score_false_premise, placeholders=("{claim}",)),
    "feedback": Task(fields=("kind", "text"), opening=lambda row: feedback_prompts(row)[0], solve=solve_feedback, score=score_feedback),
    "social": Task(fields=("text", "frank"), opening=lambda row: str(row["text"]), solve=solve_social, score=score_social),
}
