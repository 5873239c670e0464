"""`auditor verify` as a user meets it: a real run, tampered with through a plain DuckDB connection, and its report, altered."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys

import duckdb
import pytest

from auditor.cli import run
from auditor.store import Store

pytestmark = pytest.mark.cli
SELF_CONSISTENT = "self-consistent only: someone who can write this file could have rebuilt the whole chain; pass --head with a head kept elsewhere"


def process(*arguments, cwd, code=0):
    """A command as a process: its exit code and all that it printed."""
    done = subprocess.run([sys.executable, "-m", "auditor", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "NO_COLOR": "1"})
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def auditor(capsys, monkeypatch):
    """A command in this process, which takes a fraction of the time."""
    def command(*arguments, cwd, code=0):
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        assert run([str(argument) for argument in arguments]) == code
        return "".join(capsys.readouterr())
    return command


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A folder with a finished run of recorded replies and its report; the head, as `auditor run` printed it."""
    folder = tmp_path_factory.mktemp("audited")
    process("suites", "sycophancy", "--prompts", "prompts.jsonl", cwd=folder)
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    answered = [{**row, "logprobs": {option: -1.8 - index / (1 + len(row["sample_id"])) for index, option in enumerate(row["options"])}}
                for row in rows if row["kind"] == "logprobs"]
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, answered)))
    printed = process("run", "recorded:answers.jsonl", "--suite", "sycophancy", "--limit", "60", cwd=folder, code=4)
    head = re.search("^head of the hash chain: ([0-9a-f]{64})$", printed, flags=re.MULTILINE)
    assert head, printed
    process("report", "latest", "-o", "report.html", cwd=folder)
    return folder, head[1]


@pytest.fixture
def here(audited, tmp_path):
    """A copy of the folder that a test may tamper with."""
    for name in ("auditor.duckdb", "report.html"):
        shutil.copy(audited[0] / name, tmp_path / name)
    return tmp_path


def tamper(folder, *statements):
    with duckdb.connect(str(folder / "auditor.duckdb")) as connection:
        return [connection.execute(statement).fetchall() for statement in statements]


def test_the_head_is_printed_everywhere(audited, auditor):
    folder, head = audited
    assert head in auditor("show", "latest", cwd=folder)
    assert [run["head"] for run in json.loads(auditor("runs", "--format", "json", cwd=folder))["runs"]] == [head]
    assert json.loads(auditor("show", "latest", "--format", "json", cwd=folder))["head"] == head
    assert f"<code>{head}</code>" in (folder / "report.html").read_text()
    assert Store.open(folder / "auditor.duckdb").head("latest") == head


def test_a_run_that_nobody_touched(audited, auditor):
    folder, head = audited
    text = auditor("verify", "latest", cwd=folder)
    assert "agree with the hash chain" in text
    assert SELF_CONSISTENT in text
    kept = auditor("verify", "latest", "--head", head.upper(), cwd=folder)
    assert f"head {head}, as given" in kept
    assert "self-consistent" not in kept
    found = json.loads(auditor("verify", "latest", "--format", "json", cwd=folder))
    assert (found["agrees"], found["self_consistent_only"], found["head"], found["differences"]) == (True, True, head, [])


def test_one_digit_of_a_score(here):
    (((sample, scorer, value),),) = tamper(here, "SELECT sample_id, scorer, value FROM score WHERE value IS NOT NULL ORDER BY sample_id, scorer LIMIT 1")
    tamper(here, f"UPDATE score SET value = {value} + 1e-9 WHERE sample_id = '{sample}' AND scorer = '{scorer}'")
    text = process("verify", "latest", cwd=here, code=1)
    assert "DOES NOT AGREE: 1 changed" in text
    assert re.search(rf"changed +score +sycophancy · {re.escape(sample)} · 0 · {scorer}", text)


def test_a_dropped_row_two_swapped_and_a_hostile_added_one(here, auditor):
    (rows,) = tamper(here, "SELECT sample_id FROM sample ORDER BY position LIMIT 2")
    (one,), (two,) = rows
    tamper(here, "UPDATE sample SET position = 1 - position WHERE position < 2", "DELETE FROM metric WHERE position = 0",
           "INSERT INTO generation SELECT * REPLACE (chr(27) || '[2J' || chr(10) || 'run agrees' AS sample_id) FROM generation LIMIT 1")
    found = json.loads(auditor("verify", "latest", "--format", "json", cwd=here, code=1))
    assert found["counts"] == {"moved": 2, "dropped": 1, "added": 1}
    assert [(difference["kind"], difference["key"][1]) for difference in found["differences"][:2]] == [("moved", one), ("moved", two)]
    text = auditor("verify", "latest", cwd=here, code=1)
    assert "\x1b" not in text
    assert "\\u001b[2J\\nrun agrees" in text


