"""Tampering with a finished run through a plain DuckDB connection, and what is found."""

from __future__ import annotations

import hashlib

import duckdb
import pytest

from auditor.errors import StoreError
from auditor.schema import Score
from auditor.store import RunWriter, Store, moved, verify
from auditor.store.chain import CHAINED, GENESIS, extend, read_rows
from auditor.store.database import connect

N = 40


@pytest.fixture(scope="module")
def sealed(tmp_path_factory, make):
    """A finished run and its head; the file as bytes, since each test makes its own copy worse."""
    path = tmp_path_factory.mktemp("sealed") / "audit.duckdb"
    items = make.samples(N)
    with RunWriter.create(path, make.record()) as held:
        held.samples("tone", items)
        held.replies("tone", "model", make.replies(items))
        held.scores("tone", [Score(sample_id=item.id, scorer="rate", value=k / 7, answer=f"answer {k}") for k, item in enumerate(items)])
        held.metrics([make.metric(), make.metric("other", 0.25)])
        held.verdicts([make.verdict()])
        held.finish()
    return path.read_bytes(), Store.open(path).head("run-1")


@pytest.fixture
def tampered(sealed, db):
    """``tampered(sql, …)``: what verify says of a copy in which these statements were executed."""
    def check(*statements: str, head: str | None = None) -> verify.Verification:
        db.parent.mkdir(exist_ok=True)
        db.write_bytes(sealed[0])
        with duckdb.connect(str(db)) as connection:
            for statement in statements:
                connection.execute(statement)
        return Store.open(db).verify("run-1", head)
    return check


def found(one: verify.Verification) -> list[tuple]:
    assert not one.agrees
    assert sum(one.counts.values()) >= len(one.differences)
    return [(difference.kind, difference.table, *difference.key) for difference in one.differences]


@pytest.mark.parametrize(("statement", "row"), [
    ("UPDATE score SET value = value + 1e-15 WHERE sample_id = 'item-7'", ("score", "tone", "item-7", 0, "rate", 0, 0)),
    ("UPDATE score SET answer = 'answer 71' WHERE sample_id = 'item-7'", ("score", "tone", "item-7", 0, "rate", 0, 0)),
    ("UPDATE score SET value = NULL WHERE sample_id = 'item-7'", ("score", "tone", "item-7", 0, "rate", 0, 0)),
    ("UPDATE score SET value = 'nan' WHERE sample_id = 'item-7'", ("score", "tone", "item-7", 0, "rate", 0, 0)),
    ("UPDATE metric SET value = 0.26 WHERE name = 'other'", ("metric", "tone", "other", "all")),
    ("UPDATE metric SET n_unscored = 0 WHERE name = 'other'", ("metric", "tone", "other", "all")),
    ("UPDATE verdict SET outcome = 'pass'", ("verdict", "tone", "tone.rate", "all")),
    ("UPDATE generation SET text = replace(text, 'item-3', 'item-4') WHERE sample_id = 'item-3'", ("generation", "tone", "item-3", 0, 0, 0)),
    ("UPDATE generation SET seed = seed - 1 WHERE sample_id = 'item-39'", ("generation", "tone", "item-39", 0, 0, 0)),
    ("UPDATE sample SET metadata = '{\"task\":\"stance\",\"order\":[9,1]}' WHERE sample_id = 'item-0'", ("sample", "tone", "item-0")),
    ("UPDATE run SET spec = replace(spec::VARCHAR, '\"seed\":0', '\"seed\":1')::JSON", ("run", "run-1")),
    ("UPDATE run SET evidence = NOT evidence", ("run", "run-1")),
    ("UPDATE run SET finished = '2025-01-01T00:00:00+00:00'", ("run", "run-1")),
])
def test_a_changed_value_is_found_and_its_row_named(tampered, statement, row):
    one = tampered(statement)
    assert found(one) == [("changed", *row)]
    assert (one.counts, one.chain) == ({"changed": 1}, ())


