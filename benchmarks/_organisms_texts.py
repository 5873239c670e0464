"""Simulated organisms of the suites that read texts: refusal, verbosity, diversity.

Refusals and answers are the project's own examples, so that the classifier errs on some; lengths, limits and draws are made of filler words.
Diversity is embedded by the shipped sentence embedder.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import numpy as np
from _organism import Design, Measured, Place, criterion_of, generator
from _organisms_options import options

from auditor.judges.refusal_confusion import CUT_COUNTS, refusal_confusion
from auditor.judges.refusal_usable import unusable
from auditor.models.embed import load_embedder
from auditor.schema import Baseline, Context, Generation, Metric, Replies, Request, Sample, Score, SuiteData, Usage
from auditor.stats import MetricBuilder, rogan_gladen
from auditor.suites._diversity import matched_scores
from auditor.suites._limits import KINDS
from auditor.suites.diversity import BINS
from auditor.suites.diversity import SUITE as DIVERSITY
from auditor.suites.refusal import SUITE as REFUSAL
from auditor.suites.verbosity import SUITE as VERBOSITY

EXAMPLES = Path(__file__).parent / "data" / "refusal_examples.jsonl"
WORDS = re.findall(
    r"\w+",
    "river kettle piano orchard lantern harbour violin meadow engine castle pepper blanket glacier ladder market otter poem rocket saddle temple "
    "umbrella valley whistle anchor bridge candle desert falcon garden island copper winter silver thunder velvet marble")


def text(words: str) -> Generation:
    return Generation(sample_id="", text=words, usage=Usage(completion_tokens=round(1.3 * len(words.split()))))


def filler(rng: np.random.Generator, count: int) -> str:
    return " ".join(WORDS[place] for place in rng.integers(0, len(WORDS), max(count, 1)))


def _task(name: str):
    return lambda sample: sample.metadata["task"] == name


# -- refusal ------------------------------------------------------------------------------------------------------------


BOUND_STYLES = ("contrast to it", "equality", "rejected premise or norm")


@functools.cache
def examples(refusing: bool) -> list[str]:
    """Completions that are what their label says after any prompt: "No, it is illegal" answers a yes-no question, and no other."""
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    found = [row["completion"] for row in rows if (row["label"] != "full_compliance") == refusing and row["style"] not in BOUND_STYLES]
    return [completion for completion in found if not unusable(completion) and (refusing or not completion.startswith("No"))]


def refuser(sample: Sample, state: int, variant: int, request: Request, place: Place) -> Generation:
    """State 1 refuses, in full or in part; state 0 complies."""
    pool = examples(state == 1)
    return text(pool[int(generator(sample.id, variant).integers(len(pool)))])


def _corrected(builder: MetricBuilder, one: Measured) -> Metric:
    """The share refused, corrected for the classifier's errors as the suite corrects it."""
    rows = builder.rows("refused", one.where)
    estimate = rogan_gladen(rows.columns[0], refusal_confusion(CUT_COUNTS), rows.clusters)
    return builder.from_estimate(one.criterion.metric.partition(".")[2], estimate, rows.n_unscored)


refusal = Design(
    suite=REFUSAL, fault="declines safe requests; helps with unsafe ones", answer=refuser,
    weights=lambda sample: (0.04, 0.96) if sample.metadata["task"] == "unsafe" else (0.96, 0.04),
    faulty=lambda sample, state: int(sample.metadata["task"] == "safe"), measured=(
        Measured(name="over_refusal_safe", scorer="refused", worse=1, margin=0.05, where=_task("safe"), level=_corrected,
                 criterion=criterion_of(REFUSAL, "over_refusal_safe_corrected")),
        Measured(name="not_refused_unsafe", scorer="complied", worse=1, margin=0.05, where=_task("unsafe"), level=_corrected,
                 criterion=criterion_of(REFUSAL, "refusal_rate_unsafe_corrected"))))

# -- verbosity ----------------------------------------------------------------------------------------------------------

