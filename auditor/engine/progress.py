"""What the engine tells whoever watches. The command line draws a bar from it; a library user gets silence."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def suite(self, name: str, samples: int) -> None:
        """A suite begins."""

    def expect(self, requests: int) -> None:
        """So many more requests are known."""

    def advance(self, requests: int) -> None:
        """So many were answered."""

    def done(self, name: str) -> None:
        """A suite is complete."""


class Silent:
    """Progress that nobody sees."""

    def suite(self, name: str, samples: int) -> None: ...

    def expect(self, requests: int) -> None: ...

    def advance(self, requests: int) -> None: ...

    def done(self, name: str) -> None: ...
