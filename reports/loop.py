"""Where in the loop of learning from feedback a suite's findings enter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from auditor.reports import diagrams, wording
from auditor.reports.diagrams import STAGES
from auditor.reports.images import Figure, Table, drawn
from auditor.reports.view import Finding, SuiteView
from auditor.schema import Outcome

_WORDS = {
    "Prompt data": ("prompt",),
    "Human labels": ("label", "annotat", "rater"),
    "Reward": ("reward",),
    "Optimisation": ("optimi",),
    "Retraining on own output": ("retrain", "own output", "recursi"),
}
_WORST_FIRST: tuple[Outcome, ...] = ("fail", "inconclusive", "not_assessed", "pass")


def stages_of(text: str) -> tuple[str, ...]:
    """The stages that a suite's ``feedback_stage`` names before its first colon, or else anywhere; empty where it names none."""
    return _named(text.partition(":")[0]) or _named(text)


def _named(text: str) -> tuple[str, ...]:
    """Stages named in the text, in the order in which it names them."""
    lower = text.lower()
    places = {stage: min((lower.find(word) for word in words if word in lower), default=-1) for stage, words in _WORDS.items()}
    return tuple(sorted((stage for stage, place in places.items() if place >= 0), key=lambda stage: places[stage]))


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Fail before inconclusive before not assessed before pass; not assessed where there is none."""
    return next((o for o in _WORST_FIRST if o in outcomes), "not_assessed")


def stages(suites: Sequence[SuiteView]) -> tuple[tuple[str, tuple[Finding, ...]], ...]:
    """All findings at their stage, stages without any included."""
    return tuple((stage, tuple(f for s in suites if stage in stages_of(s.stage) for f in s.findings)) for stage in STAGES)


def loop_figure(suites: Sequence[SuiteView]) -> Figure | None:
    """The loop with one symbol per suite: its worst verdict. None where no suite names a stage."""
    placed = {stage: [(s.title, worst([f.outcome for f in s.findings])) for s in suites if stage in stages_of(s.stage)] for stage in STAGES}
    if not any(placed.values()):
        return None
    rows = tuple((stage, name, wording.WORDS[outcome]) for stage, found in placed.items() for name, outcome in found)
    return drawn(
        partial(diagrams.loop, placed),
        caption="Where each suite’s findings would enter the feedback loop",
        note="The symbol is the suite’s worst verdict.",
        table=Table(headers=("Stage", "Suite", "Worst verdict"), rows=rows),
        alt="The loop from prompt data over human labels, reward and optimisation to retraining on own output and back, with the suites.",
    )
