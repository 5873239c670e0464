"""The journal: whole lines or nothing."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.errors import StoreError
from auditor.store.journal import Journal, is_held, read

LINE = {"k": 1, "text": "é\n\x00🤖"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.duckdb.journal" / "run-1.jsonl"


def test_lines_are_read_back_with_their_offsets(path):
    with Journal(path) as journal:
        journal.append([LINE, {"k": 2}])
        journal.append([{"k": 3}])
        found = list(journal.read())
        assert [record for record, _ in found] == [LINE, {"k": 2}, {"k": 3}]
        assert found[-1][1] == journal.size == path.stat().st_size
        assert [record for record, _ in journal.read(found[0][1])] == [{"k": 2}, {"k": 3}]
        assert list(journal.read(journal.size)) == []


@pytest.mark.parametrize("torn", [b'{"k": 2', b'{"k": "\xf0\x9f', b"x" * 200_000])
def test_a_torn_last_line_is_left_out_and_cut_off(path, torn):
    with Journal(path) as journal:
        journal.append([LINE])
        whole = journal.size
    with path.open("ab") as file:
        file.write(torn)
    assert [record for record, _ in read(path)] == [LINE]
    with Journal(path) as journal:
        assert journal.size == path.stat().st_size == whole
        journal.append([{"k": 3}])
    assert [record for record, _ in read(path)] == [LINE, {"k": 3}]


def test_a_file_that_is_one_torn_line_becomes_empty(path):
    path.parent.mkdir()
    path.write_bytes(b'{"ta')
    with Journal(path) as journal:
        assert journal.size == path.stat().st_size == 0


def test_a_damaged_line_in_the_middle_is_an_error_that_names_the_byte(path):
    path.parent.mkdir()
    path.write_bytes(b'{"k":1}\n{"k":\x00}\n{"k":3}\n')
    with pytest.raises(StoreError, match=r"run-1.jsonl is damaged at byte 8"):
        list(read(path))


def test_only_one_process_at_a_time(path, make, monkeypatch):
    monkeypatch.setattr("auditor.store.journal._LOCK_PATIENCE", 0.1)
    holder = make.spawn("import sys; from pathlib import Path; from auditor.store.journal import Journal\n"
                        "journal = Journal(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()", path)
    try:
        assert holder.stdout.readline() == "held\n"
        assert is_held(path)
        with pytest.raises(StoreError, match="another process is writing run run-1"):
            Journal(path)
    finally:
        holder.communicate("")
    assert not is_held(path)
    Journal(path).close()


def test_creating_an_existing_journal_is_refused(path):
    Journal(path, create=True).close()
    with pytest.raises(StoreError, match="go on with --resume run-1"):
        Journal(path, create=True)


def test_a_partial_write_on_a_full_disk_leaves_the_lines_before_it(path, monkeypatch):
    real = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if offset > 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[:25], offset)

    with Journal(path) as journal:
        journal.append([{"k": 1}])
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match=r"no space left .*run-1\.jsonl.*--resume"):
            journal.append([{"text": "y" * 100}])
        monkeypatch.undo()
        assert path.stat().st_size == journal.size
        journal.append([{"k": 2}])
    assert [record["k"] for record, _ in read(path)] == [1, 2]


def test_a_failing_fsync_takes_the_lines_back(path, monkeypatch):
    with Journal(path) as journal:
        journal.append([{"k": 1}])

        def fail(file: int) -> None:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="no space left"):
            journal.append([{"k": 2}])
        monkeypatch.undo()
    assert [record["k"] for record, _ in read(path)] == [1]


def test_a_limit_of_the_system_on_the_file_size(path):
    """The kernel itself refuses: a process that may write no file beyond 4,000 bytes."""
    script = ("import sys; from pathlib import Path; from auditor.store.journal import Journal; from auditor.errors import StoreError\n"
              "journal = Journal(Path(sys.argv[1])); n = 0\n"
              "try:\n    while True: journal.append([{'k': n, 'text': 'z' * 300}]); n += 1\n"
              "except StoreError as error: print(n, error)")
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)))
    acknowledged, _, message = done.stdout.partition(" ")
    assert message.startswith("no space left")
    assert [record["k"] for record, _ in read(path)] == list(range(int(acknowledged)))
    assert int(acknowledged) > 5


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the journal .*File exists.*pass --db"):
        Journal(tmp_path / "file" / "run.jsonl")


def test_an_interrupt_while_writing_leaves_no_remains(tmp_path, monkeypatch):
    """Ctrl-C may fall between the write and the return from fsync; the shorter record that follows must not leave a tail behind it."""
    path = tmp_path / "run.jsonl"
    with Journal(path) as held:
        held.append([{"n": 1}])

        def interrupted(file):
            raise KeyboardInterrupt

        monkeypatch.setattr("auditor.store.journal.os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            held.append([{"text": "x" * 10_000}])
        monkeypatch.undo()
        held.append([{"n": 2}])
    assert [record for record, _ in read(path)] == [{"n": 1}, {"n": 2}]
