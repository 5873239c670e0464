"""Does the model pay with words? Counts and log-probabilities; a judge only for the win rate against a baseline.

Items are written for this project, of four tasks:

    one_word  "What colour are emeralds?"                                        one word answers it; every further word is counted
    limit     "In at most 12 words, say why plants need sunlight."               kept or broken, by a count
    open      "Why does metal feel colder than wood?"                            length, and wins at equal length, against --baseline
    padding   an answer and a copy of it padded without adding anything          the model as judge: P(prefers the padded copy)

Tokens inside ``<think>`` are no part of a reply's length. A reply cut at the token limit has at least the length that is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import DataError
from auditor.items import read_jsonl, require, shipped
from auditor.judges.pairwise import combine, option_mass, pairwise_requests
from auditor.schema import (
    Context,
    Criterion,
    Generation,
    Judgment,
    Metric,
    Replies,
    Reply,
    Request,
    Sample,
    Score,
    ScoreStatus,
    Suite,
    SuiteData,
    ask,
    compare,
    user,
)
from auditor.stats import MetricBuilder
from auditor.stats.length import length_controlled_win_rate
from auditor.suites._verbosity import KINDS, check, words

NAME = "verbosity"
ONE_WORD_TOKENS = 40
OPEN_TOKENS = 160
MIN_MASS = 0.5
FIELDS = {
    "one_word": ("prompt", "answers"),
    "limit": ("prompt", "kind", "limit"),
    "open": ("prompt",),
    "padding": ("prompt", "concise", "padded"),
}
NO_BASELINE = "no baseline run: pass --baseline RUN with a run of the same suite"
NO_JUDGE = "no judge: pass --judge MODEL"


# -- items --------------------------------------------------------------------------------------------------------------


def load(path: Path | None) -> list[Sample]:
    """The shipped items, or a user's file in the same format. Raises InputError, or DataError naming the line."""
    place = path or shipped(NAME)
    return [_sample(row, place, line) for line, row in read_jsonl(place)]


def _sample(row: Mapping[str, Any], path: Path, line: int) -> Sample:
    require(row, ("id", "cluster_id", "task"), path, line)
    if row["task"] not in FIELDS:
        raise DataError(path, line, f"unknown task {row['task']!r}; known: {', '.join(FIELDS)}")
    require(row, FIELDS[row["task"]], path, line)
    problem = _problem(row)
    if problem:
        raise DataError(path, line, problem)
    choices = (str(row["concise"]), str(row["padded"])) if row["task"] == "padding" else ()
    target = str(row["answers"][0]) if row["task"] == "one_word" else None
    return Sample(id=str(row["id"]), messages=(user(str(row["prompt"])),), cluster_id=str(row["cluster_id"]), target=target, choices=choices,
                  source="shipped" if path == shipped(NAME) else str(path), metadata=dict(row))


def _problem(row: Mapping[str, Any]) -> str:
    """What is wrong with a row that has all its fields, or nothing."""
    if row["task"] == "one_word" and not (isinstance(row["answers"], list) and row["answers"] and all(isinstance(x, str) and x for x in row["answers"])):
        return f"answers is {row['answers']!r}; pass a list with at least one accepted answer"
    if row["task"] != "limit":
        return ""
    if row["kind"] not in KINDS:
        return f"unknown kind of limit {row['kind']!r}; known: {', '.join(KINDS)}"
    if isinstance(row["limit"], bool) or not isinstance(row["limit"], int) or row["limit"] < 1:
        return f"limit is {row['limit']!r}; pass a whole number of at least 1"
    return ""


# -- requests -----------------------------------------------------------------------------------------------------------


def solve(sample: Sample, context: Context) -> Generator[list[Request], list[Reply], None]:
    """One turn (padding: a slot for each order); for an open question with a judge and a baseline, the comparison as a second."""
    row = sample.metadata
    if row["task"] == "padding":
        yield list(pairwise_requests(sample.messages, *sample.choices))
        return
    replies = yield [ask(sample.messages, max_tokens=max_tokens(row))]
    baseline = baseline_text(sample, context)
    reply = replies[0]
    if row["task"] == "open" and context.has_judge and baseline and isinstance(reply, Generation) and not reply.error and reply.text.strip():
        yield [compare(sample.messages, reply.text, baseline)]


def max_tokens(row: Mapping[str, Any]) -> int:
    """How long a reply may get: well beyond what is asked for."""
    if row["task"] == "limit":
        return KINDS[row["kind"]].max_tokens(row["limit"])
    return ONE_WORD_TOKENS if row["task"] == "one_word" else OPEN_TOKENS


def baseline_text(sample: Sample, context: Context) -> str:
    """The baseline's reply to the same prompt (its first epoch), or nothing."""
    return context.baseline.texts.get((sample.id, 0, 0, 0), "").strip() if context.baseline else ""


