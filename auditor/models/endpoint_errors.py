"""What can go wrong with one call to an endpoint, told apart by what is to be done about it."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import time
from typing import Any, Literal

import openai

MAX_WAIT = 120.0  # seconds that a server's Retry-After is obeyed for; one that asks for more has turned the request away
TOO_LONG = re.compile(r"context.?(?:length|size|window)|max_model_len|maximum (?:model|input) length|exceed_context_size|too many tokens", re.IGNORECASE)
SAID = 300  # characters of a server's words that are repeated

# busy: the same call may succeed later. retry: so too, but what came back was no reply. down: nothing came back.
# out: this server will not answer such calls at all.
# too_long: does not fit the model's context. refused: this request will not be answered.
Kind = Literal["busy", "retry", "down", "out", "too_long", "refused"]


class Failure(Exception):
    """A call without a usable reply. ``wait`` is what the server asked for (seconds), ``now_down`` that nobody listens there."""

    def __init__(self, kind: Kind, text: str, *, wait: float | None = None, now_down: bool = False, timed_out: bool = False) -> None:
        super().__init__(text)
        self.kind, self.text, self.wait, self.now_down, self.timed_out = kind, text, wait, now_down, timed_out


class Unable(Exception):
    """The server lacks what a request needs. The request gets an error, and the measurement that rests on it is not assessed."""


def failure(error: Exception, key: str, timeout: float) -> Failure:
    """The Failure that an exception of the client means. The key never appears in its text, whatever the server repeats."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, (openai.APITimeoutError, TimeoutError, asyncio.TimeoutError)):
        return Failure("down", f"no answer within {timeout:g} s", timed_out=True)
    if isinstance(error, openai.APIStatusError):
        return _status(error, key)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        refused = type(cause).__name__ == "ConnectError"
        text = "no connection" if refused else "the connection broke off"
        return Failure("down", f"{text} ({clean(str(cause) or type(cause).__name__, key)})", now_down=refused)
    return Failure("retry", f"the reply cannot be read ({type(error).__name__}: {clean(str(error), key)})")


def _status(error: openai.APIStatusError, key: str) -> Failure:
    status, said = error.status_code, clean(_said(error), key)
    text = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status in (401, 403):
        return Failure("out", f"{text}; the key is not accepted: set AUDITOR_API_KEY or OPENAI_API_KEY")
    if status == 404:
        return Failure("out", f"{text}; the server no longer serves this model here")
    if status == 429 and "insufficient_quota" in _said(error, whole=True):
        return Failure("out", f"{text}; the account has no quota left")
    wait = retry_after(error.response.headers)
    if wait is not None and wait > MAX_WAIT:
        return Failure("refused", f"{text}; the server asks to wait {wait:.0f} s, more than the {MAX_WAIT:.0f} s that are waited")
    if status in (408, 409, 425, 429):
        return Failure("busy", text, wait=wait)
    if status >= 500:
        return Failure("down", text, wait=wait)
    if status in (400, 413, 422) and TOO_LONG.search(_said(error, whole=True)):
        return Failure("too_long", text)
    return Failure("refused", text)


def retry_after(headers: Any) -> float | None:
    """Seconds that ``retry-after-ms`` or ``Retry-After`` (a number or a date) ask for; None where they say nothing usable."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, TypeError, ValueError):
        return None


def _said(error: openai.APIStatusError, whole: bool = False) -> str:
    """The server's own words: the message in its JSON, or what it sent instead."""
    body = error.body
    if whole:
        return json.dumps(body) if isinstance(body, (dict, list)) else str(body or "")
    if isinstance(body, dict):
        inner = body.get("error", body)
        found = inner.get("message", inner) if isinstance(inner, dict) else inner
        return found if isinstance(found, str) else json.dumps(found)
    text = str(body or "")
    return "an HTML page, not an API's reply" if is_html(text) else text


def is_html(text: str) -> bool:
    return text.lstrip()[:15].lower().startswith(("<!doctype html", "<html", "<head", "<body"))


def clean(text: str, key: str) -> str:
    """One line of bounded length, without the key and without characters that a terminal obeys: it may be logged as it is."""
    from auditor.models.endpoint_options import NO_KEY

    line = " ".join((text if key == NO_KEY else text.replace(key, "[key]")).split())
    line = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line)
    return line if len(line) <= SAID else line[:SAID] + "…"
