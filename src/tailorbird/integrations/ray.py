"""Steps as tasks of a Ray cluster that runs already: none is ever started from here, for its ports take orders from whoever reaches them.

A task's argument and its answer are JSON texts, and its function is found by name on the node: nothing of ours is pickled. A task without a
purpose is done by a process of its own, which ends with it. For those of one purpose Ray starts processes in an environment that names it,
and gives them no task of another environment (decision 0110); such a process ends itself, or is ended before another task begins on its
node.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import uuid4

import ray
from ray import exceptions
from ray._private import worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tailorbird.domain.compute import ComputeNode, StepNeed, TaskEnd
from tailorbird.domain.errors import Internal, Unavailable
from tailorbird.integrations.waiting_processes import WaitingProcess, end_waiting, node_folder

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
#: The variable that names what a process is kept for; how long it waits for a next task, and, where there is none to come, lives on so that
#: its answer gets out.
_PURPOSE = "TAILORBIRD_KEPT_FOR"
IDLE_SECONDS, _LAST_SECONDS = 10.0, 0.5


@dataclass
class _KeptFor:
    """Processes that are kept for one purpose, by the name in their environment, and the node on which the last of them ended a task."""

    name: str
    node: str = ""


class RayTask:
    """Implements ``PlacedTask``. ``ends`` hears on which node the process waits that did it; of none where it does not."""

    def __init__(self, reference: Any, ends: Callable[[str], None]) -> None:
        self._reference = reference
        self._ends = ends

    def ended(self, seconds: float) -> bool:
        """Waits for its end, at most so long. Raises Unavailable (``compute_unreachable``)."""
        with _joined():
            done, _ = ray.wait([self._reference], timeout=seconds, fetch_local=False)
        return bool(done)

    def answer(self) -> str:
        """What the function answered. Raises Unavailable (``node_lost``, ``step_interrupted``, ``compute_unreachable``), Internal."""
        waits = ""
        try:
            with _joined(exceptions.RaySystemError):
                text, waits = json.loads(ray.get(self._reference))
            return str(text)
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
        finally:
            self._ends(waits)

    def cancel(self) -> None:
        """Raises KeyboardInterrupt in the process that does it. Raises Unavailable (``compute_unreachable``)."""
        self._ends("")
        with _joined():
            ray.cancel(self._reference, force=False, recursive=False)


class RayCompute:
    """Implements ``Compute`` on the cluster at ``address`` (empty: the one that ``ray start`` made on this machine)."""

    def __init__(self, address: str, work: Callable[[str], TaskEnd], idle_seconds: float = IDLE_SECONDS) -> None:
        self._address = address
        self._work = f"{work.__module__}:{work.__qualname__}"
        self._once, self._again = ray.remote(max_retries=0, max_calls=1)(_perform), ray.remote(max_retries=0)(_perform)
        self._idle_seconds = idle_seconds
        self._kept = dict[tuple[str, int], _KeptFor]()
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

    def place(self, task: str, need: StepNeed, purpose: str = "") -> RayTask:
        """Hands the task to Ray, which waits until a node has room. Raises Unavailable (``compute_unreachable``)."""
        taken = {"num_cpus": need.cores, "num_gpus": need.gpus, "memory": int(need.memory_gb * _GIB)}
        options: dict[str, Any] = {name: value for name, value in taken.items() if value} | {"name": "tailorbird step"}
        self._join()
        with _joined():
            if not purpose or need.gpus:
                return RayTask(self._once.options(**options).remote(self._work, task), lambda _waits: None)
            key = (purpose, need.cores)
            kept = self._kept.setdefault(key, _KeptFor(f"{purpose} {need.cores} {uuid4().hex}"))
            options["runtime_env"] = {"env_vars": {_PURPOSE: kept.name, "OMP_NUM_THREADS": str(need.cores)}}
            if kept.node:
                near = NodeAffinitySchedulingStrategy(kept.node, soft=True, _spill_on_unavailable=True)
                options["scheduling_strategy"] = near
            asked = self._again.options(**options).remote(self._work, task, kept.name, self._idle_seconds)
            return RayTask(asked, lambda waits: self._note(key, kept, waits))

    def _note(self, key: tuple[str, int], kept: _KeptFor, node: str) -> None:
        """A process that ended, or is about to, is asked for nothing: those that come next have another name."""
        kept.node = node
        if not node and self._kept.get(key) is kept:
            del self._kept[key]

    def _join(self) -> None:
        """Another connection may lead to another head, which may trust anybody."""
        if _join(self._address):
            self._refuses_strangers = False

    def _alive(self) -> list[dict[str, Any]]:
        self._join()
        with _joined():
            return [node for node in ray.nodes() if node["Alive"]]


def open_ray(address: str, work: Callable[[str], TaskEnd], idle_seconds: float = IDLE_SECONDS) -> RayCompute:
    """The cluster at ``address``, whose tasks call ``work``, a function that nodes can import; processes that are kept end when they were
    asked for nothing for ``idle_seconds``. Raises Unavailable."""
    return RayCompute(address, work, idle_seconds)


def _perform(work: str, task: str, purpose: str = "", idle_seconds: float = 0.0) -> str:
    """In a process on a node: the answer, and the node's id where the process waits there for a next task."""
    keeps = False
    try:
        _Process.begin(purpose)
        module, _, name = work.partition(":")
        end: TaskEnd = getattr(import_module(module), name)(task)
        keeps = end.keeps and _Process.waiting is not None
        return json.dumps([end.text, ray.get_runtime_context().get_node_id() if keeps else ""])
    finally:
        if _Process.waiting is not None:
            (_Process.waiting.wait if keeps else _Process.waiting.end)()
        # What a signal ends is ending: another one would break off what is cleared away at the exit.
        if purpose and not isinstance(sys.exception(), SystemExit):
            _Process.end_after(idle_seconds if keeps else _LAST_SECONDS)


class _Process:
    """This process, on a node: what it was first asked for, what ends it, and how others of the node see it, where it may be kept."""

    purpose: str | None = None
    timer: threading.Timer | None = None
    waiting: WaitingProcess | None = None

    @classmethod
    def begin(cls, purpose: str) -> None:
        """A task begins, once those that wait on this node have ended. Of another purpose than those before it none does, nor where
        this process is being ended: then it is gone, and its task is told as lost."""
        if cls.purpose not in (None, purpose) or (cls.waiting is not None and not cls.waiting.begin()):
            os._exit(1)
        if cls.timer is not None:
            cls.timer.cancel()
        with suppress(OSError):
            folder = node_folder(ray.get_runtime_context().get_node_id())
            if folder is not None:
                if purpose and cls.purpose is None:
                    cls.waiting = WaitingProcess(folder)
                end_waiting(folder, cls.waiting)
        cls.purpose = purpose

    @classmethod
    def end_after(cls, seconds: float) -> None:
        """The process ends in so long, as by ``ray stop``: what is to be cleared at its end is."""
        cls.timer = threading.Timer(seconds, cls._end)
        cls.timer.daemon = True
        cls.timer.start()

    @classmethod
    def _end(cls) -> None:
        """Where somebody else is ending it, it has had its signal."""
        if cls.waiting is None or cls.waiting.end():
            os.kill(os.getpid(), signal.SIGTERM)


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
