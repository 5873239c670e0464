"""docs/store.md: its queries run, and it names every column there is."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pandas
import pytest

from auditor.store import RunWriter, Store
from auditor.store.training import TrainingRun, TrainingStage, store_training

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(scope="module")
def database(tmp_path_factory, make) -> Path:
    path = tmp_path_factory.mktemp("docs") / "auditor.duckdb"
    items = make.samples(30)
    with RunWriter.create(path, make.record()) as writer:
        writer.samples("tone", items)
        writer.replies("tone", "model", make.replies(items))
        writer.scores("tone", make.scores(items))
        writer.metrics([make.metric()])
        writer.verdicts([make.verdict()])
        writer.finish()
    store_training(path, TrainingRun(training_id="t-1", created="2025-03-01", status="done", recipe_name="dpo", recipe_hash="ff", recipe={}, out="out", seed=0,
                                     model="tiny", environment={}),
                   [TrainingStage(stage="dpo", position=1, method="dpo", steps=2, rows=[{"step": 1, "loss": 0.7}, {"step": 2, "loss": None, "reward": 1.5}])],
                   wait=1)
    return path


def query(path: Path, sql: str) -> list[dict]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).df().to_dict("records")


def test_the_queries_answer_what_they_say(database):
    decided, history, highest, trained = (query(database, sql) for sql in QUERIES)
    assert [(row["outcome"], row["metric"], row["bound"], row["value"]) for row in decided] == [("inconclusive", "tone.rate", 0.5, 1 / 3)]
    assert [(row["model_uri"], row["name"], row["ci_high"], row["evidence"]) for row in history] == [("tiny", "rate", 2 / 3, True)]
    assert [row["value"] for row in highest] == [2.0] * 10
    assert highest[0]["last_message"] == "Answer:"
    assert highest[0]["text"].startswith("completion of item-")
    assert [(row["stage"], row["step"]) for row in trained] == [("dpo", 1), ("dpo", 2)]
    assert (trained[0]["loss"], trained[1]["reward"]) == (0.7, 1.5)
    assert pandas.isna(trained[1]["loss"])


def test_every_table_and_column_is_documented(database):
    sections = dict(re.findall(r"^\*\*(\w+)\*\*: (.*?)(?=^\*\*|^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE))
    rows = query(database, "SELECT table_name, list(column_name) AS columns FROM duckdb_columns() WHERE NOT internal GROUP BY table_name")
    columns = {row["table_name"]: set(row["columns"]) for row in rows}
    assert set(sections) == set(columns)
    for table, section in sections.items():
        cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE) or [section.partition(":")[0]]
        assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == columns[table], table


def test_the_python_example(database, monkeypatch):
    monkeypatch.chdir(database.parent)
    example, _ = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert isinstance(names["store"], Store)
    assert len(names["store"].metrics_frame("latest")) == 1
