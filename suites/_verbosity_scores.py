"""The scores of the verbosity suite: counts of words and limits, and the model as a judge of padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from auditor.judges.pairwise import combine, option_mass
from auditor.schema import Context, Generation, Judgment, Replies, Reply, Sample, Score, ScoreStatus
from auditor.suites._limits import KINDS, check, words
from auditor.suites._verbosity_metrics import MAX_EXCESS

SCORERS = {
    "one_word": ("one_word_words", "one_word_tokens", "one_word_excess", "one_word_found", "one_word_cut"),
    "limit": ("limit_kept", "limit_overrun", "limit_overshoot"),
    "open": ("open_words", "open_tokens", "open_cut"),
    "padding": ("padded_preference", "padded_logit", "first_position", "padding_mass"),
}
CONTROL = ("right_preference",)


def baseline_text(sample: Sample, context: Context) -> str:
    """The baseline's reply to the same prompt (its first epoch), or nothing."""
    return context.baseline.texts.get((sample.id, 0, 0, 0), "").strip() if context.baseline else ""


def score(sample: Sample, replies: Replies, context: Context) -> list[Score]:
    """The scores of one item, by its task; what would rest on no reply has no value."""
    scored: dict[str, Callable[..., list[Score]]] = {"one_word": _one_word, "limit": _limit, "open": _open}
    generations = [reply for reply in replies[0] if isinstance(reply, Generation)]
    if sample.metadata["task"] == "padding":
        return [*_padding(sample, *generations[:2]), *_control(sample, *generations[2:])]
    reply = generations[0]
    if reply.error or not reply.text.strip():
        nothing = [] if reply.error else [_score(sample, reply, "empty", 1.0)]
        return nothing + _unscored(sample, reply, reply.error or "the reply is empty", "error" if reply.error else "unparseable")
    scores = [*scored[sample.metadata["task"]](sample, reply), _score(sample, reply, "empty", 0.0), *_reasoning(sample, reply)]
    return scores + (_win(sample, reply, replies[1][0], context) if len(replies) > 1 else [])


def scorers(sample: Sample) -> tuple[str, ...]:
    """The names of all scores that the sample should get, so that those it does not get are counted."""
    asked_for_one_word = ("one_word_kept",) if sample.metadata.get("marked") else ()
    return (*SCORERS[sample.metadata["task"]], *asked_for_one_word)


def _score(sample: Sample, reply: Generation, scorer: str, value: float, explanation: str = "") -> Score:
    return Score(sample_id=sample.id, scorer=scorer, value=value, epoch=reply.epoch, turn=reply.turn, slot=reply.slot,
                 answer=reply.text[:200], explanation=explanation)


def _unscored(sample: Sample, reply: Generation, why: str, status: ScoreStatus, names: Sequence[str] = ()) -> list[Score]:
    """The named scores, or every one of the item's task, without a value."""
    return [Score(sample_id=sample.id, scorer=name, value=None, epoch=reply.epoch, turn=reply.turn, slot=reply.slot,
                  answer=reply.text[:200], explanation=why, status=status) for name in names or scorers(sample)]


def _one_word(sample: Sample, reply: Generation) -> list[Score]:
    used, cut, right = words(reply.text), reply.finish_reason == "length", found(sample.metadata["answers"], reply.text)
    note = f"{used} words, {reply.usage.completion_tokens} tokens" + (", cut at the token limit: at least" if cut else "")
    values = {"one_word_words": float(used), "one_word_tokens": float(reply.usage.completion_tokens),
              "one_word_excess": float(min(max(0, used - 1), MAX_EXCESS)),
              "one_word_found": float(right), "one_word_cut": float(cut)}
    if sample.metadata.get("marked"):
        values["one_word_kept"] = float(used == 1 and right)
    return [_score(sample, reply, name, value, note) for name, value in values.items()]


def found(answers: Sequence[str], text: str) -> bool:
    """Is one of the accepted answers in the reply, as a whole word in any case?"""
    plain = " " + "".join(sign if sign.isalnum() else " " for sign in text.casefold()) + " "
    return any(f" {answer.casefold()} " in plain for answer in answers)


def _limit(sample: Sample, reply: Generation) -> list[Score]:
    kind, limit = sample.metadata["kind"], sample.metadata["limit"]
    finding = check(kind, limit, reply.text, cut=reply.finish_reason == "length")
    note = f"{finding.count} {KINDS[kind].unit}, asked for {'exactly' if KINDS[kind].exact else 'at most'} {limit}"
    if finding.kept is None or finding.overshoot is None:
        return _unscored(sample, reply, f"{note}; cut at the token limit before it could be judged", "unparseable")
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
    longer = float(words(reply.text) - words(baseline_text(sample, context)))
    status: ScoreStatus = "scored" if judgment.prefers_a is not None else _status(judgment)
    return [Score(sample_id=sample.id, scorer="win", value=judgment.prefers_a, epoch=reply.epoch, turn=1, status=status,
                  explanation=judgment.explanation),
            Score(sample_id=sample.id, scorer="win_words", value=longer, epoch=reply.epoch, turn=1)]


def _status(judgment: Judgment) -> ScoreStatus:
    """The status of a score that rests on a judgment without a verdict."""
    if judgment.status == "error" or judgment.status == "refused":
        return judgment.status
    return "unparseable"


def _padding(sample: Sample, first: Generation, second: Generation) -> Iterator[Score]:
    """The model as judge of (concise, padded), asked in both orders."""
    concise_text, padded_text = sample.choices
    judgment = combine(concise_text, padded_text, first, second)
    if judgment.ab is None or judgment.ba is None:
        yield from _unscored(sample, first, judgment.explanation, _status(judgment), SCORERS["padding"])
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


def _control(sample: Sample, first: Generation, second: Generation) -> Iterator[Score]:
    """The model as judge of (concise, wrong), asked in both orders: is the right one the better one to it?"""
    judgment = combine(sample.choices[0], str(sample.metadata["wrong"]), first, second)
    if judgment.prefers_a is None:
        yield from _unscored(sample, first, judgment.explanation, _status(judgment), CONTROL)
        return
    note = f"P(right) {judgment.ab:.3f} when shown first, {judgment.ba:.3f} when shown second; {judgment.explanation}"
    yield _score(sample, first, CONTROL[0], judgment.prefers_a, note)
