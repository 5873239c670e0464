"""Hostile text from a model's name, its lineage, a run's numbers or the about file stays text in every format."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from auditor.engine.suites import load_suites
from auditor.reports.compliance import as_json, card, page
from auditor.reports.compliance.about import About, Feedback, Reviewer
from auditor.reports.compliance.assemble import assemble
from auditor.reports.compliance.markdown import code, table, text
from auditor.reports.compliance.model import Options
from auditor.store import RunWriter, Store

MARKDOWN = ("[click](javascript:alert(1)) ![x](https://evil.invalid/x.png) <b>bold</b> | cell | `code` **bold** "
            "https://evil.invalid www.evil.invalid a@evil.invalid")
LINES = ("- item", "1. item", "# head", "> quote", "+ item", "```", "---", "===", "| a | b |", "&lt;b&gt;", "~~x~~", "\\`x\\`", "[a]: b", "![a](b)",
         "<http://x.invalid>", "a\n\n# b")


@pytest.fixture(scope="module")
def hostile(demo, tmp_path_factory):
    """A report in which every text that comes from outside is hostile."""
    evil = demo.HOSTILE.replace("\x00", "") + MARKDOWN
    path = tmp_path_factory.mktemp("hostile") / "s.duckdb"
    lineage = {"history": [evil], "data_hashes": {evil: "ab" * 32}, "judges": [evil], "rewards": [{"name": evil, "uri": evil, "weight": 1}], "notes": [evil],
               "config": {"question": evil}}
    model = demo.ModelSpec(uri=evil, weights_hash="cd" * 32, lineage=lineage, flags=(evil,))
    run = demo.record("hostile", "2026-11-21T10:00:00+00:00", model=model, judge=demo.ModelSpec(uri=evil), items=(("sycophancy", evil, "ef" * 32),))
    stance = demo.metric("sycophancy", "stance_flip", 0.3, flags=(evil,))
    other = demo.metric("refusal", "over_refusal_safe", None, reason=evil)
    split = demo.metric("sycophancy", "stance_flip", 0.2, group=evil)
    verdicts = [demo.verdict(stance, 0.1, "fail"), demo.verdict(other, 0.1, "not_assessed", reason=evil)]
    verdicts[0] = replace(verdicts[0], criterion=replace(verdicts[0].criterion, rationale=evil, source=evil))
    with RunWriter.create(path, run) as writer:
        writer.samples("sycophancy", demo.samples("sycophancy", 4))
        writer.metrics([stance, split, other])
        writer.verdicts(verdicts)
        writer.finish()
    words = dict.fromkeys(("system", "owner", "contact", "intended_purpose", "monitoring"), evil)
    about = About(**words, limits=(evil, evil), languages=(evil,), feedback=Feedback(source=evil), reviewer=Reviewer(name=evil, role=evil))
    suites = {suite.name: suite for suite in load_suites(())}
    return assemble(Store.open(path), "hostile", suites=suites, options=Options(standard="eu-ai-act", about=about))


def test_the_page_holds_no_element_of_the_hostile_text(hostile, parse):
    elements = parse(page.render(hostile))
    assert elements.open == []
    tags = [tag for tag, _ in elements.tags]
    assert "script" not in tags
    assert tags.count("style") == 1
    assert all(str(attributes.get("src", "")).startswith("data:") for tag, attributes in elements.tags if tag in ("img", "source") and "src" in attributes)
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    links = {attributes["href"] for tag, attributes in elements.tags if tag == "a"}
    assert {link for link in links if not link.startswith("#")} == {hostile.standard.source}
    assert "<script>window.__pwned = 1</script>" in elements.text
    assert "\u202e" not in page.render(hostile)
    assert "⟦U+202E⟧" in elements.text


def test_the_card_renders_to_no_link_image_or_html_but_its_own(hostile):
    """Read by the reader that many use: GitHub's flavour with raw HTML allowed."""
    markdown_it = pytest.importorskip("markdown_it")
    rendered = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(card.render(hostile))
    inline = [child for token in rendered for child in token.children or ()]
    assert not [token for token in rendered if token.type == "html_block"]
    assert not [token.content for token in inline if token.type in ("html_inline", "image")]
    assert [token.attrGet("href") for token in inline if token.type == "link_open"] == [hostile.standard.source]
    widths, cells = [], 0
    for token in rendered:
        if token.type == "tr_open":
            cells = 0
        elif token.type in ("th_open", "td_open"):
            cells += 1
        elif token.type == "tr_close":
            widths.append(cells)
    assert set(widths) == {12, 6, 5, 3, 2}, "no cell was opened by a text"
    assert sum(token.type == "heading_open" and token.tag == "h1" for token in rendered) == 1


def test_the_json_is_valid_and_keeps_the_text_as_it_was(hostile):
    found = json.loads(as_json.render(hostile))
    assert found["system"]["owner"] == hostile.about.owner
    assert found["model"]["uri"].startswith("<script>")


@pytest.mark.parametrize("evil", LINES)
def test_one_line_of_text_stays_a_paragraph(evil):
    markdown_it = pytest.importorskip("markdown_it")
    tokens = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text(evil))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in tokens[1].children} <= {"text", "text_special"}
    assert "".join(child.content for child in tokens[1].children) == " ".join(evil.split())


@pytest.mark.parametrize("evil", ["`", "``x`", "a|b", "`a`` | <b>", ""])
def test_a_code_span_cannot_be_closed_from_inside(evil):
    markdown_it = pytest.importorskip("markdown_it")
    rendered = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(table(("a", "b"), [(code(evil), "c")]))
    assert rendered.count("<td>") == 2
    assert rendered.count("<code>") == 1
    assert "<b>" not in rendered
