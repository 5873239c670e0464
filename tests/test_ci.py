"""The action and the snippets of docs/ci.md: valid YAML and TOML, real options, inputs that cannot become commands."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from auditor.cli import run
from auditor.compare.policy import read_policy

ROOT = Path(__file__).resolve().parents[1]
DOCS = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.S)


def options_of_compare(capsys) -> str:
    assert run(["compare", "--help"]) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def test_the_action_is_a_composite_one_with_what_it_names():
    assert ACTION["runs"]["using"] == "composite"
    script = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "gate")
    assert {"baseline", "candidates", "policy", "strict"} <= set(ACTION["inputs"])
    assert "${{" not in script["run"], "an input in the script could become a command"
    assert all(variable in script["run"] for variable in script["env"])
    used = re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text(encoding="utf-8"))
    assert set(used) == set(ACTION["inputs"])


def test_the_actions_script_runs(tmp_path, capsys):
    """In bash, with a stand-in for the auditor that writes down how it was called; the exit code is passed on."""
    script = next(step["run"] for step in ACTION["runs"]["steps"] if step.get("id") == "gate")
    (tmp_path / "auditor").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > called\necho "# gate" > alignment-gate/summary.md\nexit 4\n')
    (tmp_path / "auditor").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "BASELINE": "main $(touch hacked).duckdb", "CANDIDATES": "a.duckdb b.duckdb:latest\nc.duckdb\n",
                   "POLICY": "gate.toml", "DB": "auditor.duckdb", "STRICT": "True", "REDACT": "True",
                   "GITHUB_STEP_SUMMARY": "summary", "GITHUB_OUTPUT": "output"}
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    called = (tmp_path / "called").read_text().splitlines()
    assert called[-4:] == ["main $(touch hacked).duckdb", "a.duckdb", "b.duckdb:latest", "c.duckdb"], "a candidate that is left out is one that passes"
    assert {"--strict", "--redact"} <= set(called)
    assert not (tmp_path / "hacked").exists()
    assert (tmp_path / "summary").read_text() == "# gate\n"
    assert (tmp_path / "output").read_text() == "exit-code=4\n"
    known = options_of_compare(capsys)
    assert all(word in known for word in called if word.startswith("--") and word != "--")


@pytest.mark.parametrize("text", blocks("yaml"))
def test_the_snippets_are_yaml(text, capsys):
    found = yaml.safe_load(text)
    known = options_of_compare(capsys)
    assert all(option in known for option in re.findall(r"--[a-z]+", str(found)))
    for step in found.get("jobs", {}).get("gate", {}).get("steps", []):
        if step["uses"].startswith("OWNER/"):
            assert set(step["with"]) <= set(ACTION["inputs"])


def test_the_policy_of_the_docs_is_one(tmp_path):
    (text,) = blocks("toml")
    tomllib.loads(text)
    path = tmp_path / "gate.toml"
    path.write_text(text)
    assert len(read_policy(path).rules) == 2
