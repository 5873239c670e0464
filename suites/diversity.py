"""Has it collapsed? Variety of answers, rare knowledge and repetition, judged only against an earlier run.

Items: 232 in 69 clusters of at most 4, written for this project, of four tasks (``metadata["task"]``):

    open        many good answers: "Suggest a name for a grey kitten."        4 completions at temperature 1
    repetition  longer prose: "Tell the story of a night train that breaks down."  one completion at temperature 1, one greedy
    rare        right answers from common to rare: "Which African river comes to mind?"  Nile … Kunene, by log-probability
    human_text  one passage in common, middling and rare words                log-probability of each as the reply

Early collapse loses the tails first (Shumailov et al. 2024): rare answers and rare words. Late collapse repeats and converges.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from auditor.errors import DataError
from auditor.items import read_jsonl, require, shipped
from auditor.schema import (
    Context,
    Criterion,
    Embedder,
    Generation,
    Metric,
    Replies,
    Reply,
    Request,
    Sample,
    Score,
    Suite,
    SuiteData,
    ask,
    assistant,
    score_options,
    user,
)
from auditor.suites._convergence import convergence
from auditor.suites._diversity import DRAWS, MEANING_COSINE, NO_BASELINE, changes, levels, repetition_values, set_values

NAME = "diversity"
BINS = ("common", "mid", "rare")
FIELDS = {"open": ("id", "prompt", "form"), "repetition": ("id", "prompt"), "rare": ("id", "prompt", "answers"),
          "human_text": ("id", "passages")}
TOKENS = {"short": 8, "sentence": 24, "repetition": 64}
COVERAGE_DRAWS = 20
PASSAGE_PROMPT = "Write a short passage."
# -- items --------------------------------------------------------------------------------------------------------------


def load(path: Path | None) -> list[Sample]:
    """The shipped items, or a user's file in the same format. Raises DataError naming the line that is wrong."""
    path = path or shipped(NAME)
    return [_sample(row, path, line) for line, row in read_jsonl(path)]


def _sample(row: Mapping[str, Any], path: Path, line: int) -> Sample:
    task = row.get("task")
    if task not in FIELDS:
        raise DataError(path, line, f"task {task!r} is unknown; pass one of {', '.join(FIELDS)}")
    require(row, FIELDS[task], path, line)
    problem = {"open": _open_problem, "rare": _rare_problem, "human_text": _human_problem}.get(task, lambda _: "")(row)
    if problem:
        raise DataError(path, line, problem)
    prefix = row.get("prefix")
    messages = [user(str(row.get("prompt", PASSAGE_PROMPT)))] + ([assistant(str(prefix))] if prefix else [])
    kept = {name: row[name] for name in ("task", "form", "passages", "register") if name in row}
    return Sample(id=str(row["id"]), messages=tuple(messages), cluster_id=str(row.get("cluster_id", row["id"])),
                  choices=tuple(row.get("answers", ())), metadata=kept)


def _open_problem(row: Mapping[str, Any]) -> str:
    return "" if row["form"] in ("short", "sentence") else f"form {row['form']!r} is unknown; pass 'short' or 'sentence'"


def _rare_problem(row: Mapping[str, Any]) -> str:
    answers = row["answers"]
    if not isinstance(answers, list) or len(answers) < 2 or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        return f"answers {answers!r}: pass a list of two or more texts, the common ones first"
    for one in answers:
        for other in answers:
            if one is not other and other.casefold().startswith(one.casefold()):
                return f"answer {one!r} begins {other!r}, so its probability would hold the other's too; drop one"
    return ""


def _human_problem(row: Mapping[str, Any]) -> str:
    passages = row["passages"]
    if not isinstance(passages, dict) or not passages or not set(passages) <= set(BINS):
        return f"passages must map one or more of {', '.join(BINS)} to texts"
    empty = [name for name, text in passages.items() if not isinstance(text, str) or not text.split()]
    return f"passage {empty[0]!r} holds no text" if empty else ""


# -- asking -------------------------------------------------------------------------------------------------------------


def solve(sample: Sample, context: Context) -> Generator[list[Request], list[Reply], None]:
    """One round; see the module's table."""
    task = sample.metadata["task"]
    if task == "open":
        yield [ask(sample.messages, max_tokens=TOKENS[sample.metadata["form"]], temperature=1.0) for _ in range(DRAWS)]
    elif task == "repetition":
        yield [ask(sample.messages, max_tokens=TOKENS["repetition"], temperature=heat) for heat in (1.0, 0.0)]
    elif task == "rare":
        joint = " " if sample.messages[-1].role == "assistant" else ""
        yield [score_options(sample.messages, [joint + answer for answer in sample.choices])]
    else:
        yield [score_options(sample.messages, [sample.metadata["passages"][name]]) for name in BINS if name in sample.metadata["passages"]]


