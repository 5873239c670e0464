"""`auditor engines`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from auditor.errors import InputError

if TYPE_CHECKING:
    from auditor.models.resolve import EngineOptions

SHOWN = 48  # characters of a text


def engine_options(pairs: tuple[str, ...], ray: Mapping[str, Any]) -> EngineOptions:
    """The options that were typed. Raises InputError on what cannot be read."""
    from auditor.cli.running import engine_args, typed
    from auditor.models.ray_options import RayOptions
    from auditor.models.resolve import EngineOptions

    return EngineOptions(engine_args=engine_args(pairs), ray=RayOptions(**typed(ray)))


def engines_command(uris: Sequence[str], suites: Sequence[str], limit: int, options: EngineOptions, output: str) -> int:
    """Print how far the engines agree; exit 0, whatever they do."""
    from auditor.cli.output import check_format, print_json, table
    from auditor.cli.text import short
    from auditor.engine.agreement import as_rows, compare_engines

    check_format(output)
    if len(uris) < 2:
        raise InputError(f"{len(uris)} engine given; pass at least two, for instance smollm2 vllm:smollm2")
    lines = compare_engines(uris, suites, limit, options, _tell)
    if output == "json":
        print_json({"engines": list(uris), "agreement": as_rows(lines)})
        return 0
    table("Agreement of engines", ("suite", "against the first", "options", "largest move", "mean move", "greedy texts the same", "no reply"), [
        (line.suite, short(line.other), str(line.options), _nats(line.largest_move), _nats(line.mean_move),
         f"{line.same_texts} of {line.texts}" if line.texts else "–", str(line.errors)) for line in lines])
    apart = [parting for line in lines for parting in line.partings]
    if apart:
        table("Where texts part soonest", ("suite", "sample", "after characters", "first", "other"), [
            (one.suite, one.sample_id, str(one.place), _from(one.first, one.place), _from(one.second, one.place)) for one in apart])
    return 0


def _from(text: str, place: int) -> str:
    """The text around where it parts from the other, on one line."""
    return " ".join(text[max(0, place - SHOWN // 2):place + SHOWN // 2].split())


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e} nats"


def _tell(uri: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"{uri}: {done} more of {of} requests answered", file=sys.stderr)