def test_untouched_and_bookkeeping(tampered, sealed):
    assert tampered(head=sealed[1]).agrees
    assert tampered("UPDATE run SET journal_offset = 7").agrees
    assert tampered("CREATE TABLE t AS SELECT * FROM score; DELETE FROM score; INSERT INTO score SELECT * FROM t ORDER BY random()").agrees


@pytest.mark.parametrize("place", [0, 17, N - 1])
def test_a_dropped_row(tampered, place):
    one = tampered(f"DELETE FROM score WHERE sample_id = 'item-{place}'")
    assert (found(one), one.counts) == ([("dropped", "score", "tone", f"item-{place}", 0, "rate", 0, 0)], {"dropped": 1})


def test_an_added_row_and_one_that_is_there_twice(tampered):
    one = tampered("INSERT INTO score SELECT * REPLACE ('item-100' AS sample_id) FROM score WHERE sample_id = 'item-3'",
                   "INSERT INTO generation SELECT * FROM generation WHERE sample_id = 'item-5'")
    assert found(one) == [("added", "generation", "tone", "item-5", 0, 0, 0), ("added", "score", "tone", "item-100", 0, "rate", 0, 0)]


def test_a_whole_table_is_gone(tampered):
    one = tampered("DELETE FROM generation", "DELETE FROM metric WHERE name = 'rate'")
    assert one.counts == {"dropped": N + 1}
    assert len(one.differences) == verify.LISTED
    assert one.rows["score"] == N


def test_two_samples_that_exchanged_their_places(tampered):
    one = tampered("UPDATE sample SET position = 12 - position WHERE position IN (3, 9)")
    assert found(one) == [("moved", "sample", "tone", "item-3"), ("moved", "sample", "tone", "item-9")]
    assert [difference.detail for difference in one.differences] == ["at place 9 of its suite, sealed at place 3", "at place 3 of its suite, sealed at place 9"]


EXCHANGE = "UPDATE {table} SET sample_id = CASE sample_id WHEN 'item-3' THEN 'item-9' ELSE 'item-3' END WHERE sample_id IN ('item-3', 'item-9')"


@pytest.mark.parametrize("table", ["score", "generation"])
def test_two_rows_that_exchanged_their_samples(tampered, table):
    one = tampered(EXCHANGE.format(table=table))
    assert [(kind, name, sample) for kind, name, _, sample, *_ in found(one)] == [("moved", table, "item-3"), ("moved", table, "item-9")]
    assert "holds what was sealed as [\"tone\",\"item-9\",0" in one.differences[0].detail
    assert one.counts == {"moved": 2}


def test_two_samples_that_exchanged_one_value(tampered):
    one = tampered("UPDATE score SET value = CASE sample_id WHEN 'item-3' THEN 9 / 7 ELSE 3 / 7 END WHERE sample_id IN ('item-3', 'item-9')")
    assert [(kind, sample) for kind, _, _, sample, *_ in found(one)] == [("changed", "item-3"), ("changed", "item-9")]


def test_a_renamed_row_was_dropped_and_added(tampered):
    one = tampered("UPDATE score SET sample_id = 'item-4b' WHERE sample_id = 'item-4'")
    assert sorted(found(one)) == [("added", "score", "tone", "item-4b", 0, "rate", 0, 0), ("dropped", "score", "tone", "item-4", 0, "rate", 0, 0)]


def test_many_findings_are_counted_and_the_first_are_named(tampered, monkeypatch):
    monkeypatch.setattr(moved, "EXAMINED", 25)
    one = tampered("UPDATE score SET value = value + 1", "UPDATE sample SET target = 'x'")
    assert one.counts == {"changed": 2 * N}
    assert len(one.differences) == 20


@pytest.mark.parametrize(("statement", "words"), [
    ("DELETE FROM chain WHERE position = 5", "1 places of the chain are missing or stand twice, the first before place 6"),
    ("UPDATE chain SET position = 6 WHERE position = 5", "places of the chain are missing or stand twice"),
    ("UPDATE chain SET table_name = 'x' WHERE position = 5", "1 places of the chain name a table that it does not cover"),
    ("UPDATE run SET head = NULL", "the run's head is gone"),
    ("UPDATE run SET head = repeat('0', 64)", "but the run's head is 0000"),
    ("DELETE FROM chain WHERE position = (SELECT max(position) FROM chain)", "its end or the head was altered"),
    ("DELETE FROM chain", "the chain ends with nothing"),
])
def test_an_altered_chain(tampered, statement, words):
    assert words in "; ".join(tampered(statement).chain)