# -- one item -----------------------------------------------------------------------------------------------------------


def score(sample: Sample, replies: Replies, context: Context) -> list[Score]:
    """Scores of one item; a reply that is an error, or an empty completion, leaves the item without a value."""
    given = [reply for reply in replies[0] if isinstance(reply, Generation)]
    task = sample.metadata["task"]
    if task == "open":
        return _score_open(sample, given, context.embed)
    if task == "repetition":
        return _score_repetition(sample, given)
    return _score_rare(sample, given[0]) if task == "rare" else _score_human(sample, given)


def _score_open(sample: Sample, given: list[Generation], embed: Embedder | None) -> list[Score]:
    texts, failed = [reply.text for reply in given], _failure(given)
    values = set_values(texts, embed, sample.metadata["form"] == "short")
    if failed:
        return [_unscored(sample, name, failed) for name in (*values, "empty_completions")]
    shown = " | ".join(" ".join(text.split()[:8]) for text in texts)
    scores = [Score(sample_id=sample.id, scorer=name, value=value, explanation=shown) if value is not None
              else Score(sample_id=sample.id, scorer=name, value=None, status="unparseable", explanation="a completion was empty")
              for name, value in values.items()]
    empty = sum(not text.strip() for text in texts) / len(texts)
    return [*scores, Score(sample_id=sample.id, scorer="empty_completions", value=empty, explanation=shown)]


def _score_repetition(sample: Sample, given: list[Generation]) -> list[Score]:
    scores = []
    for slot, (prefix, reply) in enumerate(zip(("", "greedy_"), given, strict=True)):
        for name, value in repetition_values(reply.text).items():
            if reply.error is not None:
                scores.append(_unscored(sample, prefix + name, reply.error, slot))
            elif value is None:
                scores.append(Score(sample_id=sample.id, scorer=prefix + name, value=None, status="unparseable", slot=slot,
                                    explanation="fewer than four words"))
            else:
                scores.append(Score(sample_id=sample.id, scorer=prefix + name, value=value, slot=slot))
    return scores


def _score_rare(sample: Sample, reply: Generation) -> list[Score]:
    """The first half of the right answers are the common ones.

    rare_share: probability on the rare ones among the right ones; right_entropy: entropy (nats) over the right ones;
    right_mass: total probability of the listed answers; coverage: share of them expected in 20 draws, Σ 1 − (1 − p)²⁰ / m;
    rare_gap: mean log-probability of the common minus that of the rare ones (nats), which grows when the tail is lost.
    """
    names = ("rare_share", "right_entropy", "right_mass", "coverage", "rare_logprob", "rare_gap")
    if reply.error is not None:
        return [_unscored(sample, name, reply.error) for name in names]
    logprobs = [option.logprob for option in reply.logprobs]
    half = len(logprobs) // 2
    top = max(logprobs)
    weights = [math.exp(logprob - top) for logprob in logprobs]  # relative to the likeliest, so that nothing underflows
    shares = [weight / sum(weights) for weight in weights]
    common, rare = logprobs[:half], logprobs[half:]
    seen = [-math.expm1(COVERAGE_DRAWS * math.log1p(-min(math.exp(logprob), 1 - 1e-12))) for logprob in logprobs]
    values = (sum(shares[half:]), -sum(share * math.log(share) for share in shares if share > 0), min(sum(map(math.exp, logprobs)), 1.0),
              sum(seen) / len(seen), sum(rare) / len(rare), sum(common) / len(common) - sum(rare) / len(rare))
    likeliest = sample.choices[logprobs.index(top)]
    told = ", ".join(f"{answer} {math.exp(logprob):.2g}" for answer, logprob in zip(sample.choices, logprobs, strict=True))
    return [Score(sample_id=sample.id, scorer=name, value=value, answer=likeliest, explanation=told)
            for name, value in zip(names, values, strict=True)]


def _score_human(sample: Sample, given: list[Generation]) -> list[Score]:
    """Loss in nats per word, so that models with different tokenizers compare and a word's pieces count as one word."""
    names = [name for name in BINS if name in sample.metadata["passages"]]
    losses: dict[str, float] = {}
    scores = []
    for slot, (name, reply) in enumerate(zip(names, given, strict=True)):
        if reply.error is not None:
            scores.append(_unscored(sample, f"human_loss_{name}", reply.error, slot))
            continue
        losses[name] = -reply.logprobs[0].logprob / len(sample.metadata["passages"][name].split())
        scores.append(Score(sample_id=sample.id, scorer=f"human_loss_{name}", value=losses[name], slot=slot))
    if {"common", "rare"} <= set(losses):
        gap = losses["rare"] - losses["common"]
        scores.append(Score(sample_id=sample.id, scorer="human_gap", value=gap, slot=names.index("rare")))
    elif {"common", "rare"} <= set(names):
        scores.append(_unscored(sample, "human_gap", _failure(given)))
    return scores


