"""Exported runs come back identical; what is no export, damaged, newer or hostile is refused, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import duckdb
import pyarrow.parquet
import pytest

from auditor.cli import run
from auditor.errors import InputError, StoreError
from auditor.schema import Generation, Request, Sample, Score, user
from auditor.store import RunWriter, Store
from auditor.store.chain import CHAINED
from auditor.store.database import connect
from auditor.store.exporting import export_json, export_parquet
from auditor.store.importing import import_run

HOSTILE = ["it's \"quoted\"; DROP TABLE run; --", "nul \x00 \x1f", "emoji 🤖 \u202e \u2028", "line\nbreak\r\n", ""]
FORMS = {"json": export_json, "parquet": export_parquet}


@pytest.fixture(scope="module")
def source(tmp_path_factory, make) -> Path:
    """A store with a finished run that holds every kind of row and hostile text."""
    path = tmp_path_factory.mktemp("source") / "audit.duckdb"
    items = make.samples(30)
    odd = [Sample(id=f"odd {text}", messages=(user(text),), cluster_id=text, target=text, metadata={"x": text}) for text in HOSTILE]
    requests = [Request(kind="generate", messages=sample.messages, suite="tone", sample_id=sample.id, seed=2**64 - 1) for sample in odd]
    with RunWriter.create(path, make.record()) as held:
        held.samples("tone", [*items, *odd])
        held.replies("tone", "model", [*make.replies(items), *make.options(items)])
        held.replies("tone", "model", [(request, Generation(sample_id=request.sample_id, text=text)) for request, text in zip(requests, HOSTILE, strict=True)])
        held.replies("tone", "judge", make.judgments(items))
        held.scores("tone", make.scores(items))
        held.scores("tone", [Score(sample_id=f"odd {text}", scorer="rate", value=value) for text, value in zip(HOSTILE, [-0.0, 5e-324, 0.1 + 0.2, 1e300, 1 / 3],
                                                                                                             strict=True)])
        held.metrics([make.metric(), make.metric("none", None, reason="not made")])
        held.verdicts([make.verdict()])
        held.finish()
    return path


@pytest.fixture(params=FORMS)
def exported(request, source, tmp_path) -> Path:
    """The run as files, in either form."""
    out = tmp_path / f"out.{request.param}"
    with connect(source, read_only=True) as connection:
        FORMS[request.param](connection, "run-1", out)
    return out


@pytest.fixture
def lines(source, tmp_path) -> Path:
    with connect(source, read_only=True) as connection:
        export_json(connection, "run-1", tmp_path / "run.jsonl")
    return tmp_path / "run.jsonl"


@pytest.fixture
def folder(source, tmp_path) -> Path:
    with connect(source, read_only=True) as connection:
        export_parquet(connection, "run-1", tmp_path / "run")
    return tmp_path / "run"


def contents(path: Path) -> dict:
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = [*(table.name for table in CHAINED), "chain"]
        return {name: sorted(map(repr, connection.execute(f"SELECT * {'EXCLUDE (journal_offset)' if name == 'run' else ''} FROM {name}").fetchall()))
                for name in tables}


def test_a_round_trip_is_identical(exported, source, db, tmp_path):
    found = import_run(db, exported)
    assert (found.new, found.head, found.rows) == (True, Store.open(source).head("run-1"), Store.open(source).verify("run-1").rows)
    assert contents(db) == contents(source)
    assert Store.open(db).verify("run-1", Store.open(source).head("run-1")).agrees
    assert Store.open(db).run("run-1").record == Store.open(source).run("run-1").record
    again = tmp_path / "again"
    with connect(db, read_only=True) as connection:
        export_json(connection, "run-1", again)
    assert not import_run(source, again).new


def test_a_run_beside_others_and_one_that_is_there(exported, db, make):
    RunWriter.create(db, make.record("run-0")).finish()
    before = Store.open(db).head("run-0")
    assert import_run(db, exported).new
    assert not import_run(db, exported).new
    assert [one.run_id for one in Store.open(db).runs()] == ["run-0", "run-1"]
    assert Store.open(db).head("run-0") == before


def test_another_run_of_the_same_name_is_left_as_it_is(exported, db, make):
    RunWriter.create(db, make.record()).finish()
    before = contents(db)
    with pytest.raises(InputError, match=r"has another run run-1 already \(head .*pass --db with another file"):
        import_run(db, exported)
    assert contents(db) == before


def test_the_lines_are_checked_by_a_few_lines_of_python(lines):
    """The recipe of docs/store.md."""
    recipe = re.search(r"```python\n(import hashlib.*?)```", (Path(__file__).resolve().parents[2] / "docs" / "store.md").read_text(encoding="utf-8"), re.DOTALL)
    assert recipe
    names: dict = {}
    exec(recipe[1].replace("run.jsonl", str(lines)), names)
    assert names["link"].hex() == names["head"] == json.loads(lines.read_text().split("\n")[0])["head"]
    assert names["hashlib"] is hashlib


def refused(db, path, words) -> None:
    with pytest.raises(InputError, match=words):
        import_run(db, path)
    assert not db.exists() or Store.open(db).runs() == []


@pytest.mark.parametrize(("pattern", "new", "words"), [
    (r'"value":2\.0', '"value":2.5', r"changed score tone · item-11 · 0 · rate"),
    (r'completion of item-7', "completion of item-8", r"changed generation tone · item-7"),
    (r'"seed":0,', '"seed":1,', r"changed generation"),
    (r'\["[0-9a-f]{64}","score",[^\n]*"item-9"[^\n]*\n', "", r"changed score tone · odd .*; 34 rows of score instead of 35"),
    (r'(\["[0-9a-f]{64}","score",[^\n]*"item-9"[^\n]*\n)', r"\1\1", r"added score tone · item-9|36 rows of score"),
    (r'\["[0-9a-f]{64}","run",[^\n]*\n', "", r"the row of run run-1 is missing"),
    (r'"run_id":"run-1","sample_id":"item-4"', '"run_id":"run-0","sample_id":"item-4"', r"rows of another run than run-1"),
    (r'"position":3', '"position":"3"', r"changed sample|of the wrong kind"),
    (r'"position":3', '"position":"x"', r":2: here, or in one of the .* a value is of the wrong kind"),
    (r'"choices":"\[', '"choices":"{', r"a value of the table sample is of the wrong kind"),
    (r'"cluster_id":"topic-0"', '"cluster":"topic-0"', r":2: the line is no row of a run"),
    (r'"score",\{', '"sql",{', r"the line is no row of a run"),
    (r'\n\["[0-9a-f]{64}"', '\n["xyz"', r":2: the line is no row of a run"),
    (r'\n\["', '\n{"', r":2: the line is no JSON"),
    (r'\\"suites\\":', '\\"sweets\\":', r"the specification of the run cannot be read|changed run"),
    (r'"schema": \d+', '"schema": 99', r"from a store of schema version 99; this auditor knows .*upgrade auditor"),
    (r'"version": 1', '"version": 2', r"an export of version 2"),
    (r'"run_id": "run-1"', '"run_id": "../run"', r"what it says about itself is not whole"),
    (r'"head": "[0-9a-f]{4}', '"head": "0000', r"the head is "),
    (r'"format": "auditor-run"', '"format": "x"', r"is no export of auditor"),
])
def test_damaged_lines_are_refused_and_named(lines, db, pattern, new, words):
    text = lines.read_text(encoding="utf-8")
    altered, n = re.subn(pattern, new, text, count=1)
    assert n == 1
    assert altered != text
    lines.write_text(altered, encoding="utf-8", newline="\n")
    refused(db, lines, words)


def test_two_lines_that_exchanged_their_places(lines, db):
    text = lines.read_text(encoding="utf-8").split("\n")
    places = [k for k, line in enumerate(text) if '"score"' in line[:80]][3:5]
    text[places[0]], text[places[1]] = text[places[1]], text[places[0]]
    lines.write_text("\n".join(text), encoding="utf-8", newline="\n")
    refused(db, lines, "its hash chain does not hold: changed score")


@pytest.mark.parametrize("column", [{"status": "running"}, {"packages": "[]"}, {"hardware": "5"}])
def test_a_chain_that_someone_built_over_a_run_that_is_none(lines, db, column):
    """Whoever writes an export can build a chain that holds; what is imported must still be a finished run."""
    head, *rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").split("\n") if line]
    rows[-1][2].update(column)
    link, written = hashlib.sha256(b"auditor chain 1").digest(), []
    for _, table, row in rows:
        text = json.dumps([table, row], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        link = hashlib.sha256(link + hashlib.sha256(text.encode()).digest()).digest()
        written.append(f'["{link.hex()}",{text[1:]}')
    lines.write_text("\n".join([json.dumps({**head, "head": link.hex()}), *written]) + "\n", encoding="utf-8")
    refused(db, lines, "its record is of another form")


@pytest.mark.parametrize("content", [b"", b"\n", b"not json", b"\xff\xfe", b"[]\n", b"null\n", b"[" * 100_000, b'{"format": "auditor-run"}\n'])
def test_files_that_are_no_export(tmp_path, db, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    refused(db, path, "no export|damaged|upgrade|no JSON")


def change(path: Path, column: str, values) -> None:
    table = pyarrow.parquet.read_table(path)
    place = table.column_names.index(column)
    pyarrow.parquet.write_table(table.set_column(place, column, pyarrow.array(values(table[column].to_pylist()))), path)


def test_damaged_parquet_files_are_refused_and_named(folder, db):
    change(folder / "score.parquet", "value", lambda values: [*values[:-1], values[-1] + 1 if values[-1] else 1.0])
    refused(db, folder, "its hash chain does not hold: changed score tone · odd ")


@pytest.mark.parametrize(("damage", "words"), [
    (lambda folder: (folder / "score.parquet").write_bytes(b"PAR1 nothing"), "score.parquet is damaged or no Parquet file"),
    (lambda folder: (folder / "score.parquet").unlink(), "dropped score tone"),
    (lambda folder: (folder / "run.parquet").unlink(), "the row of run run-1 is missing"),
    (lambda folder: (folder / "chain.parquet").unlink(), "its hash chain does not hold"),
    (lambda folder: (folder / "manifest.json").unlink(), "is no export of auditor"),
    (lambda folder: change(folder / "sample.parquet", "run_id", lambda values: ["run-0", *values[1:]]), "rows of another run than run-1"),
    (lambda folder: change(folder / "sample.parquet", "position", lambda values: ["x"] * len(values)), "is damaged or no Parquet file"),
])
def test_a_folder_that_is_not_whole(folder, db, damage, words):
    damage(folder)
    refused(db, folder, words)


@pytest.mark.parametrize("name", ["score.parquet", "manifest.json"])
def test_nothing_outside_the_folder_is_read(folder, db, tmp_path, name):
    """Not even a file that would do."""
    outside = tmp_path / "outside"
    os.replace(folder / name, outside)
    (folder / name).symlink_to(outside)
    refused(db, folder, rf"{name} is no regular file: an export holds none but such, and nothing outside its folder is read")


def test_what_cannot_be_exported(source, tmp_path, make):
    with connect(source, read_only=True) as connection:
        (tmp_path / "there").touch()
        with pytest.raises(InputError, match="there exists already: nothing is replaced"):
            export_json(connection, "run-1", tmp_path / "there")
        with pytest.raises(InputError, match="cannot write /proc/run.jsonl"):
            export_json(connection, "run-1", Path("/proc/run.jsonl"))
    own = tmp_path / "own.duckdb"
    RunWriter.create(own, make.record()).close()
    with connect(own, read_only=True) as connection, pytest.raises(InputError, match="run-1 is not sealed: only a run that is done"):
        export_json(connection, "run-1", tmp_path / "x")
    RunWriter.create(own, make.record("run-2")).finish()
    with duckdb.connect(str(own)) as connection:
        connection.execute("UPDATE run SET finished = 'never' WHERE run_id = 'run-2'")
    with connect(own, read_only=True) as connection, pytest.raises(StoreError, match="run-2 does not agree with its hash chain, so it is not exported"):
        export_parquet(connection, "run-2", tmp_path / "x")
    assert not list(tmp_path.glob("*x*"))


def test_the_commands(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["export", "latest", "--db", str(source)]) == 0
    assert run(["import", "run-1.jsonl", "--db", "other.duckdb"]) == 0
    assert "rows imported into other.duckdb; the hash chain holds" in capsys.readouterr().out
    assert run(["export", "latest", "--to", "parquet", "--db", "other.duckdb", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]["sample"] == 35
    assert run(["import", "run-1", "--db", str(source)]) == 0
    assert "already, with the same head: nothing to do" in capsys.readouterr().out
    for arguments, words in ((["export", "latest", "--to", "csv"], "unknown --to 'csv'"), (["export", "nothing"], "unknown run 'nothing'"),
                             (["import", "absent"], "cannot read absent"), (["export", "latest", "--to", "parquet"], "exists already")):
        assert run([*arguments, "--db", str(source)]) == 2
        assert words in capsys.readouterr().err
