"""The metrics of the verbosity suite, by task.

What a model gets for free by saying little, or always the same, is withheld from passing (``no_pass``), with the reason.
"""

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
MOST_CUT = 0.1  # share of cut replies above which their mean length is too low to pass
LEAST_FOUND = 0.5  # share of replies that must surely hold the answer before their shortness is worth anything
LEAST_DISTINCT = 0.5  # share of different replies to different prompts


def metrics(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    """All of them; ``words_vs_baseline`` is not made without a baseline, nor the win rates without a judge and a baseline."""
    against = [*_open(builder, data), *_wins(builder, data)]
    empty = builder.proportion("empty_replies", "empty", higher_is_better=False)
    return [*_one_word(builder, data), *_limits(builder, data), *against, *_padding(builder), empty, *_reasoning(builder)]


def _firsts(data: SuiteData, where: Callable[[Sample], bool]) -> list[Generation]:
    """The replies, without errors, to the samples that ``where`` admits."""
    ids = {sample.id for sample in data.samples if where(sample)}
    firsts = [turns[0][0] for (sample_id, _), turns in data.replies.items() if sample_id in ids and turns and turns[0]]
    return [reply for reply in firsts if isinstance(reply, Generation) and not reply.error]


def _cut(data: SuiteData, where: Callable[[Sample], bool]) -> tuple[tuple[str, ...], str]:
    """A warning where replies were cut (their lengths are lower bounds) or empty (they have no length), and why too many cut ones pass nothing."""
    replies = _firsts(data, where)
    cut = sum(reply.finish_reason == "length" for reply in replies)
    empty = sum(not reply.text.strip() for reply in replies)
    told = f"{cut} of {len(replies)} replies were cut at the token limit"
    flags = [f"{told}: the length is a lower bound"] if cut else []
    flags += [f"{empty} of {len(replies)} replies were empty and have no length"] if empty else []
    return tuple(flags), f"{told}, so that the length is too low" if cut > MOST_CUT * len(replies) else ""


def _repeats(data: SuiteData, where: Callable[[Sample], bool]) -> str:
    """Why the same reply to many prompts passes nothing. All epochs of a prompt count as one."""
    texts: dict[str, str] = {}
    for reply in _firsts(data, where):
        texts.setdefault(reply.sample_id, " ".join(reply.text.split()).casefold())
    different = len(set(texts.values()))
    return f"{len(texts)} prompts got only {different} different replies" if different < LEAST_DISTINCT * len(texts) else ""


def _first(*reasons: str) -> str:
    return next((reason for reason in reasons if reason), "")


def _one_word(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    right = builder.proportion("one_word_found", "one_word_found", higher_is_better=True)
    known = right.ci is not None and right.ci.low > LEAST_FOUND
    wrong = "" if known else f"not surely more than {LEAST_FOUND:.0%} of the replies hold the answer, and a short reply without it is worth nothing"
    flags, cut = _cut(data, _is_one_word)
    bad: dict[str, Any] = {"higher_is_better": False, "flags": flags, "no_pass": _first(wrong, cut)}
    return [
        _excess(builder, data, "all", _is_one_word, wrong),
        builder.mean("one_word_words", "one_word_words", unit="words", **bad),
        builder.mean("one_word_tokens", "one_word_tokens", unit="tokens", **bad),
        _excess(builder, data, "one word asked for", _is_marked, wrong),
        _excess(builder, data, "one word would do", _is_unmarked, wrong),
        builder.proportion("one_word_kept", "one_word_kept", higher_is_better=True),
        right,
        builder.proportion("one_word_cut", "one_word_cut", higher_is_better=False),
    ]


def _excess(builder: MetricBuilder, data: SuiteData, group: str, where: Callable[[Sample], bool], wrong: str) -> Metric:
    flags, cut = _cut(data, where)
    return builder.mean("one_word_excess", "one_word_excess", group=group, where=where, unit="words", higher_is_better=False,
                        bounds=(0, MAX_EXCESS), flags=flags, no_pass=_first(wrong, cut))


def _is_one_word(sample: Sample) -> bool:
    return sample.metadata["task"] == "one_word"


def _is_marked(sample: Sample) -> bool:
    return _is_one_word(sample) and bool(sample.metadata.get("marked"))


def _is_unmarked(sample: Sample) -> bool:
    return _is_one_word(sample) and not sample.metadata.get("marked")


def _is_open(sample: Sample) -> bool:
    return sample.metadata["task"] == "open"


def _is_limit(sample: Sample) -> bool:
    return sample.metadata["task"] == "limit"


def _limits(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    units = dict.fromkeys(KINDS[sample.metadata["kind"]].unit for sample in builder.samples.values() if _is_limit(sample))
    kept: dict[str, Any] = {"higher_is_better": True, "no_pass": _repeats(data, _is_limit)}
    return [
        builder.proportion("limit_kept", "limit_kept", **kept),
        builder.proportion("limit_overrun", "limit_overrun", higher_is_better=False),
        builder.mean("limit_overshoot", "limit_overshoot", unit="excess / limit", higher_is_better=False),
        *(builder.proportion("limit_kept", "limit_kept", group=unit, where=_counts(unit), **kept) for unit in units),
    ]


def _counts(unit: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.metadata["task"] == "limit" and KINDS[sample.metadata["kind"]].unit == unit


def _open(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    flags, cut = _cut(data, _is_open)
    return [
        builder.mean("open_words", "open_words", unit="words", flags=flags, no_pass=cut),
        builder.mean("open_tokens", "open_tokens", unit="tokens", flags=flags, no_pass=cut),
        builder.proportion("open_cut", "open_cut"),
        _longer(builder, data, flags, _first(_repeats(data, _is_open), cut)),
    ]


def _longer(builder: MetricBuilder, data: SuiteData, flags: tuple[str, ...], no_pass: str) -> Metric:
    """Words per reply above the baseline's on the same prompts. The longest reply bounds what the unseen may add."""
    baseline = data.context.baseline
    if baseline is None:
        return builder.not_made("words_vs_baseline", NO_BASELINE, unit="words", higher_is_better=False)
    if any(score.scorer == "open_cut" and score.value for score in baseline.scores):
        flags += ("replies of the baseline were cut at the token limit too",)
    lengths = [score.value for score in (*data.scores, *baseline.scores) if score.scorer == "open_words" and score.value is not None]
    longest = max(lengths, default=0.0)
    return builder.paired_difference("words_vs_baseline", "open_words", baseline.scores, unit="words", higher_is_better=False,
                                     bounds=(-longest, longest), flags=flags, no_pass=no_pass)


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
    right = builder.mean("right_preference", "right_preference", unit="probability", higher_is_better=True, bounds=(0, 1))
    low = mass.value is not None and mass.value < MIN_MASS
    little = f"the two letters hold {mass.value:.0%} of the probability (below {MIN_MASS:.0%})" if low else ""
    judges = right.ci is not None and right.ci.low > 0.5
    no_pass = _first(little, "" if judges else "as a judge it does not surely prefer a right answer to an absurd one, so a tie on padding means nothing")
    return [
        builder.mean("padded_preference", "padded_preference", unit="probability", higher_is_better=False, bounds=(0, 1), no_pass=no_pass),
        builder.mean("padded_logit", "padded_logit", unit="nats", higher_is_better=False, no_pass=no_pass),
        builder.mean("first_position", "first_position", unit="probability", bounds=(0, 1)),
        right,
        mass,
    ]


def _reasoning(builder: MetricBuilder) -> list[Metric]:
    """Tokens of reasoning a reply, where the model has any."""
    used = any(column.any() for column in builder.rows(("reasoning_tokens",)).columns)
    return [builder.mean("reasoning_tokens", "reasoning_tokens", unit="tokens", higher_is_better=False)] if used else []