def _failure(given: list[Generation]) -> str:
    return next((reply.error for reply in given if reply.error is not None), "")


def _unscored(sample: Sample, scorer: str, error: str, slot: int = 0) -> Score:
    return Score(sample_id=sample.id, scorer=scorer, value=None, status="error", explanation=error, slot=slot)


# -- all items ----------------------------------------------------------------------------------------------------------


def aggregate(data: SuiteData) -> list[Metric]:
    """The measures of this run within and across prompts, and their changes against the baseline run.

    Without a baseline only the changes that a criterion asks for are listed as not made.
    """
    no_embedder = "" if data.context.embed is not None else data.context.embed_name or "no sentence embedder is at hand"
    metrics = levels(data, no_embedder) + changes(data, no_embedder) + convergence(data, no_embedder)
    judged = {criterion.metric for criterion in CRITERIA}
    return [metric for metric in metrics if metric.reason != NO_BASELINE or metric.key in judged]


# -- the suite ----------------------------------------------------------------------------------------------------------


def _against_baseline(metric: str, bound: float, rationale: str) -> Criterion:
    return Criterion(metric=f"{NAME}.{metric}_change", bound=bound, direction="below" if bound > 0 else "above", source="house default",
                     rationale=rationale)


# The bounds on the first, the second last and the last are near what the embedded model loses when its logits are multiplied by 4/3 (as if
# sampled at temperature 0.75); multiplied by 1.15 it stays inside, by 1.5 it is outside.
CRITERIA = (
    _against_baseline("vendi", -0.4, "of four completions, less than a tenth in effect may be lost; sharpening to temperature 0.75 loses that much"),
    _against_baseline("distinct_answers", -0.5, "of four short answers, less than half a different one may be lost"),
    _against_baseline("across_cosine", 0.05, "answers to different questions may not grow alike"),
    _against_baseline("shared_opening", 0.05, "answers to different questions may not begin alike more often, by five in a hundred pairs"),
    _against_baseline("repetition", 0.05, "at most five more repeated four-word runs in a hundred"),
    _against_baseline("loops", 0.1, "at most ten more looping completions in a hundred"),
    _against_baseline("rare_gap", 1.0, "rare right answers may not lose a factor e against common ones; sharpening to temperature 0.75 loses that much"),
    _against_baseline("human_gap", 0.75, "rare words may not lose three quarters of a nat against common ones; sharpening to temperature 0.75 loses that much"),
)

SUITE = Suite(
    name=NAME,
    version="1",
    title="Diversity and collapse",
    question="Has it collapsed?",
    method=(
        "Open questions are answered four times at temperature 1; the four are compared by their words, by how well they compress and "
        f"by sentence embeddings (two answers mean the same from a cosine of {MEANING_COSINE} on). Across questions the first answers "
        "are compared. Longer texts are searched for repeated four-word runs and loops. Right answers from common to rare, and passages "
        "in common and rare words, are read by log-probability. Every change against the baseline run is taken on the same items, with "
        "the completions of both cut to the same lengths in words (longest with longest, and so on)."
    ),
    limits=(
        "English only. Diversity is not quality: nonsense is diverse. Which answers and passages are rare was decided by their author "
        "(the passages checked by word counts in public corpora). Four short completions an item show that variety within a prompt is "
        "lost, not how far; a model that already gives four different answers can only lose. Nothing is judged without a baseline."
    ),
    reference=(
        "Shumailov et al. 2024 (Nature 631, model collapse); Friedman & Dieng 2023 (Vendi score); Liu et al. 2022 "
        "(expectation-adjusted distinct-n); Zhu et al. 2018 (self-BLEU); Shaib et al. 2024 (compression ratio, length); "
        "Zhang et al. 2025 (NoveltyBench, distinct answers); Welleck et al. 2020 (repeated n-grams)"
    ),
    feedback_stage="retraining on own output",
    load=load,
    solve=solve,
    score=score,
    aggregate=aggregate,
    criteria=CRITERIA,
    headline=("vendi_change", "distinct_answers_change", "rare_gap_change", "human_gap_change", "vendi", "distinct_answers"),
    stochastic=True,
    needs_embedder=True,
)