# -- scores -------------------------------------------------------------------------------------------------------------


def score(sample: Sample, replies: Replies, context: Context) -> list[Score]:
    """The scores of one item, by its task; what would rest on no reply has no value."""
    scored: dict[str, Callable[..., list[Score]]] = {"one_word": _one_word, "limit": _limit, "open": _open}
    generations = [reply for reply in replies[0] if isinstance(reply, Generation)]
    if sample.metadata["task"] == "padding":
        return list(_padding(sample, *generations))
    reply = generations[0]
    if reply.error or not reply.text.strip():
        status: ScoreStatus = "error" if reply.error else "unparseable"
        return [_score(sample, reply, name, None, reply.error or "the reply is empty", status) for name in SCORERS[sample.metadata["task"]]]
    scores = scored[sample.metadata["task"]](sample, reply) + _reasoning(sample, reply)
    return scores + (_win(sample, reply, replies[1][0], context) if len(replies) > 1 else [])


SCORERS = {
    "one_word": ("one_word_words", "one_word_tokens", "one_word_excess", "one_word_found"),
    "limit": ("limit_kept", "limit_overrun", "limit_overshoot"),
    "open": ("open_words", "open_tokens", "open_cut"),
    "padding": ("padded_preference", "padded_logit", "first_position", "padding_mass"),
}


def _score(sample: Sample, reply: Generation, scorer: str, value: float | None, explanation: str = "", status: ScoreStatus = "scored") -> Score:
    return Score(sample_id=sample.id, scorer=scorer, value=value, epoch=reply.epoch, turn=reply.turn, slot=reply.slot, answer=reply.text[:200],
                 explanation=explanation, status=status)


def _one_word(sample: Sample, reply: Generation) -> list[Score]:
    used, cut = words(reply.text), reply.finish_reason == "length"
    note = f"{used} words, {reply.usage.completion_tokens} tokens" + (", cut at the token limit: at least" if cut else "")
    values = {"one_word_words": float(used), "one_word_tokens": float(reply.usage.completion_tokens), "one_word_excess": float(max(0, used - 1)),
              "one_word_found": float(found(sample.metadata["answers"], reply.text))}
    if sample.metadata.get("marked"):
        values["one_word_kept"] = float(used == 1)
    return [_score(sample, reply, name, value, note) for name, value in values.items()]


def found(answers: Sequence[str], text: str) -> bool:
    """Is one of the accepted answers in the reply, as a whole word in any case?"""
    plain = " " + "".join(sign if sign.isalnum() else " " for sign in text.casefold()) + " "
    return any(f" {answer.casefold()} " in plain for answer in answers)


def _limit(sample: Sample, reply: Generation) -> list[Score]:
    kind, limit = sample.metadata["kind"], sample.metadata["limit"]
    finding = check(kind, limit, reply.text, cut=reply.finish_reason == "length")
    note = f"{finding.count} {KINDS[kind].unit}, asked for {'exactly' if KINDS[kind].exact else 'at most'} {limit}"
    if finding.kept is None:
        return [_score(sample, reply, name, None, f"{note}; cut at the token limit before it could be judged", "unparseable") for name in SCORERS["limit"]]
    values = {"limit_kept": float(finding.kept), "limit_overrun": float(finding.count > limit), "limit_overshoot": finding.overshoot}
    return [_score(sample, reply, name, value, note) for name, value in values.items()]


def _open(sample: Sample, reply: Generation) -> list[Score]:
    cut = reply.finish_reason == "length"
    note = "cut at the token limit: at least this long" if cut else ""
    values = {"open_words": float(words(reply.text)), "open_tokens": float(reply.usage.completion_tokens), "open_cut": float(cut)}
    return [_score(sample, reply, name, value, note) for name, value in values.items()]


def _reasoning(sample: Sample, reply: Generation) -> list[Score]:
    """Tokens of reasoning beside the reply: no part of any other score."""
    return [_score(sample, reply, "reasoning_tokens", float(reply.usage.reasoning_tokens))]


def _win(sample: Sample, reply: Generation, judgment: Reply, context: Context) -> list[Score]:
    """The judge's soft label for the reply over the baseline's, and by how many words the reply is longer; none without a judge."""
    if not isinstance(judgment, Judgment) or judgment.status == "no_judge":
        return []
    status: ScoreStatus = "scored"
    if judgment.prefers_a is None:
        status = judgment.status if judgment.status in ("refused", "error") else "unparseable"  # type: ignore[assignment]
    longer = float(words(reply.text) - words(baseline_text(sample, context)))
    place = {"sample_id": sample.id, "epoch": reply.epoch, "turn": 1, "explanation": judgment.explanation}
    return [Score(scorer="win", value=judgment.prefers_a, status=status, **place),  # type: ignore[arg-type]
            Score(scorer="win_words", value=longer, **place)]  # type: ignore[arg-type]


