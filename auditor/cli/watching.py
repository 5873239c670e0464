"""The progress bar of a run, on standard error, only where that is a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Barred:
    """What shows a bar, if it has one, for as long as it is entered."""

    bar: Progress | None

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()


class Watching(Barred):
    """Draws a bar per suite with its ETA; elsewhere than a terminal prints one line when a suite is complete."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            self.bar = Progress(TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TextColumn("requests"),
                                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console)
        self.task: int | None = None
        self.expected = 0
        self.started = 0.0
        self.samples = 0

    def suite(self, name: str, samples: int) -> None:
        self.started, self.expected, self.samples = time.monotonic(), 0, samples
        if self.bar:
            self.task = int(self.bar.add_task(name, total=None))

    def expect(self, requests: int) -> None:
        self.expected += requests
        if self.bar and self.task is not None:
            self.bar.update(self.task, total=self.expected)  # type: ignore[arg-type]

    def advance(self, requests: int) -> None:
        if self.bar and self.task is not None:
            self.bar.update(self.task, advance=requests)  # type: ignore[arg-type]

    def done(self, name: str) -> None:
        if not self.bar:
            took = time.monotonic() - self.started
            print(f"{name}: {self.samples} samples, {self.expected} requests, {took:.0f} s", file=sys.stderr)
