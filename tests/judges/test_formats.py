"""Readers of labelled pairs: small files with every trap, and the real public files where they are at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import DataError, InputError
from auditor.judges.formats import TULU_COLUMNS, load_pairs
from auditor.judges.labels import read_label
from auditor.schema import Sample

PAIR = {"id": "p1", "prompt": "Name a fruit.", "a": "Apple", "b": "Chair", "humans": {"ann": "a", "bob": "Answer A", "cy": "tie"}}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def tulu_row(**changed: str) -> dict[str, str]:
    row = {"instance_id": "t1", "prompt": "Greet me.", "model_a": "big", "model_b": "small", "completion_a": "Hello!"}
    return {**row, "completion_b": "Bye.", "preference": "a-is-better", "evaluator": "ann", "timestamp": "2023-05-01 10:00:00", **changed}


def tulu(path: Path, *rows: dict[str, str]) -> Path:
    import csv

    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [*TULU_COLUMNS, "timestamp"])
        writer.writeheader()
        writer.writerows(rows)
    return path


# -- ours -------------------------------------------------------------------------------------------------------------


def test_a_pair_with_all_fields(tmp_path: Path) -> None:
    row = {**PAIR, "judges": {"J": {"ab": "a", "ba": 0.25}}, "authors": {"a": "m1", "b": "m2"}, "group": {"kind": "food", "language": "en"}}
    [sample] = load_pairs(jsonl(tmp_path / "x.jsonl", row))
    assert sample.choices == ("Apple", "Chair")
    assert sample.target == "a"
    assert sample.messages[0].content == "Name a fruit."
    assert sample.metadata["humans"] == {"ann": "a", "bob": "a", "cy": "tie"}
    assert sample.metadata["judges"] == {"J": {"ab": "a", "ba": 0.25}}
    assert sample.metadata["authors"] == {"a": "m1", "b": "m2"}
    assert sample.metadata["task"] == "food"
    assert sample.metadata["group"]["language"] == "en"


def test_items_with_one_prompt_share_a_cluster(tmp_path: Path) -> None:
    changes: list[dict[str, str]] = [{}, {"b": "Table"}, {"prompt": "Name a pet."}, {"cluster_id": "mine"}]
    rows = [{**PAIR, "id": f"p{i}", **change} for i, change in enumerate(changes)]
    clusters = [sample.cluster_id for sample in load_pairs(jsonl(tmp_path / "x.jsonl", *rows))]
    assert clusters[0] == clusters[1] != clusters[2]
    assert clusters[3] == "mine"


def test_messages_in_place_of_a_prompt(tmp_path: Path) -> None:
    row = {key: value for key, value in PAIR.items() if key != "prompt"}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "A fruit?"}]
    [sample] = load_pairs(jsonl(tmp_path / "x.jsonl", {**row, "messages": turns}))
    assert [message.role for message in sample.messages] == ["user", "assistant", "user"]


def test_unlabelled_rows_stay_and_have_no_target(tmp_path: Path) -> None:
    bare = {key: PAIR[key] for key in ("prompt", "a", "b")}
    rows = [{**bare, "id": "p1", "humans": {}}, {**bare, "id": "p2", "humans": {"ann": "", "bob": None}}, {**bare, "id": "p3"}]
    samples = load_pairs(jsonl(tmp_path / "x.jsonl", *rows))
    assert [sample.target for sample in samples] == [None] * 3
    assert all(sample.metadata["humans"] == {} for sample in samples)


def test_repeated_rows_are_kept_once_and_counted(tmp_path: Path) -> None:
    [sample] = load_pairs(jsonl(tmp_path / "x.jsonl", PAIR, PAIR, "", PAIR))
    assert sample.metadata["duplicates"] == 2


@pytest.mark.parametrize(("row", "line", "message"), [
    ({**PAIR, "b": "Lamp"}, 2, "stands on line 1 already"),
    ({**PAIR, "id": "p2", "humans": {"ann": "the red one"}}, 2, "human label 'the red one'"),
    ({**PAIR, "id": "p2", "humans": ["a"]}, 2, "field 'humans'"),
    ({**PAIR, "id": "p2", "a": 7}, 2, "field 'a' is 7"),
    ({**PAIR, "id": "p2", "prompt": None}, 2, "missing field 'prompt'"),
    ({**PAIR, "id": "p2", "judges": {"J": "a"}}, 2, "judge 'J' has 'a'"),
    ({**PAIR, "id": "p2", "judges": {"J": {"first": "a"}}}, 2, "'ab' and 'ba'"),
    ({"id": "p2", "prompt": "x", "a": "y"}, 2, "missing field 'b'"),
    ("[1, 2]", 2, "a JSON list"),
    ("{oops", 2, "not JSON"),
])
def test_bad_rows_name_their_line(tmp_path: Path, row: Any, line: int, message: str) -> None:
    path = jsonl(tmp_path / "x.jsonl", PAIR, row)
    with pytest.raises(DataError) as raised:
        load_pairs(path)
    assert f"x.jsonl:{line}: " in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize(("name", "text", "message"), [
    ("none.jsonl", None, "cannot read"),
    ("empty.jsonl", "", "holds no items"),
    ("empty.json", "[]", "holds no items"),
    ("object.json", '{"question": "?"}', "pass a pairs JSONL file"),
    ("broken.json", '[{"input": "x",', "not JSON"),
    ("other.csv", "question,answer\nx,y\n", "no column 'instance_id'"),
    ("empty.csv", ",".join(TULU_COLUMNS) + "\n", "holds no rows"),
    ("latin.jsonl", b"\xff\xfe\x00", "cannot read"),
])
def test_files_of_no_known_format(tmp_path: Path, name: str, text: str | bytes | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message) as raised:
        load_pairs(path)
    assert name in str(raised.value)


# -- LLMBar -----------------------------------------------------------------------------------------------------------

BAR = {"input": "Say hi.", "output_1": "Hi", "output_2": "No", "label": 1}


def test_llmbar_rows(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps([BAR, {**BAR, "input": "Say bye.", "label": 2}, BAR, {**BAR, "input": "Say no.", "label": None}]))
    samples = load_pairs(path)
    assert [sample.target for sample in samples] == ["a", "b", None]
    assert [sample.metadata["duplicates"] for sample in samples] == [1, 0, 0]


@pytest.mark.parametrize(("row", "message"), [
    ({**BAR, "label": 3}, "label 3"),
    ({"input": "x", "output_1": "y"}, "missing field 'output_2'"),
    ("text", "a JSON str"),
])
def test_bad_llmbar_rows_name_their_row(tmp_path: Path, row: Any, message: str) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps([BAR, row]))
    with pytest.raises(DataError, match=f"row 1 .*{message}"):
        load_pairs(path)


def test_recorded_llmbar_judges(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps([BAR, {**BAR, "input": "Say bye."}]))
    path = tmp_path / "evaluators.json"
    path.write_text(json.dumps({"J/Plain": {"verdicts": [{"i": 1, "label": 1, "noswap": "1", "swap": None}]}}))
    samples = load_pairs(path)
    assert [sample.metadata["judges"] for sample in samples] == [{}, {"J/Plain": {"ab": "1", "ba": None}}]
    path.write_text(json.dumps({"J": {"verdicts": [{"i": 9, "noswap": "1", "swap": "1"}]}}))
    with pytest.raises(DataError, match="judge 'J', verdict 0"):
        load_pairs(path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"dataset\.json"):
        load_pairs(path)


# -- Tulu -------------------------------------------------------------------------------------------------------------


def test_tulu_annotators_are_joined_and_turned_to_one_order(tmp_path: Path) -> None:
    swapped = {"model_a": "small", "model_b": "big", "completion_a": "Bye.", "completion_b": "Hello!"}
    [sample] = load_pairs(tulu(tmp_path / "a.csv", tulu_row(), tulu_row(evaluator="bob", preference="b-is-slightly-better", **swapped),
                               tulu_row(evaluator="cy", preference="tie")))
    assert sample.metadata["humans"] == {"ann": "a", "bob": "a", "cy": "tie"}
    assert sample.target == "a"
    assert sample.choices == ("Hello!", "Bye.")
    assert sample.metadata["authors"] == {"a": "big", "b": "small"}
    assert sample.metadata["group"] == {"models": "big vs small", "margin": "slight"}


def test_a_tulu_annotators_last_word_counts(tmp_path: Path) -> None:
    later = tulu_row(preference="b-is-better", timestamp="2023-06-01 10:00:00")
    [sample] = load_pairs(tulu(tmp_path / "a.csv", later, tulu_row()))
    assert sample.metadata["humans"] == {"ann": "b"}
    assert sample.metadata["duplicates"] == 1


def test_tulu_rows_without_a_label(tmp_path: Path) -> None:
    [sample] = load_pairs(tulu(tmp_path / "a.csv", tulu_row(preference="")))
    assert sample.target is None
    assert sample.metadata["group"]["margin"] == "unlabelled"


def test_bad_tulu_rows_name_their_line(tmp_path: Path) -> None:
    path = tulu(tmp_path / "a.csv", tulu_row(prompt="two\nlines"), tulu_row(evaluator="bob", preference="best"))
    with pytest.raises(DataError, match=r"a\.csv:4: preference 'best'"):
        load_pairs(path)
    path.write_text(",".join(TULU_COLUMNS) + "\nonly,three,cells\n")
    with pytest.raises(DataError, match=r"a\.csv:2: a row with fewer columns"):
        load_pairs(path)


# -- the real files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("subset", "n", "first"), [
    ("Natural", 100, 42), ("Adversarial_Neighbor", 134, 75), ("Adversarial_GPTInst", 92, 45),
])
def test_real_llmbar(subset: str, n: int, first: int, shared_data: Path) -> None:
    samples = load_pairs(shared_data / "llmbar" / subset / "dataset.json")
    assert len(samples) == n
    assert Counter(sample.target for sample in samples) == {"a": first, "b": n - first}


@pytest.mark.parametrize("subset", ["Natural", "Adversarial_Neighbor", "Adversarial_GPTInst"])
def test_published_counts_follow_from_the_recorded_verdicts(subset: str, shared_data: Path) -> None:
    """All 30 judges: right with output_1 first, right with output_2 first, right in both orders, and the same in both orders."""
    path = shared_data / "llmbar" / subset / "evaluators.json"
    samples = load_pairs(path)
    fields = ("correct_False", "correct_True", "correct_both", "equal")
    for name, entry in json.loads(path.read_text()).items():
        published = [int(entry["statistics"][field].split("/")[0]) for field in fields]
        assert recount(samples, name) == published, name


def recount(samples: list[Sample], judge: str) -> list[int]:
    rows = [(sample.metadata["judges"][judge], sample.target) for sample in samples]
    read = [(read_label(orders["ab"]), read_label(orders["ba"]), target) for orders, target in rows]
    # Their "equal" counts two missing verdicts as the same one.
    return [sum(ab == t for ab, _, t in read), sum(ba == t for _, ba, t in read), sum(ab == ba == t for ab, ba, t in read),
            sum(ab == ba for ab, ba, _ in read)]


def test_real_tulu(shared_data: Path) -> None:
    samples = load_pairs(shared_data / "tulu-human-eval" / "annotations.csv")
    raters = Counter(len(sample.metadata["humans"]) for sample in samples)
    assert len(samples) == 996
    assert raters == {1: 875, 2: 97, 3: 24}
    assert len({rater for sample in samples for rater in sample.metadata["humans"]}) == 16
    assert sum(sample.metadata["duplicates"] for sample in samples) == 1150 - sum(count * n for n, count in raters.items())
