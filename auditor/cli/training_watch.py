"""Watching a training run: a bar on a terminal, sparse lines elsewhere, TensorBoard where asked; all on standard error or in files."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from auditor.cli.text import printable
from auditor.cli.watching import Barred
from auditor.errors import InputError
from auditor.training.core.journal import Reporter

SHOWN = (("loss", "loss", ".4g"), ("accuracy", "accuracy", ".2f"), ("reward", "reward", ".3g"), ("kl", "KL", ".3g"), ("length", "length", ".0f"),
         ("tokens_per_second", "tokens/s", ",.0f"))
LINES = 10  # lines a stage where there is no terminal
SILENCE = 60.0  # seconds after which a line is printed in any case

Values = Mapping[str, float | None]


def summary(values: Values) -> str:
    """The statistics that everybody looks at, those that there are."""
    return "  ".join(f"{label} {value:{form}}" for name, label, form in SHOWN if (value := values.get(name)) is not None)


class Watching(Barred):
    """Draws a bar a stage; elsewhere than on a terminal prints about ten lines a stage."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            self.bar = Progress(TextColumn("{task.description:<12}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[values]}"),
                                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console)
        self.task: Any = None
        self.steps = self.start = self.last = 0
        self.started = self.spoke = 0.0

    def stage(self, name: str, steps: int, done: int) -> None:
        self.steps, self.start, self.last = steps, done, done
        self.started = self.spoke = time.monotonic()
        if self.bar:
            self.task = self.bar.add_task(printable(name), total=steps, completed=done, values="")
        else:
            self.say(f"{name}: {steps} steps" + (f", {done} of them done before" if done else ""))

    def step(self, name: str, step: int, values: Values) -> None:
        if self.bar:
            self.bar.update(self.task, completed=step, values=summary(values))
            return
        now = time.monotonic()
        first, last = step == self.start + 1, step == self.steps
        if first or last or step - self.last >= self.steps / LINES or now - self.spoke >= SILENCE:
            left = (now - self.started) / (step - self.start) * (self.steps - step)
            self.say(f"{name} {step}/{self.steps}  {summary(values)}" + ("" if last else f"  {duration(left)} left"))
            self.last, self.spoke = step, now

    def say(self, text: str) -> None:
        if self.bar:
            self.bar.console.print(printable(text), markup=False, highlight=False)
        else:
            print(printable(text), file=sys.stderr, flush=True)

    def finished(self, name: str) -> None:
        if not self.bar:
            self.say(f"{name}: done in {duration(time.monotonic() - self.started)}")


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Board:
    """Writes every statistic for TensorBoard, a run a stage. Raises InputError where the package is absent."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("--tensorboard needs the package tensorboard, which is not installed: pip install tensorboard, "
                             "or leave the option out (every statistic is in steps.jsonl and in the database)") from None
        self.folder, self.make = folder, SummaryWriter
        self.writer: Any = None

    def stage(self, name: str, steps: int, done: int) -> None:
        self.finished(name)
        try:
            self.writer = self.make(str(self.folder / name), purge_step=done + 1)
        except OSError as error:
            raise InputError(f"--tensorboard {self.folder}: cannot be written: {error}; pass another folder") from None

    def step(self, name: str, step: int, values: Values) -> None:
        for key, value in values.items():
            if value is not None:
                self.writer.add_scalar(key, value, step)

    def say(self, text: str) -> None: ...

    def finished(self, name: str) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Together:
    """Several reporters as one."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self.reporters = reporters

    def stage(self, name: str, steps: int, done: int) -> None:
        for reporter in self.reporters:
            reporter.stage(name, steps, done)

    def step(self, name: str, step: int, values: Values) -> None:
        for reporter in self.reporters:
            reporter.step(name, step, values)

    def say(self, text: str) -> None:
        for reporter in self.reporters:
            reporter.say(text)

    def finished(self, name: str) -> None:
        for reporter in self.reporters:
            reporter.finished(name)
