"""The command line. ``main`` turns every error into a clear message and an exit code; no traceback reaches a user."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130
LOOK_AGAIN = 0.02  # seconds


class Stopped(Exception):
    """Ctrl-C where there is more to say than that: the message tells how to go on."""


class _Interrupts:
    """Ctrl-C as a KeyboardInterrupt, but never in the midst of an import: it waits until that is done.

    An import that was cut short cannot be taken up again (numpy answers with an ImportError, DuckDB aborts). A second Ctrl-C while the first one waits
    ends the process. ``seen``: a library may have turned the KeyboardInterrupt into an error of its own, or the import may have failed for another reason.
    """

    seen = False
    waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        import signal

        pressed = number == signal.SIGINT
        if not pressed and not self.waiting:
            return  # what it would say has been said
        self.seen = True
        if not hasattr(signal, "setitimer") or not _importing(frame):
            self.waiting = False
            raise KeyboardInterrupt
        if self.waiting and pressed:
            os.write(2, b"interrupted\n")
            _leave()
        self.waiting = True
        signal.signal(signal.SIGALRM, self)
        signal.setitimer(signal.ITIMER_REAL, LOOK_AGAIN)

    def raise_if_seen(self) -> None:
        """Raise KeyboardInterrupt where Ctrl-C was pressed, whatever became of it."""
        self.waiting = False
        if self.seen:
            raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


_interrupts = _Interrupts()


def main() -> None:
    """Run the command line and exit: 0 fine, 1 a criterion failed, 2 bad input, 3 engine or store failed, 4 undecided, 130 interrupted."""
    code = INTERRUPTED
    try:
        _prepare()
        code = run(sys.argv[1:])
        _ignore_interrupts()
    except Stopped as stopped:
        _ignore_interrupts()
        _complain(str(stopped))
    except KeyboardInterrupt:
        _ignore_interrupts()
        _complain("interrupted")
    if code == INTERRUPTED:
        _leave()
    sys.exit(code)


def _prepare() -> None:
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us wants it ignored
        signal.signal(signal.SIGINT, _interrupts)
    sys.unraisablehook = _unraisable
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character shows its code


def _unraisable(problem: Any) -> None:
    """An interrupt that falls into a callback or finalizer would be printed and forgotten."""
    if issubclass(problem.exc_type, KeyboardInterrupt):
        _complain("interrupted")
        _leave()
    sys.__unraisablehook__(problem)


def _leave() -> NoReturn:
    """Exit with 130 at once: finalizing an interpreter whose imports were cut short may print, hang or die of the signal instead."""
    _ignore_interrupts()
    ray_cluster = sys.modules.get("auditor.models.ray_cluster")
    if ray_cluster is not None:
        ray_cluster.close()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):  # the last from a stream that was being written when the signal came
            continue
    os._exit(INTERRUPTED)


def _ignore_interrupts() -> None:
    """Everything is done: an interrupt now would only show as a traceback from the interpreter's own exit."""
    import signal

    _interrupts.waiting = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. Raises KeyboardInterrupt or Stopped on Ctrl-C."""
    import typer

    from auditor.cli.app import app
    from auditor.errors import AuditorError

    try:
        result = app(args=arguments, standalone_mode=False)
        if result == INTERRUPTED:  # typer's form of a KeyboardInterrupt
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except typer.Exit as leaving:
        return leaving.exit_code
    except AuditorError as error:
        _interrupts.raise_if_seen()
        _complain(f"error: {error}")
        return error.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); point stdout elsewhere so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Stopped:
        raise
    except Exception as error:
        return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    _interrupts.raise_if_seen()
    # typer carries its own copy of click, whose usage errors have no public base class; they know how to show themselves.
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        error.show()
        return int(error.exit_code)
    _complain(f"error: {type(error).__name__}: {error}\nThis is a fault in auditor, not in your input; {_save_traceback()}")
    return 3


def _complain(message: str) -> None:
    try:
        from auditor.cli.text import printable

        message = printable(message)
    except KeyboardInterrupt:
        message = "interrupted"
    print(message, file=sys.stderr)


def _save_traceback() -> str:
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile("w", prefix="auditor-", suffix=".log", delete=False, encoding="utf-8") as log:
            traceback.print_exc(file=log)
        return f"please report it with {log.name}"
    except OSError:
        return "please report it"
