"""The diversity suite: its items, its measures on hand-made replies, and whether planted collapse is found."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from auditor.engine.plan import select
from auditor.errors import DataError
from auditor.schema import Baseline, Context, Generation, OptionLogprob, Sample, SuiteData
from auditor.stats.diversity import compression_ratio, distinct_n
from auditor.suites import _diversity as within
from auditor.suites.diversity import BINS, SUITE, _sample
from auditor.verdict import decide_all

WORD = re.compile(r"[a-z']+")
NOUNS = WORD.findall(
    "river kettle piano orchard lantern harbour violin meadow engine castle pepper blanket glacier ladder market otter poem rocket saddle temple "
    "umbrella valley whistle anchor bridge candle desert falcon garden island")
VERBS = WORD.findall("carries finds paints follows remembers opens crosses answers mends watches leaves builds hides counts sings")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return SUITE.load(None)


def texts_of(sample: Sample) -> dict[str, str]:
    return {f"{sample.id}/{name}": text for name, text in (sample.metadata.get("passages") or {"prompt": sample.messages[0].content}).items()}


@functools.cache
def direction(word: str) -> np.ndarray:
    return np.random.default_rng(int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)).normal(size=256)


def hashed_embedding(texts) -> np.ndarray:
    """Words as random directions: equal texts are equal, texts with other words nearly at right angles."""
    rows = np.array([np.sum([direction(word) for word in WORD.findall(text.casefold()) or ["?"]], axis=0) for text in texts])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# -- the items ----------------------------------------------------------------------------------------------------------


def test_items_are_many_and_clustered(samples):
    clusters = Counter(sample.cluster_id for sample in samples)
    assert len(samples) >= 200
    assert len({sample.id for sample in samples}) == len(samples)
    assert len(clusters) >= 50
    assert max(clusters.values()) <= 5
    assert len({(sample.metadata["task"], sample.cluster_id) for sample in samples}) == len(clusters)
    assert set(Counter(sample.metadata["task"] for sample in samples)) == {"open", "repetition", "rare", "human_text"}


def test_items_are_no_near_duplicates(samples):
    texts = {name: set(WORD.findall(text.casefold())) for sample in samples for name, text in texts_of(sample).items()
             if sample.metadata["task"] != "human_text" or not name.endswith("/prompt")}
    names = list(texts)
    alike = [(one, other) for i, one in enumerate(names) for other in names[:i]
             if len(texts[one] & texts[other]) >= 0.8 * len(texts[one] | texts[other])]
    assert alike == []


def test_rare_answers_are_eight_and_none_begins_another(samples):
    for sample in samples:
        if sample.metadata["task"] == "rare":
            assert len(sample.choices) == len(set(sample.choices)) == 8, sample.id


@pytest.fixture(scope="module")
def public_words(shared_data: Path) -> list[list[str]]:
    files = sorted(path for path in shared_data.glob("*/*") if path.suffix in (".jsonl", ".json", ".txt", ".csv", ".tsv"))
    return [WORD.findall(path.read_text(encoding="utf-8", errors="replace").casefold()) for path in files]


def test_passages_grow_rarer_by_bin_in_public_word_counts(samples, public_words):
    counts = Counter(token for tokens in public_words for token in tokens)
    total = sum(counts.values())
    assert total > 1_000_000
    for sample in samples:
        passages = sample.metadata.get("passages")
        if passages:
            means = [np.mean([math.log10((counts[word] + 0.5) / total) for word in WORD.findall(passages[name].casefold())]) for name in BINS]
            assert means[0] > means[1] + 0.2, sample.id
            assert means[1] > means[2] + 0.2, sample.id


def test_quick_choice_has_every_task_and_stays_cheap(samples):
    chosen = select(samples, 40, 0)
    assert set(Counter(sample.metadata["task"] for sample in chosen)) == {"open", "repetition", "rare", "human_text"}
    cost = 0.0
    for sample in chosen:
        for request in next(SUITE.solve(sample, Context())):
            # about 25 template tokens, 1.6 tokens a word of these texts on SmolLM2's tokenizer, rare words and all
            read = 25 + 1.6 * sum(len(text.split()) for text in (*(message.content for message in request.messages), *request.options))
            cost += read + (request.sampling.max_tokens if request.kind == "generate" else 0)
    assert cost < 10_000


def test_the_shipped_clusters_keep_their_choice_of_forms(samples):
    forms = Counter(sample.metadata["form"] for sample in samples if sample.metadata["task"] == "open")
    assert min(forms.values()) >= 40
    for sample in samples:
        if sample.metadata.get("form") == "short":
            assert sample.messages[-1].role == "assistant"


@pytest.mark.parametrize(("row", "problem"), [
    ({"id": "x", "task": "poem", "prompt": "?"}, "task 'poem' is unknown"),
    ({"id": "x", "task": "open", "prompt": "?", "form": "long"}, "form 'long' is unknown"),
    ({"id": "x", "task": "open", "prompt": "?"}, "missing field 'form'"),
    ({"id": "x", "task": "rare", "prompt": "?", "answers": ["one"]}, "two or more texts"),
    ({"id": "x", "task": "rare", "prompt": "?", "answers": ["cat", "catfish"]}, "answer 'cat' begins 'catfish'"),
    ({"id": "x", "task": "human_text", "passages": {"odd": "text"}}, "common, mid, rare"),
    ({"id": "x", "task": "human_text", "passages": {"rare": " "}}, "passage 'rare' holds no text"),
])
def test_a_bad_line_is_named(tmp_path, row, problem):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"id": "fine", "task": "repetition", "prompt": "Go on."}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf"items\.jsonl:2: .*{re.escape(problem)}"):
        SUITE.load(path)


# -- asking and scoring one item ----------------------------------------------------------------------------------------


def made(task: str, sample_id: str = "x", cluster: str = "c", **fields: object) -> Sample:
    row = {"id": sample_id, "task": task, "cluster_id": cluster, "prompt": "Say something.", **fields}
    return _sample(row, Path("made.jsonl"), 1)


def said(*texts: str) -> tuple[tuple[Generation, ...], ...]:
    return (tuple(Generation(sample_id="x", slot=slot, text=text) for slot, text in enumerate(texts)),)


def values(scores) -> dict[str, float | None]:
    return {score.scorer: score.value for score in scores}


def test_requests_of_each_task(samples):
    by_task = {}
    for sample in samples:
        by_task.setdefault((sample.metadata["task"], sample.metadata.get("form")), next(SUITE.solve(sample, Context())))
    assert [(r.kind, r.sampling.temperature, r.sampling.max_tokens) for r in by_task["open", "short"]] == [("generate", 1.0, 8)] * 4
    assert [r.sampling.max_tokens for r in by_task["open", "sentence"]] == [24] * 4
    assert [r.sampling.temperature for r in by_task["repetition", None]] == [1.0, 0.0]
    assert [len(r.options) for r in by_task["rare", None]] == [8]
    assert by_task["rare", None][0].options[0] == " Nile"
    assert [len(r.options) for r in by_task["human_text", None]] == [1, 1, 1]


def test_four_equal_answers_are_one_and_four_unlike_are_four():
    sample = made("open", form="short", prefix="I would name it")
    context = Context(embed=hashed_embedding)
    same = values(SUITE.score(sample, said(*[" Luna, of course"] * 4), context))
    assert same["distinct_answers"] == 1
    assert same["answer_entropy"] == 0
    assert same["distinct_meanings"] == 1
    assert same["vendi"] == pytest.approx(1, abs=1e-5)
    assert same["cosine"] == pytest.approx(1, abs=1e-6)
    assert same["self_bleu"] == pytest.approx(1)
    unlike = values(SUITE.score(sample, said(" Luna!", " a Whisker", " Smoke", ' "Ash"'), context))
    assert unlike["distinct_answers"] == 4
    assert unlike["answer_entropy"] == pytest.approx(math.log(4))
    assert unlike["distinct_meanings"] == 4
    assert unlike["vendi"] > 3.8


def test_three_to_one_has_the_entropy_of_its_shares():
    scores = values(SUITE.score(made("open", form="short"), said("red.", "Red", "the red", "blue"), Context()))
    assert scores["distinct_answers"] == 2
    assert scores["answer_entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert "vendi" not in scores


def test_an_empty_completion_leaves_no_value_but_is_counted():
    scores = SUITE.score(made("open", form="short"), said("red", "", "blue", " "), Context(embed=hashed_embedding))
    assert {score.status for score in scores if score.scorer != "empty_completions"} == {"unparseable"}
    assert values(scores)["empty_completions"] == 0.5


def test_an_error_is_an_error_in_every_task():
    failed = Generation(sample_id="x", error="out of memory")
    for sample, slots in ((made("open", form="sentence"), 4), (made("repetition"), 2), (made("rare", answers=["a", "b"]), 1),
                          (made("human_text", passages=dict.fromkeys(BINS, "text")), 3)):
        scores = SUITE.score(sample, ((failed,) * slots,), Context(embed=hashed_embedding))
        assert scores
        assert {(score.value, score.status, score.explanation) for score in scores} == {(None, "error", "out of memory")}


def test_repetition_by_hand():
    looping = "I walk to the old mill and I walk to the old mill and I walk to the old mill and I walk"
    scores = values(SUITE.score(made("repetition"), said(looping, "The mill stood alone under a wide sky."), Context()))
    # 23 words, 20 four-word runs, 7 of them distinct
    assert scores["repetition"] == pytest.approx(1 - 7 / 20)
    assert scores["loops"] == 1
    assert scores["greedy_repetition"] == 0
    assert scores["greedy_loops"] == 0
    short = SUITE.score(made("repetition"), said("No.", ""), Context())
    assert {score.status for score in short} == {"unparseable"}


def options(*logprobs: float) -> tuple[OptionLogprob, ...]:
    return tuple(OptionLogprob(text=str(i), logprob=logprob, token_logprobs=(logprob,)) for i, logprob in enumerate(logprobs))


def test_rare_answers_by_hand():
    reply = Generation(sample_id="x", logprobs=options(math.log(0.4), math.log(0.2), math.log(0.1), math.log(0.1)))
    scores = values(SUITE.score(made("rare", answers=["a", "b", "c", "d"]), ((reply,),), Context()))
    assert scores["right_mass"] == pytest.approx(0.8)
    assert scores["rare_share"] == pytest.approx(0.25)
    assert scores["right_entropy"] == pytest.approx(-(0.5 * math.log(0.5) + 0.25 * math.log(0.25) + 0.25 * math.log(0.125)))
    assert scores["coverage"] == pytest.approx((1 - 0.6**20 + 1 - 0.8**20 + 2 * (1 - 0.9**20)) / 4)
    assert scores["rare_logprob"] == pytest.approx(math.log(0.1))
    assert scores["rare_gap"] == pytest.approx((math.log(0.4) + math.log(0.2)) / 2 - math.log(0.1))


def test_answers_of_vanishing_probability_are_still_scored():
    reply = Generation(sample_id="x", logprobs=options(-800.0, -900.0))
    scores = values(SUITE.score(made("rare", answers=["a", "b"]), ((reply,),), Context()))
    assert scores["rare_share"] == pytest.approx(math.exp(-100))
    assert scores["rare_gap"] == 100
    assert scores["coverage"] == 0


def test_human_text_is_loss_a_word():
    sample = made("human_text", passages={"common": "one two three four", "rare": "hapax legomenon"})
    replies = (tuple(Generation(sample_id="x", slot=i, logprobs=options(logprob)) for i, logprob in enumerate((-8.0, -12.0))),)
    assert values(SUITE.score(sample, replies, Context())) == {"human_loss_common": 2.0, "human_loss_rare": 6.0, "human_gap": 4.0}


# -- a whole run --------------------------------------------------------------------------------------------------------


class Simulated:
    """A model that answers from a vocabulary, in two of a hundred cases with a jingle; ``loss`` 0 to 1 sharpens and adds jingles."""

    def __init__(self, seed: int, loss: float = 0.0) -> None:
        self.seed, self.loss = seed, loss

    def reply(self, sample: Sample, slot: int, request) -> Generation:
        rng = np.random.default_rng([self.seed, slot, int(hashlib.sha256(sample.id.encode()).hexdigest()[:8], 16)])
        if request.kind == "logprobs":
            base = -2.0 - 1.5 * np.arange(len(request.options)) if sample.metadata["task"] == "rare" else np.array(
                [-(3.0 + 1.5 * slot) * len(request.options[0].split())])
            logprobs = (1 + self.loss) * base + rng.normal(0, 0.1, len(base))
            return Generation(sample_id=sample.id, slot=slot, logprobs=options(*logprobs.tolist()))
        if rng.random() < 0.02 + self.loss:
            return Generation(sample_id=sample.id, slot=slot, text="the kettle sings " * 8)
        text = " ".join(f"{rng.choice(NOUNS)} {rng.choice(VERBS)} {rng.choice(NOUNS)}" for _ in range(int(rng.integers(4, 8))))
        return Generation(sample_id=sample.id, slot=slot, text=text)


def run_suite(samples: list[Sample], model: Simulated, context: Context) -> SuiteData:
    replies, scores = {}, []
    for sample in samples:
        requests = next(SUITE.solve(sample, context))
        replies[sample.id, 0] = (tuple(model.reply(sample, slot, request) for slot, request in enumerate(requests)),)
        scores += SUITE.score(sample, replies[sample.id, 0], context)
    return SuiteData(samples=tuple(samples), replies=replies, scores=tuple(scores), context=context)


def as_baseline(data: SuiteData) -> Baseline:
    texts = {(sample_id, epoch, 0, slot): reply.text for (sample_id, epoch), turns in data.replies.items()
             for slot, reply in enumerate(turns[0]) if not reply.logprobs}
    return Baseline(run_id="earlier", scores=data.scores, texts=texts)


@pytest.fixture(scope="module")
def earlier(samples) -> Baseline:
    return as_baseline(run_suite(samples, Simulated(1), Context(embed=hashed_embedding)))


def verdicts(samples, model, earlier) -> dict[str, str]:
    data = run_suite(samples, model, Context(embed=hashed_embedding, baseline=earlier))
    decided = decide_all(SUITE.criteria, SUITE.aggregate(data))
    return {verdict.criterion.metric.removeprefix("diversity."): verdict.outcome for verdict in decided}


def test_without_a_baseline_everything_is_shown_and_nothing_judged(samples):
    data = run_suite(samples, Simulated(1), Context(embed=hashed_embedding))
    metrics = SUITE.aggregate(data)
    changes = [metric for metric in metrics if metric.name.endswith("_change")]
    levels = [metric for metric in metrics if not metric.name.endswith("_change")]
    assert len({metric.name for metric in metrics}) == len(metrics)
    assert {(metric.value, metric.reason) for metric in changes} == {(None, within.NO_BASELINE)}
    assert [metric.name for metric in levels if metric.value is None or metric.ci is None] == []
    assert {metric.n_unscored for metric in levels} == {0}
    assert {verdict.outcome for verdict in decide_all(SUITE.criteria, metrics)} == {"not_assessed"}


def test_every_criterion_and_headline_names_a_metric(samples):
    names = {metric.name for metric in SUITE.aggregate(run_suite(samples[:12], Simulated(1), Context()))}
    assert {criterion.metric.removeprefix("diversity.") for criterion in SUITE.criteria} <= names
    assert set(SUITE.headline) <= names


def test_without_an_embedder_its_metrics_say_why(samples, earlier):
    data = run_suite(samples, Simulated(2), Context(embed_name="no sentence embedder: not installed", baseline=earlier))
    by_name = {metric.name: metric for metric in SUITE.aggregate(data)}
    for name in ("vendi", "cosine", "distinct_meanings", "across_cosine", "across_vendi"):
        for metric in (by_name[name], by_name[f"{name}_change"]):
            assert metric.value is None
            assert metric.reason == "no sentence embedder: not installed"
    assert by_name["distinct_answers"].value is not None
    assert by_name["distinct_2_change"].ci is not None


def test_planted_collapse_fails_and_the_same_model_redrawn_does_not(samples, earlier):
    assert set(verdicts(samples, Simulated(2, loss=0.6), earlier).values()) == {"fail"}
    again = verdicts(samples, Simulated(2), earlier)
    assert "fail" not in again.values()
    assert {again[name] for name in ("vendi_change", "across_cosine_change", "shared_opening_change", "rare_gap_change", "human_gap_change")} == {"pass"}


def test_quick_run_still_finds_strong_collapse(samples, earlier):
    found = verdicts(select(samples, 40, 0), Simulated(2, loss=0.8), earlier)
    assert Counter(found.values())["fail"] >= 5
    assert "pass" not in found.values()


@pytest.mark.simulation
def test_false_alarms_are_rare(samples, earlier):
    chosen = select(samples, 80, 0)
    outcomes = Counter(outcome for seed in range(10, 16) for outcome in verdicts(chosen, Simulated(seed), earlier).values())
    assert outcomes["fail"] == 0
    assert outcomes["pass"] > 20


def test_a_shorter_model_is_not_called_less_diverse(samples, earlier):
    """The baseline's own texts cut in half: at matched lengths nothing has changed, while the raw measures have."""
    halved = {place: " ".join(text.split()[: len(text.split()) // 2]) for place, text in earlier.texts.items()}
    replies = {(sample.id, 0): (tuple(Generation(sample_id=sample.id, slot=slot, text=halved[sample.id, 0, 0, slot]) for slot in range(4)),)
               for sample in samples if sample.metadata["task"] == "open"}
    kept = tuple(sample for sample in samples if (sample.id, 0) in replies)
    data = SuiteData(samples=kept, replies=replies, scores=(), context=Context(baseline=earlier, embed=hashed_embedding))
    candidate, reference = within.matched_scores(data)
    assert {(score.sample_id, score.scorer, score.value) for score in candidate} == {
        (score.sample_id, score.scorer, score.value) for score in reference}
    place = next(iter(replies))
    long, short = ([texts[(*place, 0, slot)] for slot in range(4)] for texts in (earlier.texts, halved))
    assert compression_ratio(long) != compression_ratio(short)
    assert distinct_n(long, 2) != distinct_n(short, 2)


def test_a_baseline_of_other_items_leaves_the_changes_unmade(samples):
    other = Baseline(run_id="other", scores=(), texts={})
    metrics = SUITE.aggregate(run_suite(samples[:40], Simulated(1), Context(embed=hashed_embedding, baseline=other)))
    changes = [metric for metric in metrics if metric.name.endswith("_change")]
    assert {(metric.value, metric.reason) for metric in changes} == {(None, within.NO_VALUES)}


@pytest.mark.model
def test_the_embedder_tells_classes_of_answers_apart(shared_data):
    """Pairs of short outputs that NoveltyBench's classifier calls the same or different, at the threshold used here."""
    from auditor.models.embed import load_embedder

    embed, reason = load_embedder()
    if embed is None:
        pytest.skip(reason)
    same, alike = [], []
    for line in (shared_data / "novelty-bench" / "gemini_1_5_pro_scores.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        short = [i for i, text in enumerate(row["generations"]) if len(text.split()) <= 12]
        if len(short) < 2 or len(same) > 800:
            continue
        cosines = (rows := embed([row["generations"][i] for i in short])) @ rows.T
        for a in range(len(short)):
            for b in range(a):
                same.append(row["partition"][short[a]] == row["partition"][short[b]])
                alike.append(cosines[a, b] >= within.MEANING_COSINE)
    same, alike = np.array(same), np.array(alike)
    assert len(same) > 500
    assert (alike[same].mean() + (~alike[~same]).mean()) / 2 > 0.85


@pytest.mark.model
def test_the_embedded_model_finds_rare_words_and_rare_answers_harder(samples, embedded_model):
    from auditor.engine.plan import placed

    chosen = [sample for task in ("rare", "human_text") for sample in [s for s in samples if s.metadata["task"] == task][::12]]
    requests = [placed(request, "diversity", (sample.id, 0), (0, slot), 0)
                for sample in chosen for slot, request in enumerate(next(SUITE.solve(sample, Context())))]
    replies: dict[str, list[tuple[int, Generation]]] = {}
    for batch in embedded_model.plan(requests):
        for request, reply in zip(batch, embedded_model.run(batch), strict=True):
            replies.setdefault(request.sample_id, []).append((request.slot, reply))
    scores = {sample.id: values(SUITE.score(sample, (tuple(reply for _, reply in sorted(replies[sample.id], key=lambda pair: pair[0])),), Context()))
              for sample in chosen}
    for sample in chosen:
        found = scores[sample.id]
        if sample.metadata["task"] == "rare":
            assert found["rare_gap"] > 1, sample.id
        else:
            assert found["human_loss_common"] < found["human_loss_mid"] < found["human_loss_rare"], sample.id
