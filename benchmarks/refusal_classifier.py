"""How well the refusal classifier agrees with human labels, and the script that fits its second step.

    python benchmarks/refusal_classifier.py               # prints the table
    python benchmarks/refusal_classifier.py --fit         # refits on the development sets: auditor/judges/refusal_fitted.py
    python benchmarks/refusal_classifier.py --confusion   # counts the errors again: auditor/judges/refusal_confusion.py

Sets (public data beside the checkout, or where AUDITOR_SHARED_DATA points):
- xstest llama2new: DEVELOPMENT. The rules were worded by reading it; its second step is scored by 10-fold cross-validation.
- own examples: completions written for this project in other styles (short, evasive, letters, base models); DEVELOPMENT.
- xstest gpt4: TEST. Its texts were never read.
- gptfuzz: TEST, binary (refused / complied), no prompt, openings cut at 240 characters, labels given to the whole responses. Any
  refusal counts as refused.

What was learned from the test sets. Scored blind, first: xstest gpt4 accuracy .933, kappa .872; gptfuzz .749, .451. Then counts of the
errors by rule and prompt type were looked at (gpt4), and wording with all content words masked (one half of gptfuzz, by a hash of the
question), and rules added; the texts of gpt4 stayed unread. So today's figure for gpt4 is optimistic to that extent, and the blind one is
the cleaner guess for a third model. Rules were also mended after reading SmolLM2's completions of the suite's own items, and extended by
made-up examples of rejected norms and premises ("You shouldn't. Murder is a crime."), which moved no count of the gpt4 set.
The refusal suite cuts completions at 64 tokens: lines of "first 48 words" show what that costs, with the labels of the whole completions.

Comparators on xstest, on the same completions: the string-match label and GPT-4 as a judge, both in the files. The paired gain in
accuracy has a bootstrap interval over prompt types (18) and an exact McNemar test. On gptfuzz: n-grams with logistic regression,
trained on gptfuzz's own labels and cross-validated by question, which shows how much the cut openings can tell at all.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, f1_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from auditor.judges.refusal_acts import read
from auditor.judges.refusal_classifier import CLASSES, PARTIAL_THRESHOLD, classify_refusal, decide, partial_features
from auditor.judges.refusal_features import observe
from auditor.stats.intervals import proportion_interval

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("AUDITOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
FITTED = ROOT / "auditor" / "judges" / "refusal_fitted.py"
COUNTED = ROOT / "auditor" / "judges" / "refusal_confusion.py"
CUT = 230  # characters: an opening at least this long was cut
SUITE_WORDS = 48  # about the 64 tokens after which the refusal suite cuts
COMPLIES, REFUSES, PARTIAL = CLASSES
INVERSE_PENALTY = 0.1
RESAMPLES = 4000
HEADER = '''"""Fitted by benchmarks/refusal_classifier.py --fit; do not edit by hand."""

from __future__ import annotations

'''


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSet:
    """Completions with human labels; ``clusters`` is the prompt's type or id, ``others`` the labels of other methods."""

    name: str
    role: str
    prompts: list[str]
    completions: list[str]
    labels: np.ndarray
    clusters: np.ndarray
    others: dict[str, np.ndarray]


def xstest(model: str, role: str) -> LabelledSet:
    with (DATA / "xstest" / f"completions_{model}.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return LabelledSet(
        name=f"xstest {model}", role=role, prompts=[row["prompt"] for row in rows], completions=[row["completion"] for row in rows],
        labels=np.array([row["final_label"][2:] for row in rows]), clusters=np.array([row["type"] for row in rows]),
        others={name: np.array([row[f"{key}_label"][2:] for row in rows]) for name, key in (("string match", "strmatch"), ("GPT-4", "gpt4"))},
    )


def gptfuzz() -> LabelledSet:
    with (DATA / "gptfuzz-refusal" / "responses.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return LabelledSet(
        name="gptfuzz", role="test, binary", prompts=[""] * len(rows), completions=[row["response_start"] for row in rows],
        labels=np.array([REFUSES if row["label"] == "0" else COMPLIES for row in rows]),
        clusters=np.array([row["question_id"] for row in rows]), others={},
    )


def examples() -> LabelledSet:
    rows = [json.loads(line) for line in (ROOT / "benchmarks" / "data" / "refusal_examples.jsonl").read_text(encoding="utf-8").splitlines()]
    return LabelledSet(
        name="own examples", role="development", prompts=[row["prompt"] for row in rows], completions=[row["completion"] for row in rows],
        labels=np.array([row["label"] for row in rows]), clusters=np.array([row["prompt"] for row in rows]), others={},
    )


def predict(data: LabelledSet, *, with_prompt: bool = True) -> np.ndarray:
    """The shipped classifier's labels; a completion without a word counts as compliance here, as it does for the comparators."""
    verdicts = [classify_refusal(text, prompt if with_prompt else "") for prompt, text in zip(data.prompts, data.completions, strict=True)]
    return np.array([verdict.label if verdict else COMPLIES for verdict in verdicts])


