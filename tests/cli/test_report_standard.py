"""`auditor report --standard` as a user meets it: a subprocess, its exit code and its files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.cli


def auditor(*arguments, cwd, **environment):
    done = subprocess.run([sys.executable, "-m", "auditor", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "NO_COLOR": "1", **environment})
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


@pytest.fixture(scope="module")
def audited(tiny_checkpoint, tmp_path_factory):
    """A folder with a limited run and then a complete one of the same tiny checkpoint."""
    folder = tmp_path_factory.mktemp("audited")
    for more in (("--limit", 6), ()):
        done = auditor("run", tiny_checkpoint, "--suite", "judge_agreement", *more, cwd=folder)
        assert done.returncode in (0, 1, 4), done.stderr
    return folder


def runs(folder):
    return [run["run_id"] for run in json.loads(auditor("runs", "--format", "json", cwd=folder).stdout)["runs"]]


def test_a_complete_run_becomes_a_page_that_can_be_made_again(audited):
    done = auditor("report", "latest", "--standard", "eu-ai-act", cwd=audited)
    assert done.returncode == 0, done.stderr
    name = f"{runs(audited)[1]}-eu-ai-act.html"
    assert done.stdout.strip() == name
    first = (audited / name).read_text()
    assert "Evidence, not conformity." in first
    assert runs(audited)[0] in first, "the limited run of the same weights is listed"
    for seed in ("1", "2"):
        auditor("report", "latest", "--standard", "eu-ai-act", "-o", "again.html", cwd=audited, PYTHONHASHSEED=seed)
        assert (audited / "again.html").read_text() == first


def test_a_limited_run_is_refused_unless_a_draft_is_asked_for(audited):
    done = auditor("report", runs(audited)[0], "--standard", "iso-42001", "-o", "refused.html", cwd=audited)
    assert done.returncode == 2
    assert re.search(r"is no evidence.*limit of 6 items.*--draft", done.stderr, re.DOTALL)
    assert not (audited / "refused.html").exists()
    done = auditor("report", runs(audited)[0], "--standard", "iso-42001", "--draft", "-o", "draft.html", cwd=audited)
    assert done.returncode == 0, done.stderr
    assert "NOT EVIDENCE" in (audited / "draft.html").read_text()


def test_about_is_printed_and_an_unknown_key_names_the_nearest(audited):
    (audited / "about.toml").write_text('owner = "Head of risk"\nintended_purpose = "Drafts"\n')
    done = auditor("report", "latest", "--standard", "nist-ai-rmf", "--about", "about.toml", "-o", "about.html", cwd=audited)
    assert done.returncode == 0, done.stderr
    assert "Head of risk" in (audited / "about.html").read_text()
    (audited / "about.toml").write_text('ownr = "Head of risk"\n')
    done = auditor("report", "latest", "--standard", "nist-ai-rmf", "--about", "about.toml", cwd=audited)
    assert done.returncode == 2
    assert "unknown key in about.toml: 'ownr': did you mean 'owner'" in done.stderr


def test_json_and_the_card_go_to_a_file_or_to_standard_output(audited):
    done = auditor("report", "latest", "--standard", "eu-ai-act", "--format", "json", "-o", "-", cwd=audited)
    found = json.loads(done.stdout)
    assert found["standard"]["name"] == "eu-ai-act"
    assert len(found["measurements"]) == 5
    done = auditor("report", "latest", "--format", "markdown", cwd=audited)
    assert done.stdout.strip() == f"{runs(audited)[1]}.md"
    assert (audited / done.stdout.strip()).read_text().startswith("# Model card: ")


@pytest.mark.parametrize(("options", "complaint"), [
    (("--standard", "eu-ai-atc"), "did you mean 'eu-ai-act'"),
    (("--standard", "eu-ai-act", "--format", "pdf"), "unknown --format 'pdf'"),
    (("--standard", "eu-ai-act", "--about", "absent.toml"), "cannot read --about 'absent.toml'"),
    (("--standard", "eu-ai-act", "--with", "latest"), "--with belongs to the audit report"),
    (("--format", "json", "--redact"), "--redact belongs to the audit report"),
    (("--about", "about.toml"), "--about needs --standard"),
    (("--draft",), "--draft needs --standard"),
    (("--standard", "eu-ai-act", "-o", "/proc/nothing/x.html"), "cannot write the report"),
])
def test_bad_options_exit_2_and_say_what_to_do(audited, options, complaint):
    done = auditor("report", "latest", *options, cwd=audited)
    assert done.returncode == 2
    assert complaint in " ".join(done.stderr.split())


def test_without_a_standard_the_audit_report_is_as_it_was(audited):
    done = auditor("report", "latest", "-o", "audit.html", cwd=audited)
    assert done.returncode == 0, done.stderr
    assert "Alignment audit report" in (audited / "audit.html").read_text()
