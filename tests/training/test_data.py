"""Training data: every shape reads into the same items, every fault of a file is named with its line."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging

import pyarrow
import pyarrow.parquet
import pytest

from auditor.errors import DataError, InputError
from auditor.schema import Message
from auditor.training.data import data_hash, load_demonstrations, load_preferences, load_prompts, load_unpaired, split
from auditor.training.hub import choose
from auditor.training.sources import Options


@pytest.fixture
def write(tmp_path):
    def write(rows, name="pairs.jsonl"):
        path = tmp_path / name
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)
    return write


def pair(number=1, **fields):
    return {"id": f"p{number}", "cluster_id": f"c{number // 2}", "prompt": f"Question {number}?", "chosen": f"Good {number}", "rejected": f"Bad {number}",
            **fields}


def turn(role, content):
    return {"role": role, "content": content}


ASKED = (Message(role="user", content="Is tea hot?"),)
DIALOGUE = [turn("user", "Is tea hot?")]
SHAPES = {
    "pairs": {"prompt": "Is tea hot?", "chosen": "Often.", "rejected": "No."},
    "pairs of messages": {"prompt": DIALOGUE, "chosen": "Often.", "rejected": "No."},
    "conversational": {"chosen": [*DIALOGUE, turn("assistant", "Often.")], "rejected": [*DIALOGUE, turn("assistant", "No.")]},
    "conversational with a prompt": {"prompt": DIALOGUE, "chosen": [turn("assistant", "Often.")], "rejected": [turn("assistant", "No.")]},
    "hh": {"chosen": "\n\nHuman: Is tea hot?\n\nAssistant: Often.", "rejected": "\n\nHuman: Is tea hot?\n\nAssistant: No."},
    "ratings": {"instruction": "Is tea hot?", "completions": [{"response": "No.", "overall_score": 1}, {"response": "Hm.", "overall_score": 3.5},
                                                             {"response": "Often.", "overall_score": 4}]},
    "tree": {"message_tree_id": "t", "prompt": {"role": "prompter", "text": "Is tea hot?", "replies": [
        {"role": "assistant", "text": "No.", "rank": 1, "replies": []}, {"role": "assistant", "text": "Often.", "rank": 0, "replies": []},
        {"role": "assistant", "text": "?", "rank": None, "replies": []}, {"role": "assistant", "text": "!", "rank": 2, "deleted": True}]}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_pair_reads_alike(shape, write):
    (found,) = load_preferences(write([SHAPES[shape]]))
    assert (found.prompt, found.chosen, found.rejected, found.label) == (ASKED, "Often.", "No.", 1.0)
    assert found.margin == {"ratings": 3.0, "tree": 1.0}.get(shape, 0.0)
    assert load_preferences(write([SHAPES[shape]]) + "?format=" + shape.split()[0]) == [found]


def test_a_tree_gives_all_ranked_pairs_of_every_turn_in_one_cluster(write):
    replies = [{"role": "assistant", "text": text, "rank": rank, "replies": []} for rank, text in enumerate("abc")]
    deeper = [{"role": "prompter", "text": "And then?", "replies": [{"role": "assistant", "text": text, "rank": rank} for rank, text in enumerate("de")]}]
    replies[1]["replies"] = deeper
    found = load_preferences(write([{"message_tree_id": "t", "prompt": {"role": "prompter", "text": "Say.", "replies": replies}}]))
    assert [(item.chosen, item.rejected, item.margin) for item in found] == [("a", "b", 1), ("a", "c", 2), ("b", "c", 1), ("d", "e", 1)]
    assert [message.content for message in found[-1].prompt] == ["Say.", "b", "And then?"]
    assert {item.cluster_id for item in found} == {"t"}


def test_several_turns_are_kept_with_their_roles(write):
    shared = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Tea?\n\nAssistant: "
    (found,) = load_preferences(write([{"chosen": shared + "Yes", "rejected": shared + "No"}]))
    assert [(message.role, message.content) for message in found.prompt] == [("user", "Hi"), ("assistant", "Hello"), ("user", "Tea?")]


def test_demonstrations_and_unpaired_rows(write):
    rows = [{"prompt": "Is tea hot?", "completion": "Often."}, {"prompt": DIALOGUE, "completion": [turn("assistant", "Often.")]}]
    assert [(item.prompt, item.completion) for item in load_demonstrations(write(rows))] == [(ASKED, "Often.")] * 2
    (found,) = load_demonstrations(write([{"messages": [*DIALOGUE, turn("assistant", "Often.")]}]))
    assert (found.prompt, found.completion) == (ASKED, "Often.")
    marked = write([{"prompt": "Is tea hot?", "completion": "Often.", "label": True}, {"prompt": "Is tea hot?", "completion": "No.", "label": False}])
    assert [(item.completion, item.desirable) for item in load_unpaired(marked)] == [("Often.", True), ("No.", False)]
    assert [item.completion for item in load_demonstrations(marked)] == ["Often."]
    assert [item.prompt for item in load_prompts(marked)] == [ASKED]  # the same prompt is kept once


def test_parts_share_no_topic_and_are_all_there_is(write):
    rows = [pair(n, cluster_id=f"c{n // 3}") for n in range(90)]
    thirds = [load_preferences(write(rows) + f"?part={part}/3") for part in (1, 2, 3)]
    assert sorted(item.id for third in thirds for item in third) == sorted(item.id for item in load_preferences(write(rows)))
    topics = [{item.cluster_id for item in third} for third in thirds]
    assert sum(map(len, topics)) == 30 == len(set.union(*topics))
    assert min(map(len, topics)) > 3
    # The rows beside a topic do not move it, nor is a part the one that is held out to measure on.
    assert load_preferences(write(rows[:45]) + "?part=2/3") == [item for item in thirds[1] if item in load_preferences(write(rows[:45]))]
    mixed = write([pair(n, cluster_id=f"c{n}", kind="xy"[n % 2]) for n in range(20)])
    assert load_preferences(mixed + "?kind=x&part=1/2") == [item for item in load_preferences(mixed + "?part=1/2") if item.metadata["kind"] == "x"]
    hashes = [int(hashlib.sha256(f"part:c{n}".encode()).hexdigest()[:14], 16) for n in range(8)]
    assert [Options(part=(1, 2)).keeps(f"c{n}", {}) for n in range(8)] == [digest % 2 == 0 for digest in hashes]
    assert load_preferences("shipped:preferences?part=10/12")
    halves = [load_preferences(f"shipped:preferences?part={part}/2") for part in (1, 2)]
    for half in halves:
        assert 0.1 < len(split(half, 0.2, 0)[1]) / len(half) < 0.35


def test_pairs_serve_every_loader_and_the_options(write):
    path = write([pair(1, kind="tone", side="x"), pair(2, kind="tone"), pair(3, kind="facts")])
    assert [item.completion for item in load_demonstrations(path)] == ["Good 1", "Good 2", "Good 3"]
    assert [item.completion for item in load_demonstrations(path + "?field=rejected&kind=facts")] == ["Bad 3"]
    assert [(item.completion, item.desirable) for item in load_unpaired(path + "?side=x")] == [("Good 1", True), ("Bad 1", False)]
    (swapped,) = load_preferences(path + "?kind=facts&swap=1")
    assert (swapped.chosen, swapped.rejected, swapped.label) == ("Bad 3", "Good 3", 1.0)
    assert [item.completion for item in load_demonstrations(path + "?swap=1&kind=facts")] == ["Bad 3"]
    assert [item.id for item in load_preferences(path + "?kind=tone,facts")] == ["p1", "p2", "p3"]
    assert [item.prompt[0].content for item in load_prompts(path)] == ["Question 1?", "Question 2?", "Question 3?"]


def test_soft_labels_margins_and_other_fields_are_kept(write):
    found = load_preferences(write([pair(1, label=0.7, margin=2, labeller="me", rationale="because", kind="tone"), pair(2)]))[0]
    assert (found.label, found.margin, found.labeller, found.rationale, found.metadata) == (0.7, 2.0, "me", "because", {"kind": "tone"})


def test_gzip_and_parquet_read_as_jsonl_does(write, tmp_path):
    rows = [pair(number, prompt=DIALOGUE, label=0.5 + number / 10) for number in range(1, 4)]
    plain = load_preferences(write(rows))
    assert load_preferences(write(rows, "pairs.jsonl.gz")) == plain
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    assert load_preferences(str(tmp_path / "pairs.parquet")) == plain
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**rows[0], "chosen": " "}]), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"bad\.parquet:1: 'chosen' is empty"):
        load_preferences(str(tmp_path / "bad.parquet"))


BAD = [
    ("{", r"2: not JSON"), ("[1]", r"2: a JSON list, where an object is expected"),
    ({"prompt": "a", "chosen": "b"}, r"2: missing field 'rejected'; the row has prompt, chosen"),
    (pair(chosen=3), r"2: 'chosen' is 3, where a string"), (pair(chosen="  "), r"2: 'chosen' is empty"),
    (pair(prompt=7), r"2: 'prompt' is 7, where a string or a list"), (pair(prompt=[]), r"2: 'prompt' is \[\]"),
    (pair(prompt=[{"role": "robot", "content": "x"}]), r"2: message 1 of 'prompt' is .*robot"),
    (pair(prompt=[turn("user", "")]), r"2: message 1 of 'prompt' is empty"),
    (pair(prompt=[turn("user", "a"), turn("assistant", "b")]), r"2: the prompt ends with a message of role 'assistant'"),
    (pair(chosen="same", rejected="same "), r"2: chosen and rejected are the same text \('same'\)"),
    (pair(label=1.2), r"2: 'label' is 1.2, where a number from 0 to 1"),
    (pair(label=True), r"2: 'label' is True"), (pair(margin="big"), r"2: 'margin' is 'big'"), (pair(margin=float("nan")), r"2: 'margin' is nan"),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_row_is_named_with_its_line(row, message, write):
    with pytest.raises(InputError, match=message) as raised:
        load_preferences(write([pair(9), row]))
    assert raised.value.exit_code == 2
    assert "pairs.jsonl" in str(raised.value)


BAD_SHAPES = [
    ({"text": "x"}, "fields text are of no known format; known: pairs"),
    ({"chosen": [*DIALOGUE, turn("assistant", "a")], "rejected": [turn("user", "Other"), turn("assistant", "b")]}, "differ before their last message"),
    ({"chosen": DIALOGUE, "rejected": DIALOGUE}, "ends with a message of role 'user'"),
    ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "c"}, "'rejected' begins 'c'"),
    ({"instruction": "a", "completions": [{"response": "b", "overall_score": 1}]}, "at least two"),
    ({"instruction": "a", "completions": [{"response": "b", "overall_score": 1}, {"response": "c"}]}, "no 'overall_score'"),
    ({"prompt": {"role": "bot", "text": "a"}}, "'role' is 'bot'"),
    ({"prompt": "a", "completion": "b"}, "holds no preference pairs"),
]


@pytest.mark.parametrize(("row", "message"), BAD_SHAPES, ids=[message for _, message in BAD_SHAPES])
def test_a_bad_row_of_another_shape_is_named_too(row, message, write):
    with pytest.raises(InputError, match=message):
        load_preferences(write([row]))


@pytest.mark.parametrize(("rows", "message"), [
    ([], "holds no items"),
    ([pair(1), pair(1)], "two rows have the id 'p1'"),
    ([pair(1, label=0), pair(2, label=0)], r"every label is below 0.5 \(highest 0\)"),
    ([pair(1, label=0.5), pair(2, label=0.5)], "every label is 0.5"),
    ([pair(1, chosen="Yes."), pair(2, chosen="Yes.")], "all 2 pairs share one chosen text"),
])
def test_a_set_that_teaches_nothing_is_refused(rows, message, write):
    with pytest.raises(InputError, match=message):
        load_preferences(write(rows))


def test_other_one_sided_sets_and_bad_marks(write):
    with pytest.raises(InputError, match="all 1 replies are undesirable"):
        load_unpaired(write([{"prompt": "a", "completion": "b", "label": False}]))
    with pytest.raises(InputError, match="holds no demonstrations"):
        load_demonstrations(write([{"prompt": "a", "completion": "b", "label": False}]))
    with pytest.raises(DataError, match=":1: the label is 1, where true"):
        load_unpaired(write([{"prompt": "a", "completion": "b", "label": 1}]))
    with pytest.raises(DataError, match=":1: 'completion' is empty"):
        load_demonstrations(write([{"prompt": "a", "completion": ""}]))


@pytest.mark.parametrize(("source", "message"), [
    ("absent.jsonl", "No such file"), ("absent.txt", "no data source 'absent.txt'; pass shipped:NAME"), ("shipped:preference", "did you mean 'preferences'"),
    ("shipped:preferences?knid=refusal", "unknown option of a data source 'knid': did you mean 'kind'"),
    ("shipped:preferences?swap=yes", "swap=yes; write swap=1"),
    ("shipped:preferences?part=1/2&part=2/2", "part stands twice; write it once"),
    *((f"shipped:preferences?part={part}", f"part={part}; write part=1/2 for the first of two parts") for part in ("3/2", "0/2", "1", "1/0", "a/b", "٢/٣", "")),
    ("shipped:preferences?field=label", "write field=chosen or field=rejected"), ("shipped:preferences?format=csv", "unknown format 'csv'"),
    ("shipped:preferences?kind=none", "holds no preference pairs"), ("hf:not a name", "is no hub id"),
])
def test_a_bad_source_is_named(source, message):
    with pytest.raises(InputError, match=message):
        load_preferences(source)


def test_bad_rows_can_be_left_out_and_are_counted(write, caplog):
    path = write([pair(1), pair(2, rejected=" "), pair(3)])
    with caplog.at_level(logging.WARNING):
        assert [item.id for item in load_preferences(path + "?skip=1")] == ["p1", "p3"]
    assert "left out 1 of 3 rows" in caplog.text
    assert ":2: 'rejected' is empty" in caplog.text


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="the hub cannot be reached for 'nobody/nothing-of-this-name'") as raised:
        load_preferences("hf:nobody/nothing-of-this-name:train")
    assert "\n" not in str(raised.value)


def test_files_of_a_hub_split():
    converted = ["README.md", "default/train/0001.parquet", "default/train/0000.parquet", "default/test/0000.parquet"]
    assert choose(converted, "train", "", "o/n") == ["default/train/0000.parquet", "default/train/0001.parquet"]
    assert choose(["data/train_prefs-00000-of-00001.parquet", "data/train_sft-00000-of-00001.parquet"], "train_prefs", "", "o/n") == [
        "data/train_prefs-00000-of-00001.parquet"]
    two = ["big/partial-train/0000.parquet", "small/train/0000.parquet"]
    assert choose(two, "train", "big", "o/n") == [two[0]]
    for files, chosen, message in ((two, ("train", ""), "several configs; add .config= and one of big, small"), ([], ("train", ""), "no Parquet files"),
                                   (two, ("test", "big"), "unknown split"), (two, ("train", "bag"), "unknown config")):
        with pytest.raises(InputError, match=message):
            choose(files, *chosen, "o/n")


def test_split_is_by_cluster_and_does_not_depend_on_place_or_on_other_rows(write):
    items = load_preferences(write([pair(number) for number in range(1, 401)]))
    train, held = split(items, 0.25, seed=1)
    assert not {item.cluster_id for item in train} & {item.cluster_id for item in held}
    assert sorted(item.id for item in train + held) == sorted(item.id for item in items)
    assert 0.15 < len(held) / len(items) < 0.35
    _, again_held = split(items[::-1], 0.25, seed=1)
    assert {item.id for item in again_held} == {item.id for item in held}
    _, fewer = split(items[:200], 0.25, seed=1)
    assert {item.id for item in fewer} == {item.id for item in held} & {item.id for item in items[:200]}
    assert {item.id for item in split(items, 0.25, seed=2)[1]} != {item.id for item in held}


def test_split_of_few_clusters(write):
    items = load_preferences(write([pair(1), pair(2), pair(4)]))
    train, held = split(items, 0.01)
    assert train
    assert len({item.cluster_id for item in held}) == 1
    for share, of, message in ((0.0, items, "a held-out share of 0.0"), (1.5, items, "share of 1.5"), (0.5, items[:1], "nothing to train on"),
                               (0.5, [], "nothing to train on")):
        with pytest.raises(InputError, match=message):
            split(of, share)


def test_limit_draws_by_seed_and_keeps_the_order(write):
    path = write([pair(number) for number in range(1, 101)])
    items = load_preferences(path)
    few, other = load_preferences(path, limit=10), load_preferences(path, limit=10, seed=1)
    assert len(few) == len(other) == 10
    assert few != other
    assert few == [item for item in items if item in few]
    assert few == [item for item in load_preferences(path, limit=20) if item in few]
    with pytest.raises(InputError, match="a limit of 0"):
        load_preferences(path, limit=0)


def test_hash_sees_every_field_and_the_order(write):
    items = load_preferences(write([pair(1), pair(2)]))
    changed = [load_preferences(write([pair(1, **change), pair(2)])) for change in ({"label": 0.9}, {"chosen": "x"}, {"kind": "k"}, {"prompt": "y"})]
    hashes = {data_hash(found) for found in (items, items[::-1], *changed)}
    assert len(hashes) == 6
    assert data_hash(load_preferences(write([pair(1), pair(2)]))) == data_hash(items)


def test_rows_without_a_cluster_fall_together_by_their_prompt(write):
    rows = [{"prompt": prompt, "chosen": chosen, "rejected": "no"} for prompt, chosen in (("a", "b"), ("a", "c"), ("d", "e"))]
    one, two, three = load_preferences(write(rows))
    assert one.cluster_id == two.cluster_id != three.cluster_id
    assert len({one.id, two.id, three.id}) == 3


@pytest.mark.parametrize(("source", "read", "left_out"), [
    ("hh-rlhf/harmless_base_test_half.jsonl.gz", 1176, "5 of 1181"),
    ("oasst-trees/en_trees.jsonl", 414, ""), ("tulu-human-eval/annotations.csv", 961, "35 of 996"),
], ids=["hh", "oasst", "tulu"])
def test_public_files(source, read, left_out, shared_data, caplog):
    items = load_preferences(f"{shared_data / source}?skip=1")
    assert len(items) == read
    assert (left_out in caplog.text) if left_out else not caplog.text
    for item in items:
        assert item.prompt[-1].role == "user"
        assert item.chosen.strip() != item.rejected.strip()
        assert 0.5 <= item.label <= 1
    train, held = split(items, 0.1)
    assert len(train) > len(held) > 0


def test_tree_ranks_against_the_file_itself(shared_data):
    """Each pair's chosen reply has the lower rank in the raw tree."""
    path = shared_data / "oasst-trees" / "en_trees.jsonl"
    ranks: dict[str, set[int]] = {}

    def walk(node):
        if node.get("rank") is not None:
            ranks.setdefault(node["text"], set()).add(node["rank"])
        for reply in node["replies"]:
            walk(reply)
    for line in path.read_text(encoding="utf-8").splitlines():
        walk(json.loads(line)["prompt"])
    for item in load_preferences(str(path)):
        assert any(worse - better == item.margin for better in ranks[item.chosen] for worse in ranks[item.rejected])