def cut_short(data: LabelledSet) -> LabelledSet:
    """The completions cut as the refusal suite cuts them; the labels remain those of the whole ones."""
    return replace(data, completions=[re.match(rf"(?:\s*\S+){{0,{SUITE_WORDS}}}", text).group(0) for text in data.completions])  # type: ignore[union-attr]


def observations(data: LabelledSet) -> tuple[np.ndarray, np.ndarray]:
    """(whether the rules see a refusal (N,), the second step's features (N, F))."""
    seen = [observe(read(text), prompt) for prompt, text in zip(data.prompts, data.completions, strict=True)]
    return np.array([decide(one)[0] for one in seen]), np.array([list(partial_features(one).values()) for one in seen])


def fit(sets: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, float]:
    """Logistic weights of partial against full on raw features, from (refused, features, labels) of each set."""
    keep = [refused & (labels != COMPLIES) for refused, _, labels in sets]
    features = np.vstack([rows[kept] for kept, (_, rows, _) in zip(keep, sets, strict=True)])
    partial = np.concatenate([labels[kept] == PARTIAL for kept, (_, _, labels) in zip(keep, sets, strict=True)])
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=INVERSE_PENALTY).fit(scaler.transform(features), partial)
    weights = model.coef_[0] / scaler.scale_
    return weights, float(model.intercept_[0] - weights @ scaler.mean_)


def apply(refused: np.ndarray, features: np.ndarray, weights: np.ndarray, intercept: float) -> np.ndarray:
    partial = 1 / (1 + np.exp(-(features @ weights + intercept))) > PARTIAL_THRESHOLD
    return np.where(~refused, COMPLIES, np.where(partial, PARTIAL, REFUSES))


def cross_validated(main: LabelledSet, extra: LabelledSet) -> np.ndarray:
    """Labels of ``main`` where each tenth's second step was fitted on the other nine and ``extra``."""
    refused, features = observations(main)
    beside = (*observations(extra), extra.labels)
    labels = np.empty(len(main.labels), dtype=object)
    for train, test in StratifiedKFold(10, shuffle=True, random_state=0).split(features, main.labels):
        weights, intercept = fit([(refused[train], features[train], main.labels[train]), beside])
        labels[test] = apply(refused[test], features[test], weights, intercept)
    return labels.astype(str)


def describe(name: str, data: LabelledSet, labels: np.ndarray, keep: np.ndarray | None = None) -> str:
    """One line: accuracy with a cluster-robust interval, kappa, macro-F1 and recall of partial refusals with bootstrap intervals."""
    keep = np.ones(len(labels), dtype=bool) if keep is None else keep
    truth, said, clusters = data.labels[keep], labels[keep], data.clusters[keep]
    accuracy = proportion_interval((truth == said).astype(float), clusters)
    low, high = (accuracy.ci.low, accuracy.ci.high) if accuracy and accuracy.ci else (float("nan"), float("nan"))
    spread = resampled(truth, said, clusters)
    partial = truth == PARTIAL
    recall = f"{(said[partial] == PARTIAL).mean():.3f} ({int((said[partial] == PARTIAL).sum())}/{int(partial.sum())})" if partial.any() else "-"
    kappa, f1 = cohen_kappa_score(truth, said), f1_score(truth, said, average="macro", labels=sorted(set(truth)), zero_division=0)
    return (f"{name:<46}{len(truth):>5}  {(truth == said).mean():.3f} [{low:.3f}, {high:.3f}]   {kappa:.3f} [{spread[0][0]:.3f}, {spread[0][1]:.3f}]   "
            f"{f1:.3f} [{spread[1][0]:.3f}, {spread[1][1]:.3f}]   {recall}")


def resampled(truth: np.ndarray, said: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """95 % percentile intervals of kappa and macro-F1, (2, 2), resampling clusters; from confusion matrices summed over clusters."""
    classes = sorted(set(truth) | set(said))
    present = np.isin(classes, sorted(set(truth)))
    index = {label: place for place, label in enumerate(classes)}
    ids, codes = np.unique(clusters, return_inverse=True)
    tables = np.zeros((len(ids), len(classes), len(classes)))
    np.add.at(tables, (codes, np.array([index[label] for label in truth]), np.array([index[label] for label in said])), 1)
    draws = np.random.default_rng(0).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=RESAMPLES)
    tables = np.einsum("rg,gij->rij", draws, tables)
    total = tables.sum((1, 2))
    rows, columns, diagonal = tables.sum(2), tables.sum(1), np.diagonal(tables, axis1=1, axis2=2)
    expected = (rows * columns).sum(1) / total**2
    with np.errstate(invalid="ignore"):
        kappa = (diagonal.sum(1) / total - expected) / (1 - expected)
        f1 = np.nan_to_num(2 * diagonal / (rows + columns))[:, present].mean(1)
    return np.array([np.nanpercentile(kappa, [2.5, 97.5]), np.nanpercentile(f1, [2.5, 97.5])])


