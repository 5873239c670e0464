"""The command line as a user meets it: a subprocess, its exit code and what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditor.cli import run

pytestmark = pytest.mark.cli
SUITE = ("--suite", "sycophancy")


def auditor(*arguments, cwd, **environment):
    done = subprocess.run([sys.executable, "-m", "auditor", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "NO_COLOR": "1", **environment})
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def shown(cwd, run="latest", *more):
    return json.loads(auditor("show", run, "--format", "json", *more, cwd=cwd).stdout)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The test's own folder as the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


@pytest.fixture(scope="module")
def audited(tiny_checkpoint, tmp_path_factory):
    """A folder with one finished run of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("audited")
    done = auditor("run", tiny_checkpoint, *SUITE, "--limit", 12, "--format", "json", cwd=folder)
    assert done.returncode in (0, 1, 4), done.stderr
    return folder, json.loads(done.stdout)


def test_run_prints_the_object_that_show_prints(audited):
    folder, printed = audited
    assert set(printed) >= {"run_id", "model", "status", "spec", "environment", "metrics", "verdicts"}
    assert printed["status"] == "done"
    assert printed == shown(folder)
    metric = printed["metrics"][0]
    assert set(metric) >= {"suite", "name", "group", "value", "ci", "n", "n_clusters", "n_unscored"}
    assert set(metric["ci"]) == {"low", "high", "level", "method"}
    assert printed["evidence"] is False


def test_show_samples(audited):
    folder, printed = audited
    rows = shown(folder, printed["run_id"], "--samples")["samples"]
    assert len({row["sample_id"] for row in rows}) == 11  # the twelfth needs a judge, and without one has no score
    assert set(rows[0]) >= {"sample_id", "prompt", "completion", "answer", "value", "status"}
    assert "NOT EVIDENCE" in auditor("show", "latest", "--samples", cwd=folder).stdout


def test_runs_lists_it(audited):
    folder, printed = audited
    assert [run["run_id"] for run in json.loads(auditor("runs", "--format", "json", cwd=folder).stdout)["runs"]] == [printed["run_id"]]
    assert printed["run_id"] in auditor("runs", cwd=folder).stdout


