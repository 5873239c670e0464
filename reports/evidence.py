"""What a page carries so that it can be checked against the store: in a ``<meta>`` tag, as data that nothing executes.

It names the run, the head of its hash chain and every option that decided the page, so the page can be rendered again and compared as a whole;
and the auditor that made it, whose numbers it holds once more in full for an auditor that renders another page.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from markupsafe import escape

from auditor.errors import InputError
from auditor.schema import Metric, Suite, Verdict, canonical_json

NAME, FORMAT = "auditor-evidence", 1
LARGEST = 64 * 2**20  # bytes of a file that is read as a report; pages are a few megabytes
_TAG = re.compile(rf'<meta name="{NAME}" content="([^"<>]*)">')
_TEXTS = ("version", "title", "question", "method", "limits", "reference", "feedback_stage", "harmful", "headline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What was found in a page. ``kind`` is audit or compliance; ``metrics`` and ``verdicts`` are as :func:`numbers_of` gives them."""

    kind: str
    run: str
    head: str | None
    version: str
    renderer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Sequence[Any]] = ()
    verdicts: Sequence[Sequence[Any]] = ()


def carried(*, kind: str, run: str, head: str | None, options: Mapping[str, Any], numbers: Mapping[str, Any], renderer: str) -> str:
    """The content of the page's ``<meta>`` tag: ASCII, so that no character of it is shown or escaped in another way."""
    content = {"format": FORMAT, "kind": kind, "run": run, "head": head, "version": version(), "renderer": renderer, "options": options, **numbers}
    return json.dumps(json.loads(canonical_json(content)), sort_keys=True, separators=(",", ":"))


def numbers_of(metrics: Sequence[Metric], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All measurements as (name, value, interval, n, unscored) and all verdicts as (metric, group, outcome), exactly."""
    measured = [[m.key, m.value, m.ci.low if m.ci else None, m.ci.high if m.ci else None, m.n, m.n_unscored] for m in metrics]
    return {"metrics": measured, "verdicts": [[v.criterion.metric, v.criterion.group, v.outcome] for v in verdicts]}


def version() -> str:
    """The version of this auditor."""
    return metadata.version("alignment-auditor")


def renderer(suites: Mapping[str, Suite]) -> str:
    """A hash of the code and the suites' texts that a page is made from: 16 hex digits. Equal ones give equal pages."""
    texts = {name: [str(getattr(suite, text)) for text in _TEXTS] for name, suite in sorted(suites.items())}
    return hashlib.sha256((_code() + canonical_json(texts)).encode()).hexdigest()[:16]


@functools.cache
def _code() -> str:
    """A hash of this package: its code, its templates, its texts."""
    digest, folder = hashlib.sha256(), Path(__file__).parent
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and one.suffix != ".pyc"):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def as_made_by(text: str, maker: Carried) -> str:
    """The page with the version and renderer of ``maker`` in its tag: two versions may well write the same page."""
    found = _TAG.search(text)
    if found is None:
        return text
    content = json.loads(html.unescape(found[1])) | {"version": maker.version, "renderer": maker.renderer}
    return text[:found.start(1)] + str(escape(json.dumps(content, sort_keys=True, separators=(",", ":")))) + text[found.end(1):]


def read_page(path: Path) -> tuple[str, Carried]:
    """A report's text and what it carries. Raises InputError for a file that is no report of auditor, or one that carries nothing."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; pass a run, or the HTML file that `auditor report` wrote") from None
    if len(content) > LARGEST:
        raise InputError(f"{path} is no report: it is larger than {LARGEST // 2**20} MiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no report, or was damaged: byte {error.start:,} is not UTF-8 text") from None
    found = _TAG.search(text)
    if found is None:
        raise InputError(f"{path} is no report that can be checked: it does not say which run it is about; pass an HTML file that `auditor report` wrote")
    return text, _parsed(html.unescape(found[1]), path)


def _parsed(content: str, path: Path) -> Carried:
    try:
        found = json.loads(content)
        known = found.pop("format")
        result = Carried(**found)
        right = all(isinstance(text, str) for text in (result.kind, result.run, result.version, result.renderer)) and isinstance(result.options, dict)
        right = right and all(isinstance(rows, list) for rows in (result.metrics, result.verdicts))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{path}: what the page says about its run cannot be read; it was altered, or made by another version of auditor") from None
    if known != FORMAT or not right:
        raise InputError(f"{path}: what the page says about its run is of format {known!r}, this auditor knows {FORMAT}; upgrade auditor")
    return result
