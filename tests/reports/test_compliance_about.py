"""The user's about file: every mistake is named with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import InputError, UnknownNameError
from auditor.reports.compliance.about import About, from_table, names, read_about, stated, to_table

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "about.toml"


def written(folder: Path, text: str) -> Path:
    path = folder / "about.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_states_everything_there_is():
    about = read_about(EXAMPLE)
    assert [name for name in names() if not stated(about, name)] == []


def test_what_is_left_out_is_empty_and_what_is_stated_comes_back(tmp_path):
    about = read_about(written(tmp_path, 'owner = "  A  "\nlanguages = ["en", ""]\n[feedback]\nbias = "none known"\n'))
    assert about.owner == "A"
    assert about.languages == ("en",)
    assert about.feedback.bias == "none known"
    assert to_table(about) == {"owner": "A", "languages": ["en"], "feedback": {"bias": "none known"}}
    assert from_table(to_table(about), "the page") == about
    assert read_about(written(tmp_path, "")) == About()


@pytest.mark.parametrize(("text", "complaint"), [
    ('intended_purpos = "x"', "intended_purpos.*did you mean 'intended_purpose'"),
    ('[feedback]\nsourse = "x"', "'feedback.sourse': did you mean 'feedback.source'"),
    ('[reviewers]\nname = "x"', "did you mean 'reviewer'"),
    ("owner = 3", "owner is a number; write a text in quotes"),
    ("owner = true", "owner is true or false"),
    ('languages = "en"', "languages is a text; write a list of texts"),
    ("languages = [1]", r"languages\[0\] is a number"),
    ('feedback = "people"', r"feedback is a text; write a table, \[feedback\]"),
    ("owner = 'x", "no valid TOML"),
    (f'owner = "{"x" * 4_001}"', "4,001 characters; at most 4,000"),
    (f"languages = {['x'] * 51}", "51 entries; at most 50"),
])
def test_a_mistake_is_named(tmp_path, text, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        read_about(written(tmp_path, text))
    assert "about.toml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unknown_key_lists_the_known_ones(tmp_path):
    with pytest.raises(UnknownNameError, match=r"known: .*intended_purpose.*version"):
        read_about(written(tmp_path, 'zzz = "x"'))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot read --about"):
        read_about(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="cannot read --about"):
        read_about(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"owner = '\xff'")
    with pytest.raises(InputError, match="no valid TOML"):
        read_about(tmp_path / "bytes.toml")
