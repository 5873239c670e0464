"""`auditor compare` and `auditor init`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import InputError

if TYPE_CHECKING:
    from auditor.compare.result import Comparison

FORMATS = ("text", "markdown", "json", "junit", "html")
SUFFIXES = {".txt": "text", ".md": "markdown", ".json": "json", ".xml": "junit", ".html": "html"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareArguments:
    """The command line as it was typed; ``output`` None: text, or what the suffixes of ``out`` say."""

    runs: tuple[str, ...]
    db: Path
    policy: Path | None = None
    output: str | None = None
    out: tuple[Path, ...] = ()
    suites: tuple[str, ...] = ()
    strict: bool = False
    redact: bool = False


def compare_command(arguments: CompareArguments) -> int:
    """Compare, write or print, and return the exit code: 0 passes, 1 worse than allowed, 4 undecided."""
    forms = _forms(arguments)
    found = compare_runs(arguments)
    if not arguments.out:
        _print(found, forms[0])
        return found.exit_code
    from auditor.cli.text import printable
    from auditor.reports.comparing.rows import headline
    from auditor.reports.page import write_atomically

    for path, form in zip(arguments.out, forms, strict=True):
        write_atomically(path, written(found, form))
    print(printable(headline(found)))
    print("Written: " + ", ".join(printable(str(path)) for path in arguments.out), file=sys.stderr)
    return found.exit_code


def compare_runs(arguments: CompareArguments) -> Comparison:
    """The comparison that was asked for. Raises InputError and its kin for whatever is wrong with the runs or the policy."""
    from auditor.compare.compare import Question, compare
    from auditor.compare.naming import choose_all
    from auditor.compare.policy import read_policy
    from auditor.engine.suites import load_suites, suite_names

    policy = read_policy(arguments.policy) if arguments.policy else None
    chosen = choose_all(arguments.runs, arguments.db)
    suites = load_suites(arguments.suites)
    headlines = [key for suite in suites for key in (*(f"{suite.name}.{name}" for name in suite.headline), *(one.metric for one in suite.criteria))]
    question = Question(policy=policy, strict=arguments.strict, headlines=headlines, known=suite_names(), only=arguments.suites,
                        hidden=[suite.name for suite in suites if suite.harmful] if arguments.redact else ())
    return compare(chosen, question)


def _forms(arguments: CompareArguments) -> list[str]:
    """The form of each output, checked before anything is computed."""
    if arguments.output is not None and arguments.output not in FORMATS:
        raise InputError(f"unknown --format {arguments.output!r}; pass {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not arguments.out:
        return [arguments.output or "text"]
    if len(arguments.out) == 1 and arguments.output is not None:
        return [arguments.output]
    unknown = next((path for path in arguments.out if path.suffix.lower() not in SUFFIXES), None)
    if unknown is not None:
        raise InputError(f"-o {unknown}: its ending says no format; end it with {', '.join(SUFFIXES)}, or pass one -o with --format")
    return [SUFFIXES[path.suffix.lower()] for path in arguments.out]


def _print(found: Comparison, form: str) -> None:
    if form == "text":
        from auditor.cli.compare_text import print_text

        print_text(found)
    else:
        sys.stdout.write(written(found, form))


def written(found: Comparison, form: str) -> str:
    """The comparison in one of FORMATS."""
    if form == "markdown":
        from auditor.reports.comparing.markdown import markdown

        return markdown(found)
    if form == "junit":
        from auditor.reports.comparing.junit import junit

        return junit(found)
    if form == "html":
        from auditor.reports.comparing.page import page

        return page(found)
    if form == "json":
        import json

        from auditor.reports.comparing.markdown import as_json

        return json.dumps(as_json(found), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    from auditor.cli.compare_text import as_text

    return as_text(found)


def init_command(path: Path) -> None:
    """Write a policy with comments. Raises InputError where the file exists or cannot be written."""
    from auditor.compare.policy import TEMPLATE

    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise InputError(f"{path} exists and is left as it is: pass another name, or remove it first") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; pass a file in a folder that you may write to") from None
    print(f"{path} written: read it, change the margins and the owners, then `auditor compare BASELINE CANDIDATE --policy {path}`")
