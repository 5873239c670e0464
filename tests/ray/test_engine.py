"""The same numbers on two workers as without Ray, whoever dies. One real instance of Ray for all of it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal

import pytest

from auditor.engine.audit import AuditOptions, prepare, workers
from auditor.engine.drift import measure_drift
from auditor.errors import EngineError, InputError, ModelError
from auditor.models import ray_pool
from auditor.models.ray_options import RayOptions
from auditor.models.resolve import EngineOptions, open_model
from auditor.models.responses import CachedModel
from auditor.schema import Sample, user


def without_name(reply):
    return dataclasses.replace(reply, model="")


def answers(model, requests, between=lambda number: None):
    """Every reply in the order in which it came; ``between`` is called after each batch."""
    found = []
    for number, batch in enumerate(model.plan(requests)):
        found += [(request.key, without_name(reply)) for request, reply in zip(batch, model.run(batch), strict=True)]
        between(number)
    return found


def test_two_workers_give_the_engine_s_own_numbers(model, plain, asked, monkeypatch):
    busy = set()
    make = model.pool._make
    monkeypatch.setattr(model.pool, "_make", lambda seat, call: (busy.add(seat.number), make(seat, call)))
    assert model.plan(asked) == plain.plan(asked)
    assert answers(model, asked) == answers(plain, asked)
    assert busy == {0, 1}
    assert (model.spec.uri, model.spec.engine) == (f"ray:{plain.spec.uri}", f"ray/{plain.spec.engine}")
    assert dataclasses.replace(model.spec, uri="", engine="") == dataclasses.replace(plain.spec, uri="", engine="")
    assert {reply.model for batch in model.plan(asked[:3]) for reply in model.run(batch)} == {model.spec.uri}


def test_a_worker_killed_in_the_middle_changes_nothing(model, plain, asked, caplog):
    before = [seat.place.pid for seat in model.pool.seats]

    def kill(number):
        if number == 1:  # calls lie with both workers by then
            assert model.pool.seats[0].calls
            os.kill(before[0], signal.SIGKILL)

    assert answers(model, asked, kill) == answers(plain, asked)
    assert model.pool.deaths == 1
    assert "batches are asked again" in caplog.text
    assert answers(model, asked) == answers(plain, asked)
    assert model.pool.seats[1].place.pid == before[1]


def test_batches_that_are_passed_over_and_a_plan_that_is_dropped(model, plain, asked):
    """A resumed run skips what is recorded; a cache asks a part of a batch."""
    batches = model.plan(asked)
    for batch in (batches[0], batches[5], batches[-1][:1], batches[7]):
        assert list(map(without_name, model.run(batch))) == list(map(without_name, plain.run(batch)))
    assert answers(model, asked[:5]) == answers(plain, asked[:5])
    assert not model.ahead


def test_the_response_cache_knows_the_replies_of_the_engine_itself(model, plain, asked, tmp_path):
    first, both = answers(CachedModel(plain, tmp_path / "one"), asked[:10]), []
    shutil.copy(tmp_path / "one", tmp_path / "two")
    for engine, name in ((plain, "one"), (model, "two")):
        cached = CachedModel(engine, tmp_path / name)
        both.append(answers(cached, asked))
        assert (cached.found, cached.asked) == (10, len(asked) - 10)
    assert both[0] == both[1]
    assert dict(first).items() <= dict(both[1]).items()


def test_drift_is_measured_in_a_worker_and_other_weights_are_refused(model, own_checkpoint, tiny_checkpoint, caplog):
    options = EngineOptions(dtype="bfloat16")
    samples = [Sample(id=str(place), messages=(user(f"word {place}"),), cluster_id="c") for place in range(4)]
    plain = open_model(str(own_checkpoint), options)
    expected = measure_drift(plain, str(own_checkpoint), EngineOptions(), samples)
    assert expected.largest_logprob_move > 0
    rayed = open_model(f"ray:{own_checkpoint}", dataclasses.replace(options, ray=RayOptions(workers=1)))
    assert measure_drift(rayed, rayed.spec.uri, EngineOptions(), samples) == expected
    weights = own_checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    os.kill(rayed.pool.seats[0].place.pid, signal.SIGKILL)
    with pytest.raises(ModelError, match="does not hold the same model as the first one: weights_hash"):
        rayed.plan([])


def test_a_judge_on_workers_beside_a_model_without(model, plain, tiny_checkpoint, tmp_path):
    options = AuditOptions(model=str(tiny_checkpoint), judge=f"ray:{tiny_checkpoint}", db=tmp_path / "a.duckdb", suites=("confidence",), limit=4,
                           engine=EngineOptions(ray=RayOptions(workers=1)))
    prepared = prepare(options)
    assert (prepared.model.spec.engine, prepared.judge_model.spec.engine) == (plain.spec.engine, f"ray/{plain.spec.engine}")
    assert not prepared.spec.judge_is_independent  # the same weights, whatever runs them
    assert workers(prepared)["workers_used"] == prepared.ray.workers == 1


@pytest.mark.parametrize(("options", "says"), [(RayOptions(gpus=1), "do not fit"), (RayOptions(gpus=2), "the built-in engine uses one GPU")])
def test_more_than_the_machine_has(model, tiny_checkpoint, options, says):
    model.cluster.gpus_taken += 1000  # on a machine with GPUs too
    try:
        with pytest.raises(InputError, match=says):
            open_model(f"ray:{tiny_checkpoint}", EngineOptions(ray=options))
    finally:
        model.cluster.gpus_taken -= 1000


def test_a_batch_that_every_worker_dies_of(model, asked, monkeypatch):
    """Last: it leaves a worker dead."""
    monkeypatch.setattr(ray_pool, "LIVES", 1)
    batch = model.plan(asked)[0]
    os.kill(model.pool.seats[0].place.pid, signal.SIGKILL)
    os.kill(model.pool.seats[1].place.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"1 workers died over the same batch .*--resume"):
        list(model.run(batch))
