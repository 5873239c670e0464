"""How many workers, of what size; what is refused before Ray is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from auditor.engine.agreement import compare_engines
from auditor.errors import InputError, ModelError
from auditor.models.ray_cluster import cluster
from auditor.models.ray_options import Machine, RayOptions, Shape, gpus_of_engine, shape
from auditor.models.resolve import EngineOptions, absolute, open_model

PLAIN = (Machine(name="a", cpus=8, gpus=0), Machine(name="b", cpus=4, gpus=0))
GPUS = (Machine(name="a", cpus=32, gpus=4), Machine(name="b", cpus=32, gpus=2))


@pytest.mark.parametrize(("options", "machines", "more", "expected"), [
    (RayOptions(), PLAIN, {}, (2, 4, 0, 4)),  # one a machine, each as large as fits everywhere
    (RayOptions(workers=3), PLAIN, {}, (3, 4, 0, 4)),
    (RayOptions(workers=5), PLAIN, {}, (5, 2, 0, 2)),
    (RayOptions(workers=3), PLAIN, {"threads": 2}, (3, 2, 0, 2)),
    (RayOptions(), GPUS, {}, (6, 1, 1, 1)),
    (RayOptions(), GPUS, {"parallel": 2}, (3, 1, 2, 1)),
    (RayOptions(workers=8, gpus=0.5), GPUS, {"threads": 4}, (8, 4, 0.5, 4)),
    (RayOptions(gpus=0), GPUS, {}, (2, 32, 0, 32)),
    (RayOptions(workers=2), PLAIN[:1], {"local_threads": 8}, (2, 0, 0, 4)),
    (RayOptions(workers=3), PLAIN[:1], {"local_threads": 2}, (3, 0, 0, 1)),
    (RayOptions(workers=2), PLAIN[:1], {"local_threads": 8, "threads": 6}, (2, 0, 0, 6)),
])
def test_shapes(options, machines, more, expected):
    found = shape(options, machines, **{"parallel": 0, "threads": None, "local_threads": None, **more})
    assert found == Shape(**dict(zip(("workers", "cpus", "gpus", "threads"), expected, strict=True)))
    assert sum(machine.holds(found.cpus, found.gpus) for machine in machines) >= found.workers


@pytest.mark.parametrize(("options", "machines", "threads", "says"), [
    (RayOptions(workers=7), GPUS, None, "7 workers of 1 GPUs each do not fit"),
    (RayOptions(workers=4, gpus=2), GPUS, None, "one GPU"),
    (RayOptions(workers=13), PLAIN, None, "13 workers of 1 threads each do not fit"),
    (RayOptions(workers=2), PLAIN, 8, "2 workers of 8 threads each do not fit"),
    (RayOptions(gpus=0.5), PLAIN, None, "do not fit"),
    (RayOptions(), (Machine(name="a", cpus=8, gpus=0, taken=1),), None, "1 workers of 1 GPUs each do not fit"),  # a judge behind a model that has them all
])
def test_what_does_not_fit(options, machines, threads, says):
    with pytest.raises(InputError, match=says):
        shape(options, machines, parallel=0, threads=threads, local_threads=None)


@pytest.mark.parametrize("options", [{"workers": 0}, {"gpus": -1}, {"gpus": 1.5}, {"gpus": float("nan")}, {"address": "ray://head:10001"}, {"address": "head"},
                                     {"address": "user:secret@head:6379"}])
def test_options_that_make_no_sense(options):
    with pytest.raises(InputError, match="pass "):
        RayOptions(**options)


def test_gpus_of_an_engine():
    assert gpus_of_engine("./model", ()) == 0
    assert gpus_of_engine("vllm:./model", ()) == 1
    assert gpus_of_engine("vllm:./model", (("pipeline_parallel_size", "2"), ("tensor_parallel_size", "4"))) == 8


@pytest.mark.parametrize(("uri", "says"), [
    ("ray:openai:m@http://127.0.0.1:9/v1", "pass openai:m@http"), ("ray:recorded:f.jsonl", "pass recorded:f.jsonl"), ("ray:ray:smollm2", "once is enough"),
    ("ray:./none", "no model at './none'"), ("ray:vllm:./none", "no model at './none'"), ("ray:", "the model's name is empty")])
def test_names_that_are_refused(uri, says):
    with pytest.raises(ModelError, match=says):
        open_model(uri)


def test_names_and_options_of_another_engine(tiny_checkpoint, monkeypatch):
    monkeypatch.chdir(tiny_checkpoint.parent)
    assert absolute(f"ray:vllm:{tiny_checkpoint.name}") == f"ray:vllm:{tiny_checkpoint}"
    with pytest.raises(ModelError, match="are for a model written ray:NAME"):
        open_model(str(tiny_checkpoint), EngineOptions(ray=RayOptions(workers=2)))
    with pytest.raises(ModelError, match="is for a model written vllm:NAME"):
        open_model(f"ray:{tiny_checkpoint}", EngineOptions(engine_args=(("x", "1"),)))


def test_workers_for_engines_that_have_none():
    with pytest.raises(InputError, match="none of these is"):
        compare_engines(["smollm2", "vllm:smollm2"], (), 4, EngineOptions(ray=RayOptions(workers=2)))


def test_no_cluster_at_the_address():
    with pytest.raises(InputError, match="nothing answers there"):
        cluster("127.0.0.1:9")


def test_without_ray_the_extra_is_named(tiny_checkpoint, tmp_path):
    code = f"import sys; sys.modules['ray'] = None; sys.argv = ['auditor', 'run', 'ray:{tiny_checkpoint}']; from auditor.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'alignment-auditor[ray]'" in done.stderr
    assert "Traceback" not in done.stderr
