"""What runs in a Ray worker: one engine, opened there. Nothing of it raises: Ray would wrap the error and its traceback; what went wrong is returned."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace

from auditor.errors import AuditorError, InputError
from auditor.models.identity import installed
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import Generation, Model, ModelSpec, Request

PACKAGES = ("alignment-auditor", "torch", "transformers", "tokenizers", "vllm")  # of other versions on another machine, numbers may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker runs."""

    node: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a worker holds: the inner engine's own description, and the versions that bear on its numbers."""

    spec: ModelSpec
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error of the product's own; ``of_input``: what the user passed is wrong. ``node`` is where."""

    of_input: bool
    text: str
    node: str


class Worker:
    """One engine in a process of its own. ``gpus``: those given to it; with none it must not see any."""

    def __init__(self, inner: str, options: EngineOptions, gpus: float) -> None:
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["OMP_NUM_THREADS"] = str(options.threads or 1)
        self.inner, self.options = inner, options
        self.model: Model | None = None
        self.beside: tuple[EngineOptions, Model] | None = None

    def place(self) -> Place:
        return Place(node=platform.node(), pid=os.getpid())

    def open(self) -> Opened | Refusal:
        """Load the engine."""
        try:
            self.model = open_model(self.inner, self.options)
        except AuditorError as error:
            return _refusal(error)
        return Opened(spec=self.model.spec, versions={"python": platform.python_version(), **installed(PACKAGES)})

    def plan(self, requests: Sequence[Request]) -> list[list[int]] | Refusal:
        """The engine's own batches, as places in ``requests``."""
        places = {id(request): place for place, request in enumerate(requests)}
        try:
            return [[places[id(request)] for request in batch] for batch in self._engine().plan(requests)]
        except AuditorError as error:
            return _refusal(error)

    def run(self, requests: Sequence[Request]) -> list[Generation] | Refusal:
        """One batch's replies."""
        self.beside = None
        try:
            return list(self._engine().run(requests))
        except AuditorError as error:
            return _refusal(error)

    def run_beside(self, options: EngineOptions, requests: Sequence[Request]) -> list[Generation] | Refusal:
        """Replies of the same weights opened once more with other options, for as long as nothing else is asked."""
        try:
            if self.beside is None or self.beside[0] != options:
                self.beside = None
                self.beside = (options, open_model(self.inner, replace(options, threads=self.options.threads)))
            model = self.beside[1]
            found = {request.key: reply for batch in model.plan(requests) for request, reply in zip(batch, model.run(batch), strict=True)}
        except AuditorError as error:
            return _refusal(error)
        return [found[request.key] for request in requests]

    def _engine(self) -> Model:
        assert self.model is not None, "open() comes first"
        return self.model


def _refusal(error: AuditorError) -> Refusal:
    return Refusal(of_input=isinstance(error, InputError), text=str(error), node=platform.node())
