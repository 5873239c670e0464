"""What an endpoint was found to be able to give, and what a reader of a run must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from auditor.models.endpoint_options import NO_KEY, Address, is_exposed


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a server can do. ``seed``: kept, ignored or refused. ``echo``: max_tokens with which it gives the log-probabilities of a given
    prompt, None where it gives none. ``by_id``: it gives those of chosen next tokens. ``forced``: it gives that of a next token that a bias forces.
    ``sampling``: fields to be sent with every draw. ``bos_by_ids``: its template lacks the begin-of-sequence token, so that prompts go as ids.
    ``opened``: the template itself begins the reasoning."""

    server: str = ""
    reported: str = ""
    limit_field: str = "max_tokens"
    seed: str = "refused"
    top_logprobs: int = 0
    continues: bool = False
    echo: int | None = None
    by_id: bool = False
    forced: bool = False
    bos_by_ids: bool = False
    context: int | None = None
    reasons: bool = False
    opened: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether it gives the log-probabilities of whole options, which also means that prompts can be counted in its tokens."""
        return self.echo is not None or self.forced

    def flags(self, address: Address, key: str, reasoning_tokens: int) -> tuple[str, ...]:
        """What a reader of a run must know, the same whenever the server is the same."""
        found = ["weights cannot be verified through an endpoint: the server's word is taken for which model answers"]
        if self.reported != address.model:
            found.append(f"the server names the model {self.reported!r} in its replies")
        if not self.exact:
            found.append(f"option log-probabilities are those of each option's first token, read from the {self.top_logprobs} likeliest where it ends a word; "
                         "an option without one among them, or a whole text, has no score" if self.top_logprobs else
                         "the server gives no log-probabilities: what needs them has no score")
            if not self.continues:
                found.append("the server does not continue a begun reply: what needs one has no score")
        if self.seed != "kept":
            found.append(f"the server {'ignores' if self.seed == 'ignored' else 'takes no'} seeds: random draws cannot be repeated")
        if not self.sampling:
            found.append("random draws are subject to the server's own defaults (top-k, penalties), which this API does not name")
        if self.reasons:
            found.append(f"reasoning model: up to {reasoning_tokens} tokens of reasoning are allowed, split off and counted apart"
                         + ("" if self.exact else ", by their length where the server does not count them"))
        if key != NO_KEY and is_exposed(address.url):
            found.append("the key and all prompts cross the network unencrypted (http to another machine)")
        return tuple(found)
