"""The transcripts of the report: a few of the worst and of the typical ones of each headline measurement, cut to a readable length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditor.reports import numbers
from auditor.reports.text import TEXT_LIMIT, Shown, cut, humanise, shorten
from auditor.schema import Metric, Suite
from auditor.store import Store, Transcript

WORST, TYPICAL, UNSCORED, SCORERS = 3, 2, 1, 3
MESSAGES = 12  # of a long conversation the last ones are shown
MESSAGE_LIMIT = 2_000
Counts = Mapping[str, Mapping[str, int]]  # scorer -> status -> number of scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    text: str
    shown: str
    percent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    role: str
    content: Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptView:
    """One transcript, cut and formatted. ``printed`` says whether it is in the printed version too."""

    title: str
    teaser: str
    messages: tuple[Turn, ...]
    completion: Shown | None
    reasoning: Shown | None
    options: tuple[Option, ...]
    judgment: tuple[tuple[str, str], ...]
    scorer: str
    value: str
    answer: str
    explanation: str
    sample_id: str
    cluster_id: str
    printed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptGroup:
    """The transcripts of one measurement."""

    title: str
    items: tuple[TranscriptView, ...]


def groups_of(store: Store, run_id: str, suite: Suite, metrics: Sequence[Metric], counts: Counts) -> tuple[TranscriptGroup, ...]:
    """Transcripts of the suite's headline scorers: the worst, the typical, and one that could not be scored."""
    result = []
    for scorer in headline_scorers(suite, metrics, counts):
        metric = metric_of(scorer, metrics)
        better = metric.higher_is_better if metric is not None else None
        views: list[TranscriptView] = []
        seen: set[str] = set()
        unscored = [("unscored", UNSCORED)] if set(counts[scorer]) - {"scored"} else []
        for order, limit in [("worst", WORST), ("typical", TYPICAL), *unscored]:
            found = store.transcripts(run_id, suite.name, scorer, order=order, limit=limit + len(seen), higher_is_better=better)  # type: ignore[arg-type]
            fresh = [t for t in found if f"{t.sample_id}|{t.epoch}" not in seen][:limit]
            seen |= {f"{t.sample_id}|{t.epoch}" for t in fresh}
            views += [transcript_view(t, _title(order, k, better), printed=order == "worst" and k == 0) for k, t in enumerate(fresh)]
        if views:
            result.append(TranscriptGroup(title=humanise(scorer), items=tuple(views)))
    return tuple(result)


def headline_scorers(suite: Suite, metrics: Sequence[Metric], counts: Counts) -> list[str]:
    """At most three scorers: those named like the headline metrics, else those with most scores."""
    named = [name.rpartition(".")[2] for name in (*suite.headline, *(c.metric for c in suite.criteria))]
    chosen = [scorer for name in dict.fromkeys(named) for scorer in counts if scorer == name]
    chosen += [scorer for name in dict.fromkeys(named) for scorer in counts if scorer != name and _alike(scorer, name)]
    chosen += sorted(counts, key=lambda scorer: (-sum(counts[scorer].values()), scorer))
    return list(dict.fromkeys(chosen))[:SCORERS]


def metric_of(scorer: str, metrics: Sequence[Metric]) -> Metric | None:
    """The metric that the scorer's values enter, judged by name; None where none is alike."""
    whole = [metric for metric in metrics if metric.group == "all"]
    exact = [metric for metric in whole if metric.name == scorer]
    return next(iter(exact + [metric for metric in whole if _alike(scorer, metric.name)]), None)


def _alike(scorer: str, name: str) -> bool:
    return name.startswith(scorer) or scorer.startswith(name)


def _title(order: str, k: int, better: bool | None) -> str:
    if order == "worst" and better is None:
        return f"Highest value {k + 1}"
    return {"worst": "Worst", "typical": "Typical", "unscored": "Could not be scored"}[order] + (f" {k + 1}" if order != "unscored" else "")


def transcript_view(t: Transcript, title: str, *, printed: bool) -> TranscriptView:
    """One stored transcript as it is shown; texts are cut, nothing is escaped yet (the templates do that)."""
    value = f"{t.value:.3g}".replace("-", numbers.MINUS) if t.value is not None else f"unscored ({t.status})"
    asked = next((m["content"] for m in t.messages if m["role"] == "user"), "")
    dropped = max(0, len(t.messages) - MESSAGES)
    notes = [Turn(role="note", content=Shown(text=f"{dropped} earlier messages are left out."))] if dropped else []
    return TranscriptView(
        title=title,
        teaser=f"· {value} · {shorten(asked, 70)}",
        messages=tuple(notes + _turns(t.messages[dropped:])),
        completion=_completion(t),
        reasoning=cut(t.reasoning) if t.reasoning else None,
        options=tuple(_option(o["text"], o["logprob"]) for o in t.options),
        judgment=_judgment(t),
        scorer=humanise(t.scorer),
        value=value,
        answer=shorten(t.answer, 400),
        explanation=shorten(t.explanation, 1_000),
        sample_id=t.sample_id,
        cluster_id=t.cluster_id,
        printed=printed,
    )


def _turns(messages: Sequence[Mapping[str, str]]) -> list[Turn]:
    limit = MESSAGE_LIMIT if len(messages) > 2 else TEXT_LIMIT
    turns = [Turn(role=m["role"], content=cut(m["content"], limit)) for m in messages]
    if turns and turns[-1].role == "assistant":
        turns[-1] = Turn(role="start of the reply, given to the model", content=turns[-1].content)
    return turns


def _completion(t: Transcript) -> Shown | None:
    if t.error:
        return Shown(text=f"(no reply: {shorten(t.error, 400)})")
    if t.judgment is not None and not t.completion:
        return None
    if t.completion.strip() in ({option["text"].strip() for option in t.options} | ({""} if t.options else set())):
        return None  # the likeliest option repeated: the table of options says it
    return cut(t.completion)


def _option(text: str, logprob: float) -> Option:
    p = min(1.0, math.exp(min(0.0, logprob))) if math.isfinite(logprob) else 0.0
    return Option(text=shorten(text, 300) or "(blank)", shown=numbers.percent(p), percent=f"{100 * p:.1f}")


def _judgment(t: Transcript) -> tuple[tuple[str, str], ...]:
    if t.judgment is None:
        return ()
    shown = [("Answer A", shorten(t.judgment.a, 1_500)), ("Answer B", shorten(t.judgment.b, 1_500))]
    for name, p in (("P(A better), A first", t.judgment.ab), ("P(A better), B first", t.judgment.ba)):
        shown.append((name, "no verdict" if p is None else numbers.percent(p)))
    shown.append(
        ("Judge", t.judgment.status.replace("_", " ") + (f": {shorten(t.judgment.explanation, 600)}" if t.judgment.explanation else ""))
    )
    return tuple(shown)
