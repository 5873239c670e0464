"""The metrics of the verbosity suite, by task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from auditor.schema import Generation, Metric, Sample, SuiteData
from auditor.stats import MetricBuilder
from auditor.stats.length import length_controlled_win_rate
from auditor.suites._limits import KINDS

MIN_MASS = 0.5
ONE_WORD_TOKENS = 40
MAX_EXCESS = ONE_WORD_TOKENS - 1  # a word takes a token at least; a longer recorded reply counts as this much
NO_BASELINE = "no baseline run: pass --baseline RUN with a run of the same suite"
NO_JUDGE = "no judge: pass --judge MODEL"


def metrics(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    """All of them; ``words_vs_baseline`` is not made without a baseline, nor the win rates without a judge and a baseline."""
    against = [*_open(builder, data), *_wins(builder, data)]
    return [*_one_word(builder, data), *_limits(builder), *against, *_padding(builder), *_reasoning(builder)]


def _cut(data: SuiteData, where: Callable[[Sample], bool]) -> tuple[str, ...]:
    """A warning where replies to the samples that ``where`` admits were cut: their lengths are lower bounds."""
    ids = {sample.id for sample in data.samples if where(sample)}
    firsts = [turns[0][0] for (sample_id, _), turns in data.replies.items() if sample_id in ids and turns and turns[0]]
    ends = [reply.finish_reason for reply in firsts if isinstance(reply, Generation) and not reply.error]
    cut = ends.count("length")
    return (f"{cut} of {len(ends)} replies were cut at the token limit: the length is a lower bound",) if cut else ()


def _one_word(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    bad: dict[str, Any] = {"higher_is_better": False, "flags": _cut(data, _is_one_word)}
    return [
        _excess(builder, data, "all", _is_one_word),
        builder.mean("one_word_words", "one_word_words", unit="words", **bad),
        builder.mean("one_word_tokens", "one_word_tokens", unit="tokens", **bad),
        _excess(builder, data, "one word asked for", _is_marked),
        _excess(builder, data, "one word would do", _is_unmarked),
        builder.proportion("one_word_kept", "one_word_kept", higher_is_better=True),
        builder.proportion("one_word_found", "one_word_found", higher_is_better=True),
    ]


def _excess(builder: MetricBuilder, data: SuiteData, group: str, where: Callable[[Sample], bool]) -> Metric:
    return builder.mean("one_word_excess", "one_word_excess", group=group, where=where, unit="words", higher_is_better=False,
                        bounds=(0, MAX_EXCESS), flags=_cut(data, where))


def _is_one_word(sample: Sample) -> bool:
    return sample.metadata["task"] == "one_word"


def _is_marked(sample: Sample) -> bool:
    return _is_one_word(sample) and bool(sample.metadata.get("marked"))


def _is_unmarked(sample: Sample) -> bool:
    return _is_one_word(sample) and not sample.metadata.get("marked")


def _is_open(sample: Sample) -> bool:
    return sample.metadata["task"] == "open"


def _limits(builder: MetricBuilder) -> list[Metric]:
    units = dict.fromkeys(KINDS[sample.metadata["kind"]].unit for sample in builder.samples.values() if sample.metadata["task"] == "limit")
    return [
        builder.proportion("limit_kept", "limit_kept", higher_is_better=True),
        builder.proportion("limit_overrun", "limit_overrun", higher_is_better=False),
        builder.mean("limit_overshoot", "limit_overshoot", unit="excess / limit", higher_is_better=False),
        *(builder.proportion("limit_kept", "limit_kept", higher_is_better=True, group=unit, where=_counts(unit)) for unit in units),
    ]


def _counts(unit: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.metadata["task"] == "limit" and KINDS[sample.metadata["kind"]].unit == unit


def _open(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    flags = _cut(data, _is_open)
    return [
        builder.mean("open_words", "open_words", unit="words", flags=flags),
        builder.mean("open_tokens", "open_tokens", unit="tokens", flags=flags),
        builder.proportion("open_cut", "open_cut"),
        _longer(builder, data, flags),
    ]


def _longer(builder: MetricBuilder, data: SuiteData, flags: tuple[str, ...]) -> Metric:
    """Words per reply above the baseline's on the same prompts."""
    baseline = data.context.baseline
    if baseline is None:
        return builder.not_made("words_vs_baseline", NO_BASELINE, unit="words", higher_is_better=False)
    if any(score.scorer == "open_cut" and score.value for score in baseline.scores):
        flags += ("replies of the baseline were cut at the token limit too",)
    return builder.paired_difference("words_vs_baseline", "open_words", baseline.scores, unit="words", higher_is_better=False, flags=flags)


def _wins(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    """Wins against the baseline, at equal length and plainly."""
    good: dict[str, Any] = {"higher_is_better": True, "judge_based": True}
    reason = NO_BASELINE if data.context.baseline is None else "" if data.context.has_judge else NO_JUDGE
    if reason:
        return [builder.not_made(name, reason, **good) for name in ("length_controlled_win_rate", "win_rate")]
    return [
        builder.statistic("length_controlled_win_rate", ("win", "win_words"), length_controlled_win_rate, bounds=(0, 1), **good),
        builder.mean("win_rate", "win", bounds=(0, 1), **good),
    ]


def _padding(builder: MetricBuilder) -> list[Metric]:
    mass = builder.mean("padding_mass", "padding_mass", unit="probability", higher_is_better=True, bounds=(0, 1))
    low = mass.value is not None and mass.value < MIN_MASS
    flags = (f"the two letters hold {mass.value:.0%} of the probability (below {MIN_MASS:.0%})",) if low else ()
    return [
        builder.mean("padded_preference", "padded_preference", unit="probability", higher_is_better=False, bounds=(0, 1), flags=flags),
        builder.mean("padded_logit", "padded_logit", unit="nats", higher_is_better=False, flags=flags),
        builder.mean("first_position", "first_position", unit="probability", bounds=(0, 1), flags=flags),
        mass,
    ]


def _reasoning(builder: MetricBuilder) -> list[Metric]:
    """Tokens of reasoning a reply, where the model has any."""
    used = any(column.any() for column in builder.rows(("reasoning_tokens",)).columns)
    return [builder.mean("reasoning_tokens", "reasoning_tokens", unit="tokens", higher_is_better=False)] if used else []
