"""Standards as data: which provisions our measurements and records bear on, and which they do not reach (reports/standards/*.toml).

A file holds numbers and short titles, the date on which they were checked, and sentences of our own on why a measurement bears on a
provision. It quotes nothing.
"""

from __future__ import annotations

import dataclasses
import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from auditor.errors import InputError, UnknownNameError
from auditor.reports.compliance import about

RECORDS = ("criteria", "items", "weights", "training_data", "lineage", "judge", "chain", "runs", "gaps", "limits", "groups", "environment", "sign_off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why something bears on a control: measurements (``suite.metric``), records of the store (:data:`RECORDS`), statements (keys of the about file)."""

    why: str
    metrics: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """An article, subcategory or clause. ``missing``: what of it this report cannot show. No evidence at all: auditor does not measure it."""

    number: str
    title: str
    missing: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """``as_of`` is the day on which numbers and titles were checked against ``source``."""

    name: str
    title: str
    reference: str
    source: str
    as_of: str
    noun: str
    note: str
    controls: tuple[Control, ...]


def names() -> list[str]:
    """The standards that have a file."""
    return sorted(item.name.removesuffix(".toml") for item in _folder().iterdir() if item.name.endswith(".toml"))


def read_standard(name: str) -> Standard:
    """The standard of that name. Raises UnknownNameError naming the nearest, InputError for a broken file."""
    if name not in names():
        raise UnknownNameError("standard", name, names())
    return parse(tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8")), f"{name}.toml")


def parse(table: Mapping[str, Any], place: str) -> Standard:
    """The typed form of a file. Raises InputError naming the control where something is missing or unknown."""
    controls = tuple(_control(one, place) for one in table.get("control", ()))
    numbers = [control.number for control in controls]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice:
        raise InputError(f"{place}: two controls are numbered {twice!r}; put their evidence into one")
    head = {key: value.isoformat() if isinstance(value, datetime.date) else value for key, value in table.items() if key != "control"}
    return Standard(**_checked(Standard, head | {"controls": controls}, place))


def _control(table: Mapping[str, Any], place: str) -> Control:
    place = f"{place}, control {table.get('number', '?')!r}"
    evidence = tuple(_evidence(one, place) for one in table.get("evidence", ()))
    return Control(**_checked(Control, {**table, "evidence": evidence}, place))


def _evidence(table: Mapping[str, Any], place: str) -> Evidence:
    lists = {key: tuple(table.get(key, ())) for key in ("metrics", "records", "stated")}
    if not any(lists.values()):
        raise InputError(f"{place}: evidence without metrics, records or stated")
    for kind, known, given in (("record", RECORDS, lists["records"]), ("about key", about.names(), lists["stated"])):
        for name in given:
            if name not in known:
                raise UnknownNameError(f"{kind} in {place}", name, known)
    return Evidence(**_checked(Evidence, {**table, **lists}, place))


def _checked(kind: type, values: Mapping[str, Any], place: str) -> dict[str, Any]:
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise UnknownNameError(f"key in {place}:", key, fields)
    missing = [name for name, entry in fields.items() if name not in values and entry.default is dataclasses.MISSING]
    if missing:
        raise InputError(f"{place}: {missing[0]} is missing")
    return dict(values)


def _folder() -> Any:
    return resources.files("auditor.reports") / "standards"
