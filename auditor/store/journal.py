"""A run's journal: JSON lines on disk before anything else is done with them.

One :meth:`Journal.append` is one write and one fsync; what it returned from survives ``kill -9`` and a power cut. A
line is a whole batch, so a torn last line means a batch that was never acknowledged, and is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from auditor.errors import StoreError
from auditor.store.database import no_space

try:
    import fcntl
except ImportError:  # no POSIX locks on this system: two processes resuming one run at once are then not refused
    fcntl = None  # type: ignore[assignment]

_SURROGATES = re.compile("[\ud800-\udfff]")
_TAIL = 1 << 16
_LOCK_PATIENCE = 1.0  # seconds; readers hold a shared lock for an instant to see whether a run is alive


def directory(database: Path) -> Path:
    """The folder of a database's journals."""
    return database.with_name(database.name + ".journal")


def encode(record: Mapping[str, Any]) -> bytes:
    """One line. A lone surrogate, which no UTF-8 file can hold, becomes U+FFFD. Raises ValueError on NaN or infinity."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    try:
        return line.encode("utf-8")
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", line).encode("utf-8")


class Journal:
    """An append-only file of JSON objects, held by one process at a time.

    Opening it for appending cuts a torn tail off. Raises StoreError if another process has it open for appending, and
    whenever the system refuses to write; then the file holds exactly what was appended before.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_EXCL if create else 0), 0o644)
        except FileExistsError as error:
            if not path.exists():  # it is the folder's name that is taken
                raise _write_error(error, path) from error
            raise StoreError(f"there is a journal {path} already: choose another run id, or go on with --resume {path.stem}") from None
        except OSError as error:
            raise _write_error(error, path) from error
        try:
            self._lock()
            self._refuse_deleted()
            self.size = self._cut_torn_tail()
            _fsync_directory(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the records, one line each, and wait until they are on the disk."""
        data = memoryview(b"".join(encode(record) for record in records))
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self.size + written)
            os.fsync(self._file)
            self.size += written
        except BaseException as error:  # Ctrl-C too: a later, shorter record must not leave the end of this one behind it
            with contextlib.suppress(OSError):  # where even this is refused the tail is overwritten by the next append, or cut as torn
                os.ftruncate(self._file, self.size)
            if isinstance(error, OSError):
                raise _write_error(error, self.path) from error
            raise

    def read(self, from_offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield (record, offset of its end) from ``from_offset`` on."""
        return read(self.path, from_offset)

    def close(self) -> None:
        """Let another process have the journal."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Delete the file; only after the database holds all of it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    problem = f"another process is writing run {self.path.stem} (journal {self.path})"
                    raise StoreError(f"{problem}: wait until it has finished") from None
            time.sleep(0.02)

    def _refuse_deleted(self) -> None:
        """The process that held the lock may have finished its run, and deleted the file that was waited for."""
        if os.fstat(self._file).st_nlink == 0:
            raise StoreError(f"another process has just finished run {self.path.stem}: see it with `auditor show {self.path.stem}`")

    def _cut_torn_tail(self) -> int:
        """The offset after the last whole line; what follows it is cut off."""
        size = os.fstat(self._file).st_size
        end = size
        while end > 0:
            start = max(0, end - _TAIL)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        return end


def read(path: Path, from_offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield (record, offset of its end); a torn last line is left out. Raises StoreError on a damaged line before it."""
    try:
        with path.open("rb") as lines:
            lines.seek(from_offset)
            offset = from_offset
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                yield _parsed(line, path, offset), offset + len(line)
                offset += len(line)
    except OSError as error:
        raise StoreError(f"cannot read the journal {path}: {error.strerror or error}") from error


def is_held(path: Path) -> bool:
    """Whether a process has the journal open for appending, that is, whether its run is alive."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def _parsed(line: bytes, path: Path, offset: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise StoreError(f"the journal {path} is damaged at byte {offset}: everything before it can be kept by cutting the file there")
    return record


def _write_error(error: OSError, path: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return no_space(path)
    return StoreError(f"cannot write the journal {path}: {error.strerror or error}; pass --db with a file where you may write")


def _fsync_directory(path: Path) -> None:
    """A new file's name is on the disk only after its folder is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # some file systems cannot sync a folder
            raise
    finally:
        os.close(handle)
