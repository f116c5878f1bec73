"""Steps as tasks of a Ray cluster that runs already: none is ever started from here, for its ports take orders from whoever reaches them.

A task's argument and its answer are JSON texts, and its function is found by name on the node: nothing of ours is pickled. Every task is
done by a process of its own, which ends with it: no memory, and nothing of a tenant, is left for the next one.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import ray
from ray import exceptions

from tailorbird.domain.compute import ComputeNode, StepNeed
from tailorbird.domain.errors import Internal, Unavailable

_GIB = 1 << 30
#: What a task ends with when its process, its node or what holds its answer is gone.
_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
    exceptions.LocalRayletDiedError,
)


class RayTask:
    """Implements ``PlacedTask``."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def ended(self, seconds: float) -> bool:
        """Waits for its end, at most so long."""
        done, _ = ray.wait([self._reference], timeout=seconds, fetch_local=False)
        return bool(done)

    def answer(self) -> str:
        """What the function answered. Raises Unavailable (``node_lost``, ``step_interrupted``), Internal."""
        try:
            return str(ray.get(self._reference))
        except exceptions.TaskCancelledError as error:
            raise Unavailable("the step was interrupted", "adapt again: it goes on where it stopped", code="step_interrupted") from error
        except _LOST as error:
            why = "memory ran out there" if isinstance(error, exceptions.OutOfMemoryError) else type(error).__name__
            hint = "the step is done again once its lease has run out; if nodes go on dying, look what ends them"
            raise Unavailable(f"the process that did the step is gone ({why})", hint, code="node_lost") from error
        except exceptions.RayError as error:
            # The words of an error that is not ours may hold a row's text.
            hint = "see the logs of Ray on the node (/tmp/ray/session_latest/logs), then adapt again"
            raise Internal(f"Ray ended the step with {type(error).__name__}", hint, code="compute_failed") from None

    def cancel(self) -> None:
        """Raises KeyboardInterrupt in the process that does it."""
        ray.cancel(self._reference, force=False, recursive=False)


class RayCompute:
    """Implements ``Compute`` on the cluster at ``address`` (empty: the one that ``ray start`` made on this machine)."""

    def __init__(self, address: str, work: Callable[[str], str]) -> None:
        _connect(address)
        self._work = ray.remote(max_retries=0, max_calls=1)(work)

    @property
    def protected(self) -> bool:
        """True where Ray asks for a token: this process could not have joined a cluster whose token it lacks."""
        return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"

    def nodes(self) -> tuple[ComputeNode, ...]:
        """The living nodes."""
        here = next((node for node in self._alive() if node["NodeID"] == ray.get_runtime_context().get_node_id()), None)
        return tuple(_node(node, here) for node in self._alive())

    def place(self, task: str, need: StepNeed) -> RayTask:
        """Hands the task to Ray, which waits until a node has room."""
        taken = {"num_cpus": need.cores, "num_gpus": need.gpus, "memory": int(need.memory_gb * _GIB), "name": "tailorbird step"}
        try:
            return RayTask(self._work.options(**{name: value for name, value in taken.items() if value}).remote(task))
        except (exceptions.RayError, ConnectionError) as error:
            raise _unreachable(error) from error

    def _alive(self) -> list[dict[str, Any]]:
        try:
            return [node for node in ray.nodes() if node["Alive"]]
        except (exceptions.RayError, ConnectionError, RuntimeError) as error:
            raise _unreachable(error) from error


def open_ray(address: str, work: Callable[[str], str]) -> RayCompute:
    """The cluster at ``address``, whose tasks call ``work``, a function that nodes can import. Raises Unavailable."""
    return RayCompute(address, work)


def _connect(address: str) -> None:
    """Joins the cluster, once a process. Ray's handler of SIGTERM does not take the place of ours."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "auto", namespace="tailorbird", log_to_driver=False, configure_logging=False)
    except (exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreachable(error) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, own)


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable(
        f"the Ray cluster cannot be reached ({type(error).__name__})",
        "see that it runs (ray status), that the setting ray_address names its head as HOST:PORT, and that the token is the cluster's "
        "(RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)",
        code="compute_unreachable",
    )


def _node(told: dict[str, Any], own: dict[str, Any] | None) -> ComputeNode:
    has, host, address = told["Resources"], told["NodeManagerHostname"], told["NodeManagerAddress"]
    here = own is not None and (host, address) == (own["NodeManagerHostname"], own["NodeManagerAddress"])
    near = own is not None and host == own["NodeManagerHostname"] and address.startswith("127.")
    return ComputeNode(
        host=host, cores=int(has.get("CPU", 0)), memory_gb=has.get("memory", 0) / _GIB, gpus=int(has.get("GPU", 0)), here=here or near
    )
