"""Text, Markdown, JUnit, JSON and the HTML page of a comparison full of hostile text: all of it readable, none of it alive."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from auditor.cli.compare_text import as_text, quoted
from auditor.compare.compare import Question
from auditor.compare.result import Policy, Rule
from auditor.reports.comparing.junit import junit
from auditor.reports.comparing.markdown import as_json, fenced, markdown, plain
from auditor.reports.comparing.page import page
from auditor.reports.comparing.rows import headline
from auditor.schema import ModelSpec

HOSTILE = ("<script>window.__pwned = 1</script><img src=x onerror='1'> ]]> &amp; \u202egnp.txt\u202c \u200bzero \x1b[31mred\x1b[0m \x00nul\n"
           "::error file=x::taken over\n##[group]taken over\n```\n````\n# heading\n| cell | @everyone [link](http://evil) {{ 7*7 }}")
SAFE = "refusal.over_refusal_safe"


@pytest.fixture(scope="module")
def found(make, tmp_path_factory):
    """A failed gate whose every foreign text is hostile."""
    folder = tmp_path_factory.mktemp("forms")
    spec = replace(make.spec, model=ModelSpec(uri=HOSTILE, weights_hash="w1"))
    rules = (Rule(metric=SAFE, why=HOSTILE, owner=HOSTILE, margin=0.1), Rule(metric="verbosity.limit_kept", why="not run", required=False),
             Rule(metric="refusal.mean_words", why="w", test="better"))
    question = Question(policy=Policy(rules=rules, source="gate.toml", title=HOSTILE), known=("refusal", "verbosity"))
    evil = make.made(refused=make.all, words=make.words, spec=spec, texts=lambda k: HOSTILE, extra={"flags": (HOSTILE,)})
    return make.compare(folder, make.made(refused=make.none, words=make.words, texts=lambda k: HOSTILE), evil, question)


def test_the_page_shows_hostile_text_as_text(found):
    html = page(found)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;window.__pwned = 1&lt;/script&gt;") > 5
    assert re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00\x1b]", html) is None
    assert "default-src &#39;none&#39;" in html
    assert "{{ 7*7 }}" in html
    figures = [base64.b64decode(uri).decode() for uri in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", html)]
    assert figures
    assert not [svg for svg in figures if "<script" in svg or "\u202e" in svg]
    assert "A, baseline" in html
    assert "B, candidate" in html


def test_junit_is_xml_with_a_case_for_each_criterion(found):
    text = junit(found)
    (suite,) = ElementTree.fromstring(text)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "2", "1")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert "worse by more than the margin" in cases["over_refusal_safe (no-worse)"].find("failure").get("message")
    assert cases["mean_words (better)"].find("failure").get("type") == "inconclusive"  # better is asked for and not shown
    assert cases["limit_kept (no-worse)"].find("skipped") is not None
    assert "]]>" not in text
    assert re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text) is None
    strict = ElementTree.fromstring(junit(replace(found, strict=True)))
    assert strict[0].get("failures") == "2"  # an advisory criterion never fails


def test_a_strict_gate_says_that_a_part_of_the_items_is_no_evidence(found):
    """Whoever reads JUnit alone must not see a pass where the exit code is none."""
    against = replace(found.candidates[0], exit_code=4, run=replace(found.candidates[0].run, evidence=False))
    part = replace(found, strict=True, exit_code=4, candidates=(against,))
    assert headline(part).endswith("NOT EVIDENCE: the candidate asked only a part of the items.")
    (suite,) = ElementTree.fromstring(junit(part))
    assert (suite.get("tests"), suite.get("failures")) == ("4", "3")
    assert suite.find("testcase[@name='evidence']/failure") is not None
    for other in (replace(part, strict=False), replace(part, candidates=(replace(against, run=found.candidates[0].run),))):
        assert "EVIDENCE" not in headline(other)
        assert ElementTree.fromstring(junit(other)).find(".//testcase[@name='evidence']") is None


def test_markdown_is_not_taken_over(found):
    text = markdown(found)
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?\n\1$", "", text)
    tables = [line for line in outside.splitlines() if line.startswith("| ")]
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {11}  # ten columns: no cell opens another
    assert "@everyone" not in outside.replace("\\@everyone", "")
    assert "window.\\_\\_pwned" in outside
    assert "<script" not in outside
    assert not re.search(r"(?m)^# heading", outside)


def test_a_fence_is_longer_than_any_inside():
    fence = fenced("a ````` b")[1]
    assert fence == "``````text"
    assert plain("1. not a list") == "1\\. not a list"  # a digit cannot be escaped: the backslash would show
    assert plain("see http://evil.example or www.evil.example") == "see http:\\//evil.example or www\\.evil.example"
    assert plain("a|b`c`<d>&e\nf") == "a\\|b\\`c\\`&lt;d&gt;&amp;e f"


def test_no_line_of_the_log_is_a_command(found):
    text = as_text(found)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
    assert "##[" not in text
    assert quoted("::stop-commands::x\n##[error]") == "│ ::stop-commands::x\n│ ##⟦error]"
    assert "The gate FAILS" in text
    assert "Not compared" in text


def test_json_holds_everything(found):
    read = json.loads(json.dumps(as_json(found), allow_nan=False))
    (against,) = read["candidates"]
    assert read["headline"].startswith("The gate FAILS: of 2 required criteria")
    assert against["decisions"][0]["rule"]["why"] == HOSTILE
    assert against["changes"][0]["candidate"]["completion"].startswith("<script>")
    assert {"p_adjusted", "minimum_detectable_effect", "margin", "flip", "n_needed"} <= set(against["differences"][0])
    assert against["not_compared"]