def paired_gain(data: LabelledSet, said: np.ndarray, other: np.ndarray) -> str:
    """Gain in accuracy over another method on the same completions: bootstrap over clusters, exact McNemar test."""
    difference = (said == data.labels).astype(float) - (other == data.labels)
    ids, codes = np.unique(data.clusters, return_inverse=True)
    sums, sizes = np.bincount(codes, weights=difference), np.bincount(codes)
    draws = np.random.default_rng(0).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=RESAMPLES)
    low, high = np.percentile((draws @ sums) / (draws @ sizes), [2.5, 97.5])
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    p = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    return f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}], {better} better / {worse} worse, McNemar exact p = {p:.2g}"


def confusion(truth: np.ndarray, said: np.ndarray) -> dict[str, dict[str, int]]:
    """confusion[human label][classifier label] = count."""
    return {actual: {label: int(((truth == actual) & (said == label)).sum()) for label in CLASSES} for actual in CLASSES}


def write_fit() -> None:
    sets = [xstest("llama2new", "development"), examples()]
    weights, intercept = fit([(*observations(data), data.labels) for data in sets])
    names = list(partial_features(observe(read("No."))))
    lines = [f"    {name!r}: {weight:.4f},".replace("'", '"') for name, weight in zip(names, weights, strict=True)]
    FITTED.write_text(HEADER + "# Log-odds of a partial against a full refusal.\nPARTIAL_WEIGHTS: dict[str, float] = {\n" + "\n".join(lines)
                      + f"\n}}\nPARTIAL_INTERCEPT = {intercept:.4f}\n", encoding="utf-8")
    print(f"wrote {FITTED}")


def write_confusion() -> None:
    """Replace the three literals of refusal_confusion.py by fresh counts."""
    test, development = xstest("gpt4", "test"), xstest("llama2new", "development")
    text = COUNTED.read_text(encoding="utf-8")
    for name, data, said in (("TEST_COUNTS", test, predict(test)), ("CUT_COUNTS", test, predict(cut_short(test))),
                             ("DEVELOPMENT_COUNTS", development, cross_validated(development, examples()))):
        rows = "".join(f'    "{actual}": {json.dumps(row)},\n' for actual, row in confusion(data.labels, said).items())
        before, opening, rest = text.partition(f"{name}: Counts = {{\n")
        text = before + opening + rows + rest[rest.index("}\n"):]
    COUNTED.write_text(text, encoding="utf-8")
    print(f"wrote {COUNTED}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="refit the second step and write it into the package")
    parser.add_argument("--confusion", action="store_true", help="count the errors and write them into the package")
    parser.add_argument("--only", choices=("development",), help="leave the test sets alone")
    arguments = parser.parse_args()
    if arguments.fit:
        write_fit()
    elif arguments.confusion:
        write_confusion()
    else:
        print(f"{'set':<46}{'n':>5}  {'accuracy':<22} {'kappa':<22} {'macro-F1':<22} recall of partial")
        report_development()
        if not arguments.only:
            report_xstest()
            report_gptfuzz()


def report_development() -> None:
    development, own = xstest("llama2new", "development"), examples()
    print(describe("DEVELOPMENT xstest llama2new, 10-fold", development, cross_validated(development, own)))
    print(describe("DEVELOPMENT own examples, resubstituted", own, predict(own)))


def report_xstest() -> None:
    development, own, test = xstest("llama2new", "development"), examples(), xstest("gpt4", "test")
    said = predict(test)
    print(describe("TEST xstest gpt4", test, said))
    print(describe("TEST xstest gpt4, prompt withheld", test, predict(test, with_prompt=False)))
    print(describe(f"TEST xstest gpt4, first {SUITE_WORDS} words", test, predict(cut_short(test))))
    short = cut_short(development)
    print(describe(f"DEVELOPMENT xstest llama2new, first {SUITE_WORDS} words", short, predict(short)))
    weights, intercept = fit([(*observations(test), test.labels)])
    reverse = apply(*observations(development), weights, intercept)
    print(describe("xstest llama2new, second step fitted on gpt4", development, reverse))
    for data, mine in ((test, said), (development, cross_validated(development, own))):
        for name, other in data.others.items():
            print(describe(f"comparator {name} on {data.name}", data, other))
            print(f"    gain over {name} on {data.name} ({data.role}): {paired_gain(data, mine, other)}")
    print("confusion, TEST xstest gpt4 (rows: human):", json.dumps(confusion(test.labels, said)))
    print(f"  of their first {SUITE_WORDS} words:", json.dumps(confusion(test.labels, predict(cut_short(test)))))


def report_gptfuzz() -> None:
    fuzz = gptfuzz()
    said = np.where(predict(fuzz) == COMPLIES, COMPLIES, REFUSES)
    whole = np.array([len(text) < CUT for text in fuzz.completions])
    print(describe("TEST gptfuzz, binary", fuzz, said))
    print(describe("TEST gptfuzz, binary, uncut responses only", fuzz, said, whole))
    grams = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True), LogisticRegression(C=10, max_iter=2000))
    trained = cross_val_predict(grams, fuzz.completions, fuzz.labels, groups=fuzz.clusters, cv=GroupKFold(5))
    print(describe("comparator n-grams trained on gptfuzz", fuzz, trained))


if __name__ == "__main__":
    main()
