"""A real Ray instance of two workers for this process, and what is asked of it."""

from __future__ import annotations

import dataclasses

import pytest

from auditor.models import ray_cluster
from auditor.models.ray_options import RayOptions
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import ask, score_options, user

OPTIONS = EngineOptions(batch_rows=2)


def questions():
    """Greedy, drawn, and of options; of several lengths."""
    made = []
    for place in range(8):
        prompt = [user("word " * place + f"number {place}?")]
        made += [ask(prompt, max_tokens=12), ask(prompt, max_tokens=12, temperature=1.0), score_options(prompt, ["A", "B, the second"])]
    return [dataclasses.replace(request, suite="s", sample_id=f"i{place}", seed=100 + place) for place, request in enumerate(made)]


@pytest.fixture(scope="session")
def asked():
    return questions()


@pytest.fixture(scope="session")
def plain(tiny_checkpoint):
    """The engine without Ray."""
    return open_model(str(tiny_checkpoint), OPTIONS)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    yield open_model(f"ray:{tiny_checkpoint}", dataclasses.replace(OPTIONS, ray=RayOptions(workers=2)))
    ray_cluster.close()
