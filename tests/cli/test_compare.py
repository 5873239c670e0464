"""`auditor compare` and `auditor init` as a user meets them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from auditor.cli import run

pytestmark = pytest.mark.cli
SAFE = "refusal.over_refusal_safe"
POLICY = f'[[criterion]]\nmetric = "{SAFE}"\nmargin = 0.2\nwhy = "users"\n'


@pytest.fixture(scope="module")
def made():
    """The makers of runs beside the tests of the comparison itself."""
    spec = importlib.util.spec_from_file_location("compare_makers", Path(__file__).resolve().parents[1] / "compare" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare_makers"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(made, tmp_path_factory):
    """Databases of a baseline, of a candidate that is the same, of a worse one, of one with another seed; a policy."""
    folder = tmp_path_factory.mktemp("compare")
    runs = {"main": ([0.0] * 80, made.SPEC), "same": ([0.0] * 80, made.SPEC), "worse": ([1.0] * 80, made.SPEC),
            "seed": ([0.0] * 80, replace(made.SPEC, seed=9))}
    for name, (refused, spec) in runs.items():
        made.write_run(folder / f"{name}.duckdb", made.Made(refused=refused, spec=spec, run_id=f"run-{name}"))
    made.write_run(folder / "auditor.duckdb", made.Made(refused=[0.0] * 80, run_id="run-1"))
    made.write_run(folder / "auditor.duckdb", made.Made(refused=[1.0] * 80, run_id="run-2"))
    (folder / "gate.toml").write_text(POLICY)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("NO_COLOR", "1")
    return place


def auditor(*arguments, cwd):
    done = subprocess.run([sys.executable, "-m", "auditor", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "NO_COLOR": "1"})
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def test_as_a_process(place):
    done = auditor("compare", "main.duckdb", "worse.duckdb:run-worse", "--policy", "gate.toml", cwd=place)
    assert (done.returncode, done.stderr) == (1, "")
    assert "The gate FAILS: of 1 required criterion 1 fails." in done.stdout
    assert "Changed most, worse" in done.stdout
    refused = auditor("compare", "main.duckdb", "seed.duckdb", cwd=place)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "seed: 3 in the baseline, 9 in the candidate" in refused.stderr


@pytest.mark.parametrize(("arguments", "code"), [
    (("main.duckdb", "same.duckdb", "--policy", "gate.toml", "--strict"), 0),
    (("main.duckdb", "same.duckdb"), 4),  # the house margin of 5 points is too narrow for 40 pairs
    (("main.duckdb", "worse.duckdb"), 1),
    (("run-1", "latest", "--policy", "gate.toml"), 1),
    (("main.duckdb", "same.duckdb", "worse.duckdb", "--policy", "gate.toml"), 1),
])
def test_exit_codes(here, capsys, arguments, code):
    assert run(["compare", *arguments]) == code
    assert "The gate" in capsys.readouterr().out


def test_json_and_nothing_else(here, capsys):
    assert run(["compare", "main.duckdb", "worse.duckdb", "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 1
    assert found["letters"] == {"run-main": "A", "run-worse": "B"}


def test_files_by_their_endings(here, capsys, tmp_path):
    names = ("a.txt", "a.md", "a.json", "a.xml", "a.html")
    assert run(["compare", "main.duckdb", "worse.duckdb", "--redact", *(word for name in names for word in ("-o", str(tmp_path / name)))]) == 1
    assert capsys.readouterr().out.startswith("The gate FAILS")
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    assert [text[:5] for text in texts] == ["A: ru", "## Th", '{\n "h', "<?xml", "<!doc"]
    assert not any("reply 1" in text for text in texts)
    assert run(["compare", "main.duckdb", "worse.duckdb", "--format", "junit", "-o", str(tmp_path / "results")]) == 1
    assert (tmp_path / "results").read_text().startswith("<?xml")


@pytest.mark.parametrize(("arguments", "words"), [
    (("main.duckdb",), "at least one candidate"),
    (("main.duckdb", "absent.duckdb"), "no such database file"),
    (("main.duckdb:nobody", "same.duckdb"), "unknown run 'nobody'"),
    (("nobody", "same.duckdb"), "unknown run 'nobody'"),
    (("main.duckdb", "main.duckdb"), "are the same run"),
    (("main.duckdb", "same.duckdb", "--format", "yaml"), "unknown --format 'yaml'"),
    (("main.duckdb", "same.duckdb", "-o", "a.pdf"), "its ending says no format"),
    (("main.duckdb", "same.duckdb", "--suite", "refusl"), "did you mean 'refusal'?"),
    (("main.duckdb", "same.duckdb", "--suite", "verbosity"), "no suite in common"),
    (("main.duckdb", "same.duckdb", "--policy", "absent.toml"), "`auditor init absent.toml` writes one"),
    (("main.duckdb", "same.duckdb", "--db", "absent.duckdb", "--bogus"), "No such option"),
])
def test_bad_input_exits_2_and_says_what_to_do(here, capsys, arguments, words):
    assert run(["compare", *arguments]) == 2
    printed, errors = capsys.readouterr()
    assert words in " ".join(errors.split())
    assert printed == ""


@pytest.mark.parametrize(("text", "words"), [
    (POLICY.replace("over_refusal", "over_refusl"), "did you mean 'refusal.over_refusal_safe'?"),
    (POLICY + "margn = 1\n", "did you mean 'margin'?"),
    ("[[criterion]\n", "no valid TOML"),
    (POLICY.replace('why = "users"', ""), "why is missing"),
])
def test_a_bad_policy(here, capsys, tmp_path, text, words):
    (tmp_path / "bad.toml").write_text(text)
    assert run(["compare", "main.duckdb", "same.duckdb", "--policy", str(tmp_path / "bad.toml")]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_store_from_a_newer_version(here, capsys, tmp_path, made):
    db = made.write_run(tmp_path / "newer.duckdb", made.Made(refused=[0.0] * 12))
    with duckdb.connect(str(db)) as connection:
        (table,) = connection.execute("SELECT table_name FROM information_schema.columns WHERE column_name = 'version'").fetchone()
        connection.execute(f"UPDATE {table} SET version = 99")
    before = db.read_bytes()
    assert run(["compare", "main.duckdb", str(db)]) == 3
    assert "newer" in capsys.readouterr().err
    assert db.read_bytes() == before


def test_init_writes_a_policy_and_never_replaces_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    assert "auditor compare BASELINE CANDIDATE --policy gate.toml" in capsys.readouterr().out
    text = (tmp_path / "gate.toml").read_text()
    assert text.count("[[criterion]]") > 15
    (tmp_path / "gate.toml").write_text("mine")
    assert run(["init", "gate.toml"]) == 2
    assert "exists and is left as it is" in capsys.readouterr().err
    assert (tmp_path / "gate.toml").read_text() == "mine"
    assert run(["init", "absent/gate.toml"]) == 2
