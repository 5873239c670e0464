"""Ray itself, once in a process: a local instance for this run alone, or a cluster that is joined.

A local instance listens on the loopback address only, asks for a random token, writes below a folder that only this user can open, and is ended with
the process, after Ctrl-C too. It sends no statistics and has no dashboard. Nothing of Ray's is printed.
"""

from __future__ import annotations

import atexit
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.errors import EngineError, InputError, ModelError
from auditor.models.ray_options import Machine

MISSING = "ray: needs Ray, which is not installed here; pip install 'alignment-auditor[ray]', or pass the model without ray:"
# No statistics; no line of Ray's own on standard output; no word about its plans for CUDA_VISIBLE_DEVICES (the workers set it themselves).
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# Ray turns 127.0.0.1 into an address that other machines reach, and then listens to all of them, except where it never runs on several.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
OBJECT_STORE = 80 * 2**20  # bytes; the least that Ray takes is 75 MiB, and replies are small
LONGEST_TEMP = 16  # characters of a temporary folder below which Ray's sockets still have names that a system takes
ELSEWHERE = "192.0.2.1"  # kept for documentation (RFC 5737): no machine has it
KNOCK = 5.0  # seconds for a cluster's head to take a connection


@dataclass(slots=True)
class Cluster:
    """``gpus_taken``: GPUs of the workers that this process has started so far."""

    ray: Any
    local: bool
    folder: Path | None = None
    started: bool = True  # by us, so that we end it
    gpus_taken: float = 0.0
    closing: bool = field(default=False)

    def machines(self) -> list[Machine]:
        """Those alive, with their GPUs less what this process has taken already."""
        found, taken = [], self.gpus_taken
        for node in self.ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                used = min(taken, has.get("GPU", 0.0))
                taken -= used
                found.append(Machine(name=node["NodeManagerHostname"], cpus=has.get("CPU", 0.0), gpus=has.get("GPU", 0.0) - used, taken=used))
        return found

    def close(self) -> None:
        """End what was started and remove its files."""
        global _cluster
        if self.closing:
            return
        self.closing, _cluster = True, None
        if self.started:
            self.ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


_cluster: Cluster | None = None


def import_ray(settings: Mapping[str, str]) -> Any:
    """The library; ``settings`` are for its environment, most of which it reads when it is imported. Raises ModelError where it is not installed."""
    earlier = "ray" in sys.modules  # vLLM imports it
    os.environ.update({**QUIET, **settings})
    try:
        import ray
    except ImportError as error:
        raise ModelError(MISSING if getattr(error, "name", None) == "ray" else f"Ray cannot be imported: {error}; install it anew") from None
    if earlier and not ray.is_initialized():
        ray._raylet.Config.initialize("")  # type: ignore[attr-defined]  # as ray.init itself does where it turns tokens on
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = not LOOPBACK.keys() & settings.keys()
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


def cluster(address: str | None) -> Cluster:
    """The cluster of this process; started or joined by the first call. Raises InputError where none answers at ``address``."""
    global _cluster
    if _cluster is not None:
        return _cluster
    if address is None:
        ray = import_ray(LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"})
    else:
        ray = import_ray(LOOPBACK if address != "auto" and _knock(address) else {})
    if ray.is_initialized():  # whoever uses us as a library may have started it
        _cluster = Cluster(ray, local=False, started=False)
    else:
        _cluster = _start(ray) if address is None else _join(ray, address)
    atexit.register(_cluster.close)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)  # Ray's own prints a trace
    return _cluster


def _terminated(number: int, _: object) -> None:
    """Die of the signal as without Ray, with nothing left behind."""
    close()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def close() -> None:
    """End Ray, if it runs: for a way out of the process that skips its exit handlers."""
    if _cluster is not None:
        _cluster.close()


def _start(ray: Any) -> Cluster:
    import torch

    below = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="auditor-ray-", dir=below if len(below) <= LONGEST_TEMP else "/tmp"))  # mode 700; Ray opens its own to all
    try:
        ray.init(address="local", num_cpus=1, num_gpus=torch.cuda.device_count(), include_dashboard=False, log_to_driver=False, configure_logging=False,
                 object_store_memory=OBJECT_STORE, _node_ip_address="127.0.0.1", _temp_dir=str(folder / "ray"))
        if not ray.get_runtime_context().gcs_address.startswith("127."):
            raise RuntimeError("it listens to more than this machine")
    except BaseException as error:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise EngineError(f"Ray could not be started on this machine: {reason(error)}; pass the model without ray:, or --ray-address") from None
    return Cluster(ray, local=True, folder=folder)


def _join(ray: Any, address: str) -> Cluster:
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (Exception, SystemExit) as error:  # Ray leaves the process where what answers is no Ray
        raise InputError(f"--ray-address {address}: no cluster can be joined: {reason(error)}. This machine must be part of it (ray start), with the same "
                         "versions of Ray and Python; a cluster with tokens wants RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN") from None
    return Cluster(ray, local=False)


def _knock(address: str) -> bool:
    """See that something answers at the address; whether it does so on this machine's loopback address alone."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK) as line:
            if not ipaddress.ip_address(line.getpeername()[0]).is_loopback:
                return False
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray-address {address}: nothing answers there ({error}); start a cluster with ray start --head, or leave the option out for a "
                         "local one") from None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.connect((ELSEWHERE, 9))  # sends nothing: it only tells which of our addresses would be used
            ours = line.getsockname()[0]
        socket.create_connection((ours, int(port)), timeout=KNOCK).close()
    except OSError:
        return True
    return False


def reason(error: BaseException) -> str:
    """The first line of an error of Ray's that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines and not isinstance(error, SystemExit) else type(error).__name__)[:300]
