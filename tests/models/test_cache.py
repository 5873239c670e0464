"""The conversion cache: made once, whole or not at all, also when two processes start together."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from auditor.errors import ModelError
from auditor.models.cache import MANIFEST, converted, intact


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "source.gguf"
    path.write_bytes(b"weights")
    return path


def counting(calls):
    def convert(source, folder):
        calls.append(source)
        (folder / "model.safetensors").write_bytes(b"converted " + source.read_bytes())
    return convert


def test_converts_once_and_checks_hashes(source):
    calls = []
    folder = converted(source, counting(calls))
    assert converted(source, counting(calls)) == folder
    assert len(calls) == 1
    assert intact(folder)


def test_a_damaged_copy_is_made_again(source):
    calls = []
    folder = converted(source, counting(calls))
    (folder / "model.safetensors").write_bytes(b"flipped bit")
    assert not intact(folder)
    converted(source, counting(calls))
    assert len(calls) == 2
    assert (folder / "model.safetensors").read_bytes() == b"converted weights"


def test_a_failed_conversion_leaves_nothing(source):
    def fails(source, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise ValueError("unsupported tensor type")

    with pytest.raises(ModelError, match="unsupported tensor type"):
        converted(source, fails)
    folder = converted(source, counting([]))
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]
    assert (folder / MANIFEST).is_file()


def test_two_processes_convert_once(source, tmp_path):
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from auditor.models.cache import converted
        def convert(source, folder):
            with open(sys.argv[2], "a") as log:
                log.write("x")
            time.sleep(1)
            (folder / "model.safetensors").write_bytes(b"converted")
        print(converted(Path(sys.argv[1]), convert))
    """)
    log = tmp_path / "log"
    started = [subprocess.Popen([sys.executable, "-c", script, str(source), str(log)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert outputs[0] == outputs[1]
    assert log.read_text() == "x"
