"""What `auditor run` says and takes about endpoints (`openai:MODEL@URL`)."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from auditor.errors import InputError
from auditor.models.endpoint_options import parse_budget, parse_price
from auditor.schema import Model


def endpoint_fields(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of EndpointOptions that were typed. Raises InputError on what cannot be read."""
    given = {name: value for name, value in typed.items() if value not in (None, ())}
    fields: dict[str, Any] = {name: given[name] for name in ("concurrency", "timeout", "retries") if name in given}
    if not math.isfinite(fields.get("timeout", 1.0)) or fields.get("timeout", 1.0) <= 0:
        raise InputError(f"--timeout {fields['timeout']}: pass seconds above 0")
    if "fail_on_error" in given:
        fields["budget"] = parse_budget(given["fail_on_error"])
    if "price" in given:
        fields["price"] = parse_price(given["price"])
    if "endpoint" in given:
        fields["servers"] = tuple(given["endpoint"])
    return fields


def tell_usage(role: str, model: Model | None) -> None:
    """Print the tokens that an endpoint has read and written in this session, and what they cost."""
    from auditor.models.responses import CachedModel

    model = model.model if isinstance(model, CachedModel) else model
    if model is None or not model.spec.uri.startswith("openai:"):
        return
    from auditor.models.endpoint import EndpointModel

    if not isinstance(model, EndpointModel):
        return
    usage = model.usage
    thought = f" and {usage.reasoning_tokens:,} of reasoning" if usage.reasoning_tokens else ""
    cost = "" if model.cost is None else f"; cost {model.cost:,.4f} at {model.options.price[0]:g}, {model.options.price[1]:g} a million"  # type: ignore[index]
    failed = f"; {model.failed} requests got no reply" if model.failed else ""
    print(f"note: the {role} read {usage.prompt_tokens:,} tokens and wrote {usage.completion_tokens:,}{thought}, as the server counts{cost}{failed}",
          file=sys.stderr)
