"""The command line. ``main`` turns every error into a clear message and an exit code; no traceback reaches a user."""

from __future__ import annotations

import io
import os
import sys
import traceback


def main() -> None:
    """Run the command line and exit: 0 fine, 1 a criterion failed, 2 bad input, 3 engine or store failed, 4 undecided, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character shows its code
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    import typer

    from auditor.cli.app import app
    from auditor.errors import AuditorError

    try:
        result = app(args=arguments, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as leaving:
        return leaving.exit_code
    except AuditorError as error:
        _complain(f"error: {error}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); point stdout elsewhere so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # typer carries its own copy of click, whose usage errors have no public base class; they know how to show themselves.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(error.exit_code)
        _complain(f"error: {type(error).__name__}: {error}\nThis is a fault in auditor, not in your input; {_save_traceback()}")
        return 3


def _complain(message: str) -> None:
    from auditor.cli.text import printable

    print(printable(message), file=sys.stderr)


def _save_traceback() -> str:
    import tempfile

    try:
        with tempfile.NamedTemporaryFile("w", prefix="auditor-", suffix=".log", delete=False, encoding="utf-8") as log:
            traceback.print_exc(file=log)
        return f"please report it with {log.name}"
    except OSError:
        return "please report it"