def test_report_is_written(audited):
    folder, printed = audited
    done = auditor("report", "latest", "-o", "page.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert printed["run_id"] in (folder / "page.html").read_text()


def test_the_same_run_again_gives_the_same_numbers(audited, tiny_checkpoint):
    folder, printed = audited
    again = json.loads(auditor("run", tiny_checkpoint, *SUITE, "--limit", 12, "--format", "json", "--db", "again.duckdb", cwd=folder).stdout)
    assert again["metrics"] == printed["metrics"]
    assert again["spec"]["hash"] == printed["spec"]["hash"]


def test_help_and_suites(tmp_path):
    assert "Audit a language model" in auditor("--help", cwd=tmp_path).stdout
    assert "recorded:FILE.jsonl" in auditor("run", "--help", cwd=tmp_path).stdout
    listed = json.loads(auditor("suites", "--format", "json", cwd=tmp_path).stdout)["suites"]
    assert {suite["name"] for suite in listed} >= {"judge_agreement", "sycophancy", "verbosity", "refusal", "confidence", "diversity"}
    assert all(suite["items"] >= 200 and suite["clusters"] >= 50 for suite in listed)
    assert all(criterion["rationale"] and criterion["source"] for suite in listed for criterion in suite["criteria"])


def test_version_and_doctor(tmp_path):
    assert auditor("--version", cwd=tmp_path).stdout.startswith("auditor 0.")
    checks = json.loads(auditor("doctor", "--format", "json", cwd=tmp_path).stdout)["checks"]
    assert {check["name"] for check in checks} >= {"packages", "embedded model", "embeddings", "cache", "memory"}
    assert "the processor is used, in float32; it" in next(check["found"] for check in checks if check["name"] == "accelerator")


@pytest.mark.parametrize(("arguments", "words"), [
    (("run",), "no model given"),
    (("run", "nowhere"), "no model at 'nowhere'"),
    (("run", "smollm2", "--suite", "sycofancy"), "did you mean 'sycophancy'?"),
    (("run", "smollm2", "--profile", "slow"), "unknown profile 'slow'"),
    (("run", "smollm2", "--limit", "0"), "leaves no items"),
    (("run", "smollm2", "--format", "yaml"), "unknown --format 'yaml'"),
    (("run", "smollm2", "--items", "refusal"), "write SUITE=FILE"),
    (("run", "smollm2", *SUITE, "--items", "refusal=x.jsonl"), "not part of this run"),
    (("run", "smollm2", *SUITE, "--items", "sycophancy=absent.jsonl"), "cannot read"),
    (("run", "smollm2", "--system", "absent.txt"), "cannot be read"),
    (("run", "smollm2", "--bogus"), "No such option"),
    (("run", "recorded:absent.jsonl"), "cannot read"),
    (("run", "smollm2", *SUITE, "--embedder", "./nope"), "it is neither a folder nor a hub id"),
    (("show", "latest"), "does not exist"),
    (("runs",), "does not exist"),
    (("suites", "nope"), "unknown suite 'nope'"),
    (("suites", "--prompts", "x.jsonl"), "needs a suite"),
])
def test_bad_input_exits_2_and_says_what_to_do(here, capsys, arguments, words):
    """In this process: what main() adds is the exit, which the other tests see."""
    assert run(list(arguments)) == 2
    printed, errors = capsys.readouterr()
    assert words in " ".join(errors.split())
    assert printed == ""
    assert not list(here.glob("*.duckdb"))


def test_bad_input_as_a_process(tmp_path):
    done = auditor("run", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no model at 'nowhere'")


@pytest.mark.parametrize(("text", "words"), [("", "holds no items"), ('{"id": "x"\n', ":1: not JSON"), ('\n["x"]\n', ":2: a JSON list"),
                                             ('{"id": "x"}\n', ":1: ")])
def test_malformed_items_name_the_line(here, capsys, text, words):
    (here / "items.jsonl").write_text(text)
    assert run(["run", "smollm2", *SUITE, "--items", "sycophancy=items.jsonl"]) == 2
    assert words in capsys.readouterr().err


def test_unknown_run_names_the_known(audited):
    folder, printed = audited
    done = auditor("show", "20990101-000000-ffff", cwd=folder)
    assert done.returncode == 2
    assert printed["run_id"] in done.stderr


def test_resume_of_a_finished_run(audited):
    folder, _ = audited
    done = auditor("run", "--resume", "latest", cwd=folder)
    assert done.returncode == 2
    assert "is done" in done.stderr


def test_a_foreign_file_as_database(tmp_path, tiny_checkpoint):
    (tmp_path / "auditor.duckdb").write_text("these are my notes")
    done = auditor("run", tiny_checkpoint, *SUITE, "--limit", 2, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "auditor.duckdb").read_text() == "these are my notes"


def test_recorded_replies_need_no_model(tmp_path):
    prompts = auditor("suites", "sycophancy", "--prompts", "prompts.jsonl", cwd=tmp_path)
    assert prompts.returncode == 0, prompts.stderr
    assert prompts.stdout == ""
    assert "first-turn prompts" in prompts.stderr
    assert "cannot be written beforehand" in prompts.stderr
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    answered = [{**row, "logprobs": {option: -1.8 - index for index, option in enumerate(row["options"])}} for row in rows if row["kind"] == "logprobs"]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answered)))
    done = auditor("run", "recorded:answers.jsonl", *SUITE, "--format", "json", cwd=tmp_path)
    printed = json.loads(done.stdout)
    found = {metric["name"]: metric for metric in printed["metrics"] if metric["group"] == "all"}
    assert found["stance_flip"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["stance_flip"]["n_unscored"] == 0
    assert printed["environment"]["hardware"]["cores"] >= 1
    assert "threads" not in printed["environment"]["hardware"]  # torch's; such a run has no need of torch, which takes seconds to load


def test_with_format_json_standard_output_holds_nothing_else(tmp_path):
    done = auditor("suites", "sycophancy", "--prompts", "prompts.jsonl", "--format", "json", cwd=tmp_path)
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    found = json.loads(done.stdout)
    assert (found["suite"], found["prompts"], found["turns"]) == ("sycophancy", len(lines), [0])
    assert {json.loads(line)["turn"] for line in lines} == {0}


def test_nothing_decided_exits_4(tmp_path):
    (tmp_path / "empty.jsonl").write_text('{"sample_id": "nobody", "completion": "x"}\n')
    done = auditor("run", "recorded:empty.jsonl", *SUITE, "--limit", 5, "--format", "json", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    found = json.loads(done.stdout)
    assert {verdict["outcome"] for verdict in found["verdicts"]} == {"not_assessed"}
    assert all(metric["value"] is None for metric in found["metrics"])


def start(cwd, *arguments):
    process = subprocess.Popen([sys.executable, "-m", "auditor", *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        journals = list(Path(cwd).glob("*.journal/*.jsonl"))
        if journals and sum('"generation"' in line for line in journals[0].read_text(errors="replace").splitlines()) >= 3:
            return process
        time.sleep(0.02)
    raise AssertionError(f"no batch was recorded: {process.communicate()}")


@pytest.fixture(scope="module")
def whole(tiny_checkpoint, tmp_path_factory):
    """An audit of two suites that nothing interrupted: its arguments, what it printed, and its samples."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = ("run", tiny_checkpoint, *SUITE, "--suite", "confidence", "--limit", 40, "--batch-size", 4, "--format", "json")
    printed = json.loads(auditor(*arguments, cwd=folder).stdout)
    return arguments, printed, shown(folder, "latest", "--samples")["samples"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_and_resumed_equals_uninterrupted(tmp_path, whole, how):
    arguments, expected, samples = whole
    process = start(tmp_path, *arguments)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "auditor run --resume" in errors
    assert "interrupted" in auditor("runs", cwd=tmp_path).stdout
    done = auditor("run", "--resume", "latest", "--format", "json", cwd=tmp_path)
    assert done.returncode in (0, 1, 4), done.stderr
    resumed = json.loads(done.stdout)
    assert resumed["metrics"] == expected["metrics"]
    assert resumed["verdicts"] == expected["verdicts"]
    assert shown(tmp_path, "latest", "--samples")["samples"] == samples


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.9, 1.5, 2.5])
def test_an_interrupt_before_anything_is_recorded_is_one_line(tmp_path, tiny_checkpoint, seconds):
    """Wherever it falls: while the product, typer, torch or the suites are being imported, or the model loaded."""
    marked = f"import sys; print('on', flush=True); sys.argv = ['auditor', 'run', {str(tiny_checkpoint)!r}]; import auditor.cli; auditor.cli.main()"
    process = subprocess.Popen([sys.executable, "-c", marked], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "on\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == ""
    assert errors == "interrupted\n" or "go on with `auditor run --resume" in errors


@pytest.mark.parametrize(("times", "ending", "expected"), [(1, "print('whole', flush=True)", "whole\n"), (2, "print('whole', flush=True)", ""),
                                                           *[(1, f"time.sleep({wait}); raise ImportError('broken')", "") for wait in (0, 0.005, 0.01, 0.015)]])
def test_an_interrupt_waits_for_an_import_and_a_second_one_does_not(tmp_path, times, ending, expected):
    """An import that was cut short cannot be taken up again: numpy raises, DuckDB aborts. One that fails by itself ends in one line, too."""
    (tmp_path / "slow.py").write_text(f"import time\nprint('on', flush=True)\nfor _ in range(10):\n    time.sleep(0.1)\n{ending}\n")
    slow = f"import sys, time; sys.path.insert(0, {str(tmp_path)!r}); __import__('slow'); time.sleep(60)"
    marked = f"""
import auditor.cli
def run(_):
    try:
        exec({slow!r})
    except ImportError as error:
        return auditor.cli._unforeseen(error)
auditor.cli.run = run
auditor.cli.main()
"""
    process = subprocess.Popen([sys.executable, "-c", marked], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "on\n"
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed, errors) == (130, expected, "interrupted\n")


def test_resume_refuses_a_changed_model(tmp_path, own_checkpoint):
    process = start(tmp_path, "run", own_checkpoint, *SUITE, "--batch-size", 4)
    process.kill()
    process.communicate()
    config = json.loads((own_checkpoint / "config.json").read_text())
    (own_checkpoint / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    assert config
    done = auditor("run", "--resume", "latest", cwd=tmp_path)
    assert done.returncode == 2
    assert "changed since it started: model" in done.stderr


def test_bfloat16_prints_its_drift(tmp_path, tiny_checkpoint):
    done = auditor("run", tiny_checkpoint, *SUITE, "--limit", 4, "--dtype", "bfloat16", cwd=tmp_path)
    assert "bfloat16 against float32 on 4 prompts" in done.stderr


def test_quiet_when_stdout_closes(audited):
    folder, _ = audited
    done = subprocess.run(f"{sys.executable} -m auditor show latest --samples --format json | head -c 10", shell=True, cwd=folder, capture_output=True,
                          text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
