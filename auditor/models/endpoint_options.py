"""What a user says about an endpoint: ``openai:MODEL@URL``, how hard it may be driven, how much may fail, what a token costs."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from auditor.errors import InputError, ModelError

SCHEME = "openai:"
EXAMPLE = "openai:MODEL@http://127.0.0.1:8000/v1"
KEYS = ("AUDITOR_API_KEY", "OPENAI_API_KEY")  # the first that is set wins
NO_KEY = "none"  # the client insists on one; servers that want none ignore it
MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudget:
    """How many requests may stay without a reply: at most ``count`` of them, or at most a ``share`` of those asked."""

    count: int | None = None
    share: float | None = 0.05

    def allows(self, failed: int, asked: int) -> bool:
        """Whether a run may go on after ``failed`` of the ``asked`` requests (those planned so far) got no reply."""
        return failed <= (self.count if self.count is not None else (self.share or 0.0) * asked)

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.share:.3g} of the requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """How an endpoint is asked. None of it decides a number, so none of it is part of a run's specification.

    ``concurrency``: requests in flight over all servers. ``timeout``: seconds until an attempt is given up. ``retries``: further attempts
    after the first. ``backoff``: seconds before the first of them, doubled each time. ``servers``: further URLs that serve the same model.
    ``price``: (read, written) per million tokens, in any currency.
    """

    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 6
    backoff: float = 0.5
    budget: ErrorBudget = ErrorBudget()
    servers: tuple[str, ...] = ()
    price: tuple[float, float] | None = None


    @classmethod
    def from_record(cls, stored: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> EndpointOptions:
        """The options as a run's record holds them (None where it holds none), with ``changes`` in place of its own."""
        fields = dict(stored or {})
        if "budget" in fields:
            fields["budget"] = ErrorBudget(**fields["budget"])
        fields |= {name: tuple(fields[name]) for name in ("servers", "price") if fields.get(name) is not None}
        return cls(**{**fields, **changes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A model's name and the URL it is served under."""

    model: str
    url: str


def parse_uri(uri: str) -> Address:
    """Read ``openai:MODEL@URL``. Raises ModelError; the message never repeats what may be a password."""
    found = re.fullmatch(r"(.+?)@(https?://.*)", uri.removeprefix(SCHEME), re.IGNORECASE)
    if found is None:
        raise ModelError(f"an endpoint is written {EXAMPLE}: the model's name as the server lists it, @, and a URL with http:// or https://")
    return Address(model=found[1], url=check_url(found[2]))


def check_url(url: str) -> str:
    """The URL without a slash at its end. Raises ModelError where it has no host, or holds what belongs in the environment."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ModelError(f"the endpoint's URL cannot be read ({error}); write it as in {EXAMPLE}") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ModelError("the endpoint's URL holds a user name or password, which would be stored with the run; "
                         f"take it out and set the key as {KEYS[0]} or {KEYS[1]}")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ModelError("the endpoint's URL has a query or fragment, which may hold a key and would be stored with the run; "
                         f"pass the URL up to and with /v1, and set the key as {KEYS[0]} or {KEYS[1]}")
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or port == 0 or re.search(r"\s", url):
        raise ModelError(f"{url!r} is no URL of an endpoint; write it as in {EXAMPLE}")
    return url.rstrip("/")


def api_key() -> str:
    """The key from the environment, or a stand-in where none is set. Raises ModelError on one that no header can carry."""
    name, key = next(((name, os.environ[name]) for name in KEYS if os.environ.get(name, "").strip()), ("", NO_KEY))
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ModelError(f"the key in {name} holds spaces or characters that no HTTP header can carry; set it anew")
    return key


def is_exposed(url: str) -> bool:
    """Whether a key sent to ``url`` would cross a network in the clear."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    return parts.scheme.lower() == "http" and not loopback


def parse_budget(text: str) -> ErrorBudget:
    """``10`` is a count; ``0.05`` and ``5%`` are shares. Raises InputError on anything else."""
    try:
        if re.fullmatch(r"\d+", text.strip()):
            return ErrorBudget(count=int(text), share=None)
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"--fail-on-error {text!r}: pass a count such as 10, or a share from 0.0 to 1.0 such as 0.05")
    return ErrorBudget(count=None, share=share)


def parse_price(text: str) -> tuple[float, float]:
    """``IN,OUT``: the price of a million tokens read and of a million written. Raises InputError."""
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        read = written = -1.0
    if not (0 <= read < float("inf") and 0 <= written < float("inf")):
        raise InputError(f"--price {text!r}: pass two numbers, the price of a million tokens read and of a million written, such as 0.15,0.60")
    return read, written