def test_a_hostile_head_reaches_no_terminal(here, auditor):
    tamper(here, "UPDATE run SET head = chr(27) || '[2Jagrees'")
    for command in ("verify", "show"):
        assert "\x1b" not in auditor(command, "latest", cwd=here, code=int(command == "verify"))


def test_a_wrong_head(audited, auditor):
    folder, head = audited
    text = auditor("verify", "latest", "--head", "0" * 64, cwd=folder, code=1)
    assert f"the head is {head}, not {'0' * 64}" in text


@pytest.mark.parametrize(("arguments", "words"), [
    (("nothing",), "unknown run 'nothing'"),
    (("latest", "--head", "12ab"), "--head '12ab' is no head: pass the 64 hexadecimal digits"),
    (("latest", "--format", "yaml"), "unknown --format 'yaml'"),
    (("absent.html",), "cannot read absent.html"),
    (("answers.jsonl",), "answers.jsonl is no report that can be checked"),
    (("auditor.duckdb",), "auditor.duckdb is no report"),
])
def test_bad_input(audited, arguments, words, auditor):
    assert words in " ".join(auditor("verify", *arguments, cwd=audited[0], code=2).split())


def test_a_run_without_a_chain(here, auditor):
    tamper(here, "UPDATE run SET head = NULL", "DELETE FROM chain")
    assert "is not sealed: it was recorded by a version without hash chains" in auditor("verify", "latest", cwd=here, code=2)
    auditor("report", "latest", "-o", "unsealed.html", cwd=here)
    assert "none: the run is not sealed" in (here / "unsealed.html").read_text()
    assert "is not sealed" in auditor("verify", "unsealed.html", cwd=here, code=2)


def test_a_store_from_a_newer_version(here, auditor):
    tamper(here, "INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
    assert "has schema version 99" in auditor("verify", "latest", cwd=here, code=3)


def test_an_untouched_report(audited, auditor):
    folder, head = audited
    text = auditor("verify", "report.html", "--head", head, cwd=folder)
    assert "every character is as the store gives it" in text
    assert "as given" in text
    found = json.loads(auditor("verify", "report.html", "--format", "json", cwd=folder))
    assert (found["agrees"], found["report"]["compared_as_a_whole"], found["report"]["lines_altered"]) == (True, True, 0)


def digits(text):
    """Places of digits that a reader sees in the page, from its head to its end."""
    body = text.index("<body>")
    return [match.start(1) for match in re.finditer(r">[^<>]*?(\d)[^<>]*<", text) if match.start() > body]


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 1.0])
def test_one_digit_of_a_report(here, part, auditor):
    text = (here / "report.html").read_text(encoding="utf-8")
    places = digits(text)
    place = places[round(part * (len(places) - 1))]
    (here / "report.html").write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1:], encoding="utf-8")
    printed = auditor("verify", "report.html", cwd=here, code=1)
    assert "IS NOT what the store gives: 1 line differs" in printed
    assert f"line {text[:place].count(chr(10)) + 1}, under “" in printed
    assert "page: " in printed
    assert "store: " in printed


def test_a_report_with_a_script_and_one_with_lines_missing(here, auditor):
    path = here / "report.html"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("</main>", "<script>alert('\x1b[31m')</script>\n</main>"), encoding="utf-8")
    printed = auditor("verify", "report.html", cwd=here, code=1)
    assert "<script>alert('\\u001b[31m')</script>" in printed
    assert "store: (no such line)" in printed
    lines = text.split("\n")
    path.write_text("\n".join(lines[:100] + lines[103:]), encoding="utf-8")
    assert "page:  (no such line)" in auditor("verify", "report.html", cwd=here, code=1)


def test_numbers_in_a_figure_and_in_what_the_page_carries(here, auditor):
    path = here / "report.html"
    text = path.read_text(encoding="utf-8")
    figure = re.search("data:image/svg[+]xml;base64,([^\"]*)", text)
    drawn = re.sub(r'(\d)"', lambda match: f'{(int(match[1]) + 1) % 10}"', base64.b64decode(figure[1]).decode(), count=1)
    path.write_text(text[:figure.start(1)] + base64.b64encode(drawn.encode()).decode() + text[figure.end(1):], encoding="utf-8")
    assert "1 line differs" in auditor("verify", "report.html", cwd=here, code=1)
    path.write_text(text.replace("&#34;redact&#34;:false", "&#34;redact&#34;:true"), encoding="utf-8")
    assert "IS NOT what the store gives" in auditor("verify", "report.html", cwd=here, code=1)