@pytest.mark.parametrize("change", ["link = 'no link'::BLOB", "row_key = 'not json'", "row_key = '[\"tone\"]'", "row_key = ''"])
def test_altered_links_and_names_are_found(tampered, change):
    assert not tampered(f"UPDATE chain SET {change} WHERE position = 5").agrees


def rebuild(path) -> str:
    """What a tamperer with this source can do: hash the rows as they stand now, and store links and head."""
    link, links = GENESIS, []
    with connect(path, read_only=True) as connection:
        for table in CHAINED:
            for rows in read_rows(connection, "run-1", table):
                links += extend(link, [hashlib.sha256(text.encode()).digest() for text in rows.texts])
                link = links[-1]
    with duckdb.connect(str(path)) as connection:
        connection.executemany("UPDATE chain SET link = ? WHERE position = ?", [[one, place] for place, one in enumerate(links)])
        connection.execute("UPDATE run SET head = ?", [link.hex()])
    return link.hex()


def test_a_rebuilt_chain_is_found_only_with_a_head_kept_elsewhere(tampered, sealed, db):
    tampered("UPDATE score SET value = 0 WHERE sample_id = 'item-7'")
    rebuilt = rebuild(db)
    alone = Store.open(db).verify("run-1")
    assert alone.agrees
    assert alone.expected is None
    held = Store.open(db).verify("run-1", sealed[1])
    assert not held.agrees
    assert held.counts == {}
    assert f"the head is {rebuilt}, not {sealed[1]}: rows were altered and the chain rebuilt" in held.chain[0]


def test_a_partly_rebuilt_chain_breaks_where_the_rebuilding_ends(tampered, sealed, db):
    """One row and its link altered alike: the next row's link does not follow any more."""
    tampered("UPDATE score SET value = 0 WHERE sample_id = 'item-10'")
    before = {place: bytes(link) for place, link in duckdb.connect(str(db)).execute("SELECT position, link FROM chain").fetchall()}
    rebuild(db)
    with duckdb.connect(str(db)) as connection:
        (place,) = connection.execute("SELECT position FROM chain WHERE table_name = 'score' AND row_key LIKE '%\"item-10\"%'").fetchall()[0]
        connection.executemany("UPDATE chain SET link = ? WHERE position = ?", [[link, at] for at, link in before.items() if at > place])
        connection.execute("UPDATE run SET head = ?", [sealed[1]])
    assert found(Store.open(db).verify("run-1")) == [("changed", "score", "tone", "item-11", 0, "rate", 0, 0)]


def test_a_hostile_head_is_only_text(tampered):
    """What `auditor verify` prints of it is neutralised there; here it must not pass for a head."""
    one = tampered("UPDATE run SET head = chr(27) || '[2Jagrees'")
    assert "but the run's head is \x1b[2Jagrees" in one.chain[0]


def test_an_altered_key_of_any_form_is_a_finding(tampered):
    assert ("dropped", "sample") in {one[:2] for one in found(tampered("UPDATE chain SET row_key = repeat('[', 200000) WHERE position = 3"))}


@pytest.mark.parametrize("statement", [
    "ALTER TABLE score DROP COLUMN explanation", "DROP TABLE score", "DROP TABLE chain",
    "ALTER TABLE chain ALTER COLUMN link DROP NOT NULL; UPDATE chain SET link = NULL WHERE position = (SELECT max(position) FROM chain)",
    "ALTER TABLE chain ALTER COLUMN position DROP NOT NULL; UPDATE chain SET position = NULL WHERE position = 4",
])
def test_tables_of_another_form_are_no_run_and_no_fault_of_ours(tampered, statement):
    with pytest.raises(StoreError, match="altered beyond their form"):
        tampered(*statement.split("; "))