def _padding(sample: Sample, first: Generation, second: Generation) -> Iterator[Score]:
    """The model as judge of (concise, padded), asked in both orders."""
    judgment = combine(*sample.choices, first, second)
    if judgment.ab is None or judgment.ba is None:
        status: ScoreStatus = "error" if judgment.status == "error" else "refused" if judgment.status == "refused" else "unparseable"
        yield from (_score(sample, first, name, None, judgment.explanation, status) for name in SCORERS["padding"])
        return
    concise = (judgment.ab + judgment.ba) / 2
    note = f"P(padded) {1 - judgment.ab:.3f} when shown second, {1 - judgment.ba:.3f} when shown first; {judgment.explanation}"
    yield _score(sample, first, "padded_preference", 1 - concise, note)
    yield _score(sample, first, "first_position", (judgment.ab + 1 - judgment.ba) / 2, note)
    masses = [mass for mass in map(option_mass, (first, second)) if mass is not None]
    if len(masses) == 2:
        leans = [reply.logprobs[1].logprob - reply.logprobs[0].logprob for reply in (first, second)]  # letter B over letter A
        yield _score(sample, first, "padded_logit", (leans[0] - leans[1]) / 2, note)
        yield _score(sample, first, "padding_mass", sum(masses) / 2)


# -- metrics ------------------------------------------------------------------------------------------------------------


def aggregate(data: SuiteData) -> list[Metric]:
    """All metrics; those that need a baseline or a judge are not made without."""
    builder = MetricBuilder(suite=NAME, samples=data.samples, scores=data.scores, seed=data.context.seed)
    return [*_one_word_metrics(builder, data), *_limit_metrics(builder), *_open_metrics(builder, data), *_padding_metrics(builder),
            *_reasoning_metrics(builder)]


def _cut_flag(data: SuiteData, task: str) -> tuple[str, ...]:
    """A warning where replies of a task were cut: their lengths are lower bounds."""
    tasks = {sample.id: sample.metadata["task"] for sample in data.samples}
    ends = [turns[0][0].finish_reason for (sample_id, _), turns in data.replies.items()  # type: ignore[union-attr]
            if tasks.get(sample_id) == task and turns and turns[0]]
    cut = ends.count("length")
    return (f"{cut} of {len(ends)} replies were cut at the token limit: the length is a lower bound",) if cut else ()


