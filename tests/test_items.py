from __future__ import annotations

import pytest

from auditor.errors import DataError
from auditor.items import read_jsonl


@pytest.mark.parametrize(("line", "words"), [('{"id": "\\ud800"}', "surrogate"), ("[" * 200_000, "cannot be read as JSON"), ('{"id": 1', "not JSON")])
def test_unreadable_lines_are_named(tmp_path, line, words):
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=words) as caught:
        list(read_jsonl(path))
    assert ":2:" in str(caught.value)
