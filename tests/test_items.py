from __future__ import annotations

import json

import pytest

from auditor.engine.suites import load_suite, suite_names
from auditor.errors import DataError
from auditor.items import read_jsonl, shipped


@pytest.mark.parametrize(("line", "words"), [('{"id": "\\ud800"}', "surrogate"), ("[" * 200_000, "cannot be read as JSON"), ('{"id": 1', "not JSON")])
def test_unreadable_lines_are_named(tmp_path, line, words):
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=words) as caught:
        list(read_jsonl(path))
    assert ":2:" in str(caught.value)


@pytest.mark.parametrize("name", suite_names())
@pytest.mark.parametrize("field", ["id", "cluster_id", "task", "kind", "form", "label", "register"])
@pytest.mark.parametrize("value", [[], {}, ["open"], {"a": 1}])
def test_a_list_or_object_where_a_label_belongs_is_named_with_its_line(tmp_path, name, field, value):
    first, second = shipped(name).read_text(encoding="utf-8").splitlines()[:2]
    path = tmp_path / "items.jsonl"
    path.write_text(first + "\n" + json.dumps({**json.loads(second), field: value}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"'{field}' is .*; a text is expected") as caught:
        load_suite(name).load(path)
    assert ":2:" in str(caught.value)