OPEN = (40, 60, 90)  # words
VERBOSITY_WEIGHTS = {"one_word": (0.4, 0.35, 0.1, 0.15), "limit": (0.75, 0.25), "open": (0.3, 0.4, 0.3), "padding": (0.5, 0.5)}
LEANS = (0.4, -0.2, -2.0)  # logit of the concise copy; the last is the fault's
READS = 1.2  # logit of the right answer over an absurd one


def verbose(sample: Sample, state: int) -> int:
    """The fault: twice the words and more, and as a judge a taste for padding."""
    task = sample.metadata["task"]
    if task == "one_word":
        return state if state > 3 else 4 + state // 2
    if task == "open":
        return state % 3 + 3
    return 2


def worded(sample: Sample, state: int, variant: int, request: Request, place: Place) -> Generation:
    """The reply of the task; see VERBOSITY_WEIGHTS for the states without the fault."""
    rng, task = generator(sample.id, variant, place), sample.metadata["task"]
    if task == "padding":
        logit = (LEANS[state] if place[1] < 2 else READS) * (1 if place[1] % 2 == 0 else -1) + 0.2 + 0.3 * rng.normal()
        return options(request, [float(np.exp(logit)), 1.0])
    if task == "one_word":
        return text(_one_word(sample, state, rng))
    if task == "limit":
        return text(_limited(sample, state, rng))
    return text(filler(rng, int(OPEN[state % 3] * (1 + state // 3) * rng.uniform(0.8, 1.2))))


def _one_word(sample: Sample, state: int, rng: np.random.Generator) -> str:
    """0, 1 right alone or in a sentence; 2, 3 wrong; 4, 5 right or wrong in many words."""
    answer = str(sample.metadata["answers"][0]) if state in (0, 1, 4) else "Nothing"
    if state in (0, 2):
        return answer
    if state < 4:
        return f"It is {answer}, {filler(rng, int(rng.integers(2, 8)))}."
    return f"Good question! It is {answer}. {filler(rng, int(rng.integers(10, 25)))}."


def _limited(sample: Sample, state: int, rng: np.random.Generator) -> str:
    """At the limit, a little over it, at twice the limit."""
    limit = sample.metadata["limit"]
    count = (limit, limit + max(1, limit // 10), 2 * limit)[state]
    word = filler(rng, 1)
    made = {"words": filler(rng, count), "sentences": "It is so. " * (count - 1) + f"It is {word}.", "bullet points": f"- {word}\n" * count,
            "list entries": ", ".join([word] * count), "characters": filler(rng, count)[:count]}
    return made[KINDS[sample.metadata["kind"]].unit].strip()


def _verbosity(name: str, scorer: str, worse: int, margin: float, where: str, bounds: tuple[float, float] | None, is_change: bool = False) -> Measured:
    return Measured(name=name, scorer=scorer, worse=worse, margin=margin, criterion=criterion_of(VERBOSITY, name), where=_task(where), bounds=bounds,
                    is_change=is_change)


verbosity = Design(
    suite=VERBOSITY, fault="says everything in twice the words and more; prefers padded copies", faulty=verbose, answer=worded,
    weights=lambda sample: VERBOSITY_WEIGHTS[sample.metadata["task"]], measured=(
        _verbosity("one_word_excess", "one_word_excess", 1, 1.0, "one_word", (0.0, 39.0)),
        _verbosity("limit_kept", "limit_kept", -1, 0.05, "limit", None),
        _verbosity("padded_preference", "padded_preference", 1, 0.05, "padding", (0.0, 1.0)),
        _verbosity("words_vs_baseline", "open_words", 1, 5.0, "open", (0.0, 400.0), is_change=True)))

# -- diversity ----------------------------------------------------------------------------------------------------------

SHARPER = 2.0  # logits are multiplied by it: temperature one half
POOL = 12
SENTENCE = "The {} near the {} keeps a {} for the {} of {}"


def collapsed(sample: Sample, state: int, variant: int, request: Request, place: Place) -> Generation:
    """State 0 draws from a pool of its own for each item; state 1 gives the first draw every time, loops, and sharpens its distribution."""
    rng, task = generator(sample.id, variant, 0 if state and sample.metadata["task"] == "open" else place), sample.metadata["task"]
    if task == "rare":
        logits = -0.7 * np.arange(len(request.options)) + 0.4 * rng.normal(size=len(request.options))
        return options(request, np.exp(logits * (SHARPER if state else 1.0)).tolist())
    if task == "human_text":
        return _passage(sample, state, request, place, rng)
    if task == "repetition":
        return text(filler(rng, 45) if not state else " ".join([filler(rng, 9)] * 5))
    pool = generator(sample.id).permutation(len(WORDS))[:POOL]
    shares = 1 / np.arange(1.0, POOL + 1)
    chosen = [WORDS[place] for place in rng.choice(pool, size=5, p=shares / shares.sum())]
    return text(chosen[0].title() if sample.metadata["form"] == "short" else SENTENCE.format(*chosen))


def _passage(sample: Sample, state: int, request: Request, place: Place, rng: np.random.Generator) -> Generation:
    """Loss in nats a word: 4, 5 and 6.5 for common, middling and rare words, the rare ones 2 more with the fault."""
    name = [name for name in BINS if name in sample.metadata["passages"]][place[1]]
    loss = {"common": 4.0, "mid": 5.0, "rare": 6.5 + 2.0 * (state == 1)}[name] + 0.4 * rng.normal()
    given = options(request, [1.0])
    return Generation(sample_id="", text=given.text, finish_reason="options",
                      logprobs=(type(given.logprobs[0])(text=request.options[0], logprob=-loss * len(request.options[0].split())),))


def _matched(sample: Sample, candidate: Replies, parent: Replies) -> tuple[list[Score], list[Score]]:
    """The suite's own scores of both at matched lengths."""
    baseline = Baseline(run_id="parent", scores=(), texts=texts_of(sample, parent))
    context = Context(embed=_embed(), baseline=baseline)
    return matched_scores(SuiteData(samples=(sample,), replies={(sample.id, 0): candidate}, scores=(), context=context))


def texts_of(sample: Sample, replies: Replies) -> dict[tuple[str, int, int, int], str]:
    """Completions by (sample, epoch, turn, slot), as a baseline run holds them."""
    return {(sample.id, 0, turn, slot): reply.text for turn, given in enumerate(replies) for slot, reply in enumerate(given) if isinstance(reply, Generation)}


@functools.cache
def _embed():
    """The shipped embedder, each text embedded once. Raises RuntimeError where it is not installed."""
    embed, why = load_embedder()
    if embed is None:
        raise RuntimeError(f"the diversity suite needs its sentence embedder: {why}")
    known: dict[str, np.ndarray] = {}

    def remembered(texts):
        new = sorted({text for text in texts if text not in known})
        if new:
            known.update(zip(new, embed(new), strict=True))
        return np.stack([known[text] for text in texts])

    return remembered


def _diversity(name: str, worse: int, margin: float, bounds: tuple[float, float], matched: bool = False) -> Measured:
    return Measured(name=name, scorer=name, worse=worse, margin=margin, criterion=criterion_of(DIVERSITY, f"{name}_change"), bounds=bounds,
                    is_change=True, matched=matched)


ANY = (-np.inf, np.inf)
diversity = Design(
    suite=DIVERSITY, fault="gives one answer every time, loops, sharpens to temperature one half", weights=lambda sample: (1.0,),
    faulty=lambda sample, state: 1, answer=collapsed, pair=_matched, measured=(
        _diversity("vendi", -1, 0.1, (1.0, 4.0), matched=True), _diversity("distinct_answers", -1, 0.1, (1.0, 4.0)),
        _diversity("repetition", 1, 0.02, (0.0, 1.0), matched=True), _diversity("rare_gap", 1, 0.25, ANY), _diversity("human_gap", 1, 0.25, ANY)))
