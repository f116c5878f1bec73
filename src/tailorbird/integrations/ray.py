"""Steps as tasks of a Ray cluster that runs already: none is ever started from here, for its ports take orders from whoever reaches them.

A task's argument and its answer are JSON texts, and its function is found by name on the node: nothing of ours is pickled. Each task is
done by a process of its own, which ends with it, so that all that lives is booked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import ray
from ray import exceptions
from ray._private import worker

from tailorbird.domain.errors import Internal, Unavailable
from tailorbird.domain.run import ComputeNode, StepNeed

_GIB = 1 << 30
#: What a task ends with when its process, its node or what holds its answer is gone.
_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
    exceptions.LocalRayletDiedError,
)
#: Addresses at which Ray's processes listen on loopback alone (seen with 2.60); at any other of 127.0.0.0/8, too, they listen to all.
_LOOPBACK = frozenset({"127.0.0.1"})
#: A process that joins the cluster at an address as somebody who was given no token, and does nothing there.
_STRANGER = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)"
_STRANGER_SECONDS = 90


class RayTask:
    """Implements ``PlacedTask``."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def ended(self, seconds: float) -> bool:
        """Waits for its end, at most so long. Raises Unavailable (``compute_unreachable``)."""
        with _joined():
            done, _ = ray.wait([self._reference], timeout=seconds, fetch_local=False)
        return bool(done)

    def answer(self) -> str:
        """What the function answered. Raises Unavailable (``node_lost``, ``step_interrupted``, ``compute_unreachable``), Internal."""
        try:
            with _joined(exceptions.RaySystemError):
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
            raise Internal(f"Ray ended the step with {type(error).__name__}", hint) from None

    def cancel(self) -> None:
        """Raises KeyboardInterrupt in the process that does it. Raises Unavailable (``compute_unreachable``)."""
        with _joined():
            ray.cancel(self._reference, force=False, recursive=False)


class RayCompute:
    """Implements ``Compute`` on the cluster at ``address`` (empty: the one that ``ray start`` made on this machine), whose tasks call
    ``work``: ``MODULE:FUNCTION``, which nodes can import. Raises Unavailable."""

    def __init__(self, address: str, work: str) -> None:
        self._address = address
        self._work = work
        self._do = ray.remote(max_retries=0, max_calls=1)(_perform)
        self._refuses_strangers = False
        _join(address)

    @property
    def protected(self) -> bool:
        """True where the head and all nodes listen on loopback alone, or the head was seen to refuse a process without a token. Nodes are
        not asked one by one: one without the token cannot join such a head. Raises Unavailable (``compute_unreachable``)."""
        nodes = self._alive()
        with _joined():
            head = str(ray.get_runtime_context().gcs_address)
        if {node["NodeManagerAddress"] for node in nodes} | {head.rpartition(":")[0]} <= _LOOPBACK:
            return True
        if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
            return False
        self._refuses_strangers = self._refuses_strangers or _refuses_strangers(head)
        return self._refuses_strangers

    def nodes(self) -> tuple[ComputeNode, ...]:
        """The living nodes. Raises Unavailable (``compute_unreachable``)."""
        nodes = self._alive()
        with _joined():
            own = ray.get_runtime_context().get_node_id()
        here = next((node for node in nodes if node["NodeID"] == own), None)
        return tuple(_node(node, here) for node in nodes)

    def place(self, task: str, need: StepNeed) -> RayTask:
        """Hands the task to Ray, which waits until a node has room. Raises Unavailable (``compute_unreachable``)."""
        taken = {"num_cpus": need.cores, "num_gpus": need.gpus, "memory": int(need.memory_gb * _GIB)}
        options: dict[str, Any] = {name: value for name, value in taken.items() if value} | {"name": "tailorbird step"}
        self._join()
        with _joined():
            return RayTask(self._do.options(**options).remote(self._work, task))

    def _join(self) -> None:
        """Another connection may lead to another head, which may trust anybody."""
        if _join(self._address):
            self._refuses_strangers = False

    def _alive(self) -> list[dict[str, Any]]:
        self._join()
        with _joined():
            return [node for node in ray.nodes() if node["Alive"]]


def _perform(work: str, task: str) -> str:
    """In a process on a node."""
    module, _, name = work.partition(":")
    return str(getattr(import_module(module), name)(task))


@contextmanager
def _joined(away: type[Exception] = exceptions.RayError) -> Iterator[None]:
    """Words with the cluster. An error of kind ``away``, or of the connection, drops what is known of it, and whoever
    comes next joins anew. Raises Unavailable (``compute_unreachable``), also when this process has left: Ray would start a cluster."""
    if not ray.is_initialized():
        raise _unreachable(ConnectionError())
    try:
        yield
    except exceptions.RayTaskError:
        raise
    except (away, ConnectionError, RuntimeError) as error:
        with suppress(Exception):
            ray.shutdown()
        raise _unreachable(error) from error


def _refuses_strangers(head: str) -> bool:
    """Whether a process without a token is refused at ``head``. Raises Unavailable when it neither joins nor is told that it may not."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    given |= {"RAY_AUTH_MODE": "disabled", "RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_BACKEND_LOG_LEVEL": "warning"}
    command = [sys.executable, "-c", _STRANGER, head]
    try:
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=_STRANGER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _unreachable(error) from error
    if done.returncode and "Unauthenticated" not in done.stderr and "AuthenticationError" not in done.stderr:
        raise _unreachable(ConnectionError())
    return done.returncode != 0


def _join(address: str) -> bool:
    """Joins the cluster; False where this process had. Ray's handler of SIGTERM does not take the place of ours."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What dies on a node is told in our words; Ray would print it to stdout, amid what a command answers.
    worker.print_to_stdstream = lambda *_, **__: None
    own = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "auto", namespace="tailorbird", log_to_driver=False, configure_logging=False)
    except (exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreachable(error) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, own)
    return True


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
