"""Writing the report: one self-contained HTML file that loads nothing, runs nothing, and shows hostile text as text.

The Content-Security-Policy allows images from data URIs and the one style block by its hash; scripts are not allowed at all.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.errors import InputError
from auditor.reports import glossary, wording
from auditor.reports.build import build_page
from auditor.reports.text import visible, visible_markup
from auditor.reports.view import Page
from auditor.schema import Comparison, Suite
from auditor.store import Store


def write_report(
    store: Store, run_id: str, out: Path, *, suites: Mapping[str, Suite], redact: bool = False, others: Mapping[str, Sequence[Comparison]] | None = None
) -> Path:
    """Write the report of a run to ``out`` and return its path; an existing file is replaced in one step.

    ``suites`` give the texts (title, question, method, limits). ``others`` are further runs shown side by side, each with its
    differences from this one on the same items (an empty list: nothing is said of them). ``redact`` leaves out the transcripts of
    suites whose texts may be harmful.

    Raises InputError if ``out`` cannot be written, UnknownNameError for an unknown run, StoreError if the store cannot be read.
    """
    out = Path(out)
    with store.session():
        page = build_page(store, run_id, suites=suites, redact=redact, others=others)
    return write_atomically(out, render(page))


def render(page: Page) -> str:
    """The page's HTML."""
    environment = template_environment()
    css = environment.get_template("style.css").render()
    context = {
        "page": page,
        "css": Markup(css),
        "csp": policy(css),
        "words": wording.WORDS,
        "headings": wording.HEADINGS,
        "terms": glossary.TERMS,
        "general_method": glossary.METHOD,
        "conformity": glossary.conformity(not page.not_evidence),
    }
    return environment.get_template("report.html").render(context)


@functools.cache
def template_environment() -> Environment:
    """Autoescape for everything; each printed text has its invisible characters written out first."""
    environment = Environment(
        loader=PackageLoader("auditor.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible_markup
    return environment


def _finalize(value: Any) -> Any:
    """Runs over every printed expression: plain text becomes visible text (still to be escaped), markup of our own stays."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value)
    return value


def policy(css: str) -> str:
    """The Content-Security-Policy that allows this style block and data images, nothing else."""
    digest = base64.b64encode(hashlib.sha256(css.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def write_atomically(out: Path, text: str) -> Path:
    """Write beside ``out`` and rename, so that nobody ever sees half a report. Raises InputError where that cannot be done."""
    temporary: str | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # a temporary file is private, a report is an ordinary one
        os.replace(temporary, out)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(
            f"cannot write the report to {str(out)!r}: {error.strerror or error}; pass -o with a file in a folder that you may write to"
        ) from None
    return out


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