def test_a_report_whose_store_was_tampered_with(here, auditor):
    tamper(here, "UPDATE metric SET value = value * 0.5 WHERE value > 0 AND group_name = 'all'")
    printed = auditor("verify", "report.html", cwd=here, code=1)
    assert "IS NOT what the store gives" in printed
    assert re.search(r"changed +metric +sycophancy", printed)


def test_a_report_of_another_version(here, auditor):
    """Its text cannot be made again; the numbers that it carries can be compared, and are."""
    path = here / "report.html"
    other = re.sub(r"(&#34;renderer&#34;:&#34;)[0-9a-f]{16}", r"\g<1>0123456789abcdef", path.read_text(encoding="utf-8"))
    path.write_text(other, encoding="utf-8")
    assert "every character is as the store gives it" in auditor("verify", "report.html", cwd=here)  # whoever made it, it is this page
    other = other.replace("<h2", "<h2 ", 1)
    path.write_text(other, encoding="utf-8")
    printed = auditor("verify", "report.html", cwd=here, code=4)
    assert "CANNOT BE COMPARED" in printed
    assert "are the store's" in printed
    path.write_text(re.sub(r"(&#34;metrics&#34;:\[\[&#34;[^;]*&#34;,[^,]*,[^,]*,[^,]*,)(\d+)", r"\g<1>9\g<2>", other), encoding="utf-8")
    assert "ARE NOT THE STORE'S" in auditor("verify", "report.html", cwd=here, code=1)
    path.write_text(re.sub(r"(&#34;metrics&#34;:\[)", r"\g<1>[[],{}],3,", other), encoding="utf-8")
    assert "ARE NOT THE STORE'S" in auditor("verify", "report.html", cwd=here, code=1)


def test_what_a_page_says_about_itself_is_not_trusted(here, auditor):
    path = here / "report.html"
    text = path.read_text(encoding="utf-8")
    for content in ("{", "[]", "null", '{"format":1}', '{"format":1,"kind":1,"run":"x","head":null,"version":"","renderer":""}',
                    '{"format":1,"kind":"audit","run":"x","head":null,"version":"","renderer":"","metrics":5,"verdicts":[]}'):
        path.write_text(re.sub(r'(<meta name="auditor-evidence" content=")[^"]*', lambda match: match[1] + content.replace('"', "&#34;"), text),  # noqa: B023
                        encoding="utf-8")
        assert "what the page says about its run" in auditor("verify", "report.html", cwd=here, code=2)


def test_later_runs_leave_a_report_as_it_is(here, audited, auditor):
    """Earlier runs of the same weights are part of a report; later ones are not."""
    assert "head of the hash chain" in auditor("run", f"recorded:{audited[0] / 'answers.jsonl'}", "--suite", "sycophancy", "--limit", "4", cwd=here, code=4)
    assert "every character is as the store gives it" in auditor("verify", "report.html", cwd=here)


def test_a_compliance_report(here, auditor):
    """Made from the store and the owner's words; the former are checked, and of the latter it is said that they are not."""
    (here / "about.toml").write_text('system = "Line <7>"\n')
    auditor("report", "latest", "--standard", "nist-ai-rmf", "--draft", "--about", "about.toml", "-o", "page.html", cwd=here)
    printed = auditor("verify", "page.html", cwd=here)
    assert "every character is as the store gives it" in printed
    assert "the owner's words on the page (--about) are not in the store" in printed
    text = (here / "page.html").read_text(encoding="utf-8")
    place = digits(text)[40]
    (here / "page.html").write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1:], encoding="utf-8")
    assert "1 line differs" in auditor("verify", "page.html", cwd=here, code=1)


def test_an_earlier_run_taken_out_of_a_report(here, auditor, audited):
    """Nobody runs until it passes and then leaves the earlier runs out."""
    auditor("run", f"recorded:{audited[0] / 'answers.jsonl'}", "--suite", "sycophancy", "--limit", "4", cwd=here, code=4)
    auditor("report", "latest", "-o", "later.html", cwd=here)
    text = (here / "later.html").read_text(encoding="utf-8")
    if "Earlier runs of the same weights in this store, the oldest first" not in text:
        pytest.fail("two runs of one file of replies have the same weights, so the second report lists the first")
    start, end = text.index("<tbody>", text.index("the oldest first")), text.index("</tbody>", text.index("the oldest first"))
    (here / "later.html").write_text(text[:start] + "<tbody>" + text[end:], encoding="utf-8")
    assert "IS NOT what the store gives" in auditor("verify", "later.html", cwd=here, code=1)