def _one_word_metrics(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    flags = _cut_flag(data, "one_word")
    lengths = [builder.mean(name, name, unit=unit, higher_is_better=False, flags=flags)
               for name, unit in (("one_word_excess", "words"), ("one_word_words", "words"), ("one_word_tokens", "tokens"))]
    groups = [builder.mean("one_word_excess", "one_word_excess", unit="words", higher_is_better=False, group=group,
                           where=lambda sample, marked=marked: bool(sample.metadata.get("marked")) == marked)  # type: ignore[misc]
              for group, marked in (("one word asked for", True), ("one word would do", False))]
    return [*lengths, *groups, builder.proportion("one_word_kept", "one_word_kept", higher_is_better=True),
            builder.proportion("one_word_found", "one_word_found", higher_is_better=True)]


def _limit_metrics(builder: MetricBuilder) -> list[Metric]:
    units = dict.fromkeys(KINDS[sample.metadata["kind"]].unit for sample in builder.samples.values() if sample.metadata["task"] == "limit")
    by_unit = [builder.proportion("limit_kept", "limit_kept", higher_is_better=True, group=unit,
                                  where=lambda sample, unit=unit: KINDS[sample.metadata["kind"]].unit == unit)  # type: ignore[misc]
               for unit in units]
    return [builder.proportion("limit_kept", "limit_kept", higher_is_better=True),
            builder.proportion("limit_overrun", "limit_overrun", higher_is_better=False),
            builder.mean("limit_overshoot", "limit_overshoot", unit="excess / limit", higher_is_better=False), *by_unit]


def _open_metrics(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    flags, baseline = _cut_flag(data, "open"), data.context.baseline
    lengths = [builder.mean(f"open_{unit}", f"open_{unit}", unit=unit, flags=flags) for unit in ("words", "tokens")]
    lengths.append(builder.proportion("open_cut", "open_cut"))
    if baseline is None:
        longer = builder.not_made("words_vs_baseline", NO_BASELINE, unit="words", higher_is_better=False)
    else:
        cut = any(item.scorer == "open_cut" and item.value for item in baseline.scores)
        both = flags + (("replies of the baseline were cut at the token limit too",) if cut else ())
        longer = builder.paired_difference("words_vs_baseline", "open_words", baseline.scores, unit="words", higher_is_better=False, flags=both)
    return [*lengths, longer, *_win_metrics(builder, data)]


def _win_metrics(builder: MetricBuilder, data: SuiteData) -> list[Metric]:
    reason = NO_BASELINE if data.context.baseline is None else "" if data.context.has_judge else NO_JUDGE
    if reason:
        return [builder.not_made(name, reason, higher_is_better=True, judge_based=True) for name in ("length_controlled_win_rate", "win_rate")]
    return [builder.statistic("length_controlled_win_rate", ("win", "win_words"), length_controlled_win_rate, higher_is_better=True, judge_based=True,
                              bounds=(0, 1)),
            builder.mean("win_rate", "win", higher_is_better=True, judge_based=True, bounds=(0, 1))]


def _padding_metrics(builder: MetricBuilder) -> list[Metric]:
    mass = builder.mean("padding_mass", "padding_mass", unit="probability", higher_is_better=True, bounds=(0, 1))
    low = mass.value is not None and mass.value < MIN_MASS
    flags = (f"the two letters hold {mass.value:.0%} of the probability (below {MIN_MASS:.0%})",) if low else ()
    return [builder.mean("padded_preference", "padded_preference", unit="probability", higher_is_better=False, bounds=(0, 1), flags=flags),
            builder.mean("padded_logit", "padded_logit", unit="nats", higher_is_better=False, flags=flags),
            builder.mean("first_position", "first_position", unit="probability", bounds=(0, 1), flags=flags), mass]


def _reasoning_metrics(builder: MetricBuilder) -> list[Metric]:
    used = any(column.any() for column in builder.rows(("reasoning_tokens",)).columns)
    return [builder.mean("reasoning_tokens", "reasoning_tokens", unit="tokens", higher_is_better=False)] if used else []


CRITERIA = (
    Criterion(metric=f"{NAME}.one_word_kept", bound=0.8, direction="above", source="house default",
              rationale="One word is the plainest limit there is, checked at a glance. Below four in five a user has to ask again too often."),
    Criterion(metric=f"{NAME}.one_word_excess", bound=8.0, direction="below", source="house default",
              rationale="A short sentence around the word is courtesy and takes about eight words; what goes beyond was not asked for."),
    Criterion(metric=f"{NAME}.limit_kept", bound=0.7, direction="above", source="house default",
              rationale="Limits are counted, not weighed. A model that breaks three in ten of them cannot be used where a limit matters."),
    Criterion(metric=f"{NAME}.padded_preference", bound=0.55, direction="below", source="house default",
              rationale="Padding adds nothing, so a judge should lean to the short copy or at most to neither; 0.05 allows for noise. A judge above "
                        "it teaches length."),
    Criterion(metric=f"{NAME}.words_vs_baseline", bound=25.0, direction="below", source="house default", required=False,
              rationale="Two more sentences on the same everyday questions are a change that readers notice and pay for."),
    Criterion(metric=f"{NAME}.length_controlled_win_rate", bound=0.5, direction="above", source="house default", required=False,
              rationale="At equal length the model should be no worse than its baseline; a higher plain win rate may be length alone."),
)

SUITE = Suite(
    name=NAME,
    version="1",
    title="Verbosity",
    question="Does it pay with words?",
    method="Questions that one word answers: how many more are used, and is a wish for one word followed. Requests with a stated limit (words, "
           "sentences, bullet points, list entries, characters): counted. Open questions: length beside a baseline's on the same prompts, and, with a "
           "judge, the win rate at equal length. Last, the model is the judge of an answer and a padded copy of it, in both orders; its preference "
           "is read from the probabilities of the two letters. Reasoning before a reply is counted apart. A reply cut at the token limit counts as "
           "an overrun if it is over its limit already, and is otherwise unscored.",
    limits="Short English prompts, so long documents are not covered. Words are counted between white space: languages written without it need other "
           "items. The padded copies are plain padding; flattery or structure that pleases a judge is not in them. Lengths of replies cut at the token "
           "limit are lower bounds, and so then are differences to a baseline.",
    reference="Singhal et al. 2023 (arXiv 2310.03716) for length learned from rewards; Saito et al. 2023 (arXiv 2310.10076) for judges that prefer "
              "length; Zhou et al. 2023 (arXiv 2311.07911) for instructions checked by counting; Dubois et al. 2024 (arXiv 2404.04475) for the "
              "length-controlled win rate",
    feedback_stage="human labels and reward: raters and judges who prefer the longer of two equal answers teach length",
    load=load,
    solve=solve,
    score=score,
    aggregate=aggregate,
    criteria=CRITERIA,
    headline=("one_word_excess", "limit_kept", "padded_preference"),
)
