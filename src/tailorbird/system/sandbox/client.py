"""Client of the sandbox: asks the forkserver for a child, exchanges values, and maps its end to an error."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tailorbird.domain.errors import TailorbirdError, Unavailable, error_named
from tailorbird.system.files import bytes_below
from tailorbird.system.sandbox import frames, limits
from tailorbird.system.sandbox.limits import SandboxJob

#: Children that ``call`` runs at once, and seconds that the next one waits for its turn.
_AT_ONCE, _TURN = 4, 60.0
#: Seconds until a child that stays is ready: on a busy machine, its server has to be started first.
_READY = 60.0
#: Seconds between two looks at how much space a child's files take.
_COUNT_EVERY = 0.5
#: Of a child's error no more letters are taken.
_LONGEST_MESSAGE = 20_000
#: What the forkserver is given of the environment: where things lie and which language they speak, no key, no token, no address.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_SET = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}

T = TypeVar("T")
#: What a child that has no more values says.
END = object()

_turns = threading.BoundedSemaphore(_AT_ONCE)
_starting = threading.Lock()
_servers: dict[int, _Server] = {}


def stream(job: SandboxJob) -> Iterator[Any]:
    """What the function of ``job`` yields. Closing the iterator ends the child.

    Raises the function's own errors; ``job.error`` that says which limit was met, or that the child crashed; Unavailable where no child can
    be made.
    """
    with _Channel(job) as conversation:
        conversation.begin()
        while (value := conversation.hear()) is not END:
            yield value


def start(*modules: str) -> None:
    """Has the forkserver started and ``modules`` imported in it, meanwhile. What fails is told by the first job."""
    with suppress(OSError):
        _server().ask({"warm": modules})


def call(job: SandboxJob, heard: Callable[[Any], None] = lambda _: None) -> Any:
    """The value that the function of ``job`` yields last; ``heard`` is told those before it. Raises as ``stream``, and Unavailable when too
    many others are at it."""
    if not _turns.acquire(timeout=_TURN):
        raise Unavailable("too many files are being looked at", "try again in a minute", code="parser_busy")
    try:
        values = stream(job)
        answer = next(values, None)
        for following in values:
            heard(answer)
            answer = following
        return answer
    finally:
        _turns.release()


class Dialogue:
    """A child that stays and answers: its function is a generator that yields once when it is ready, and then an answer to each value that
    it is sent. Not to be shared by threads. Time and output are limited for each answer, memory and processor time for all of them.

    Raises as ``stream``; after an error it is of no more use.
    """

    def __init__(self, job: SandboxJob) -> None:
        self._conversation = _Channel(job, dialogue=True).__enter__()
        self._conversation.renew(_READY)
        try:
            self._conversation.begin()
            self._conversation.hear()
        except BaseException:
            self.close()
            raise

    def ask(self, value: Any) -> Any:
        """The answer to ``value``."""
        self._conversation.renew(self._conversation.wait)
        self._conversation.say(value)
        return self._conversation.hear()

    def close(self) -> None:
        """Ends the child."""
        self._conversation.__exit__()


class _Server:
    """A running forkserver and the way to it."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if name in _KEPT} | _SET
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(place).absolute()) for place in sys.path if place)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tailorbird.system.sandbox.forkserver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",  # not the caller's folder, which may be removed while the server lives
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def ask(self, request: dict[str, Any], *handles: int) -> None:
        """Has a child forked that talks over the first of ``handles``; without them, modules imported. Raises OSError."""
        socket.send_fds(self.control, [json.dumps(request).encode()], handles)

    def close(self) -> None:
        """Ends it, and what it has forked."""
        self.control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


def _server(*, anew: bool = False) -> _Server:
    with _starting:
        mine = os.getpid()
        if anew and mine in _servers:
            _servers.pop(mine).close()
        if mine not in _servers:
            _servers[mine] = _Server()
        return _servers[mine]


@atexit.register
def _close() -> None:
    if os.getpid() in _servers:
        _servers.pop(os.getpid()).close()


class _Channel:
    """One child, from its first word to its last."""

    def __init__(self, job: SandboxJob, *, dialogue: bool = False) -> None:
        self._job = job
        self._dialogue = dialogue
        self._left = job.limits.wait
        self._sent = 0

    def __enter__(self) -> _Channel:
        self._connection, theirs = socket.socketpair()
        self._told, telling = socket.socketpair()
        with theirs, telling:
            for anew in (False, True):
                try:
                    _server(anew=anew).ask(self._request(), theirs.fileno(), telling.fileno())
                    return self
                except OSError as error:
                    failed = error
        self.__exit__()
        raise Unavailable("no process can be made that reads foreign files", "try again", code="parser_busy") from failed

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._told.close()

    def _request(self) -> dict[str, Any]:
        asked = self._job.limits
        own = {
            "memory": asked.memory,
            "processor": asked.processor,
            "written": asked.written,
            "places": self._job.places,
        }
        asked_from = {"folder": _current_folder()}
        return own | asked_from | {"target": self._job.target, "warm": self._job.warm, "dialogue": self._dialogue}

    def begin(self) -> None:
        """Gives the child its arguments. Raises ``job.error``."""
        self.say(self._job.given)

    def say(self, value: Any) -> None:
        """Tells the child a value. Raises ``job.error``."""
        with self._explained():
            self._timed(lambda: frames.send(self._connection, frames.VALUE, frames.encode(value)))

    def hear(self) -> Any:
        """The child's next value; ``END`` when it has no more. Raises the child's own errors, and ``job.error``."""
        with self._explained():
            kind, data = self._timed(self._receive)
            if kind == frames.VALUE:
                self._count(len(data))
                return frames.decode(data)
        if kind != frames.END:
            raise self._refusal(kind, data)
        return END

    @property
    def wait(self) -> float:
        """Seconds that the job allows for."""
        return self._job.limits.wait

    def renew(self, wait: float) -> None:
        """Time and output are counted anew from here."""
        self._left, self._sent = wait, 0

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise limits.fault(self._job, "wait") from error
        except (EOFError, OSError) as error:
            raise self._ended() from error
        except (ValueError, RecursionError) as error:
            raise limits.fault(self._job, "unreadable", type(error).__name__) from error

    def _receive(self) -> tuple[int, bytearray]:
        """The next frame. Where the child's files are counted, they are while it is waited for. Raises ``job.error``, TimeoutError."""
        until, comes = time.monotonic() + self._left, not self._job.limits.space
        while not comes:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                comes = bool(selector.select(min(_COUNT_EVERY, self._left)))
            if sum(bytes_below(Path(place)) for place in self._job.places or ()) > self._job.limits.space:
                raise limits.fault(self._job, "space")
            if not comes and time.monotonic() >= until:
                raise TimeoutError
        return frames.receive(self._connection)

    def _timed(self, talk: Callable[[], T]) -> T:
        """Counts the time for which the caller waits; while it does something else, the child may wait for it."""
        if self._left <= 0:
            raise TimeoutError
        self._connection.settimeout(self._left)
        started = time.monotonic()
        try:
            return talk()
        finally:
            self._left -= time.monotonic() - started

    def _count(self, size: int) -> None:
        self._sent += size
        if self._sent > self._job.limits.output:
            raise limits.fault(self._job, "output")

    def _refusal(self, kind: int, data: bytearray) -> TailorbirdError:
        if kind == frames.MEMORY:
            return limits.fault(self._job, "memory")
        try:
            told = frames.decode(data)
            if kind == frames.ERROR:
                return _error(told)
            return limits.fault(self._job, "unreadable", str(told)[:80])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return limits.fault(self._job, "unreadable", "no answer")

    def _ended(self) -> TailorbirdError:
        """Why the child ended without a word."""
        self._told.settimeout(5)
        try:
            how = json.loads(self._told.recv(4096))
        except (OSError, ValueError):
            return limits.fault(self._job, "crashed", "its server ended")
        asked = self._job.limits
        if how["signal"] == signal.SIGXCPU or how["processor"] >= asked.processor:
            return limits.fault(self._job, "processor")
        if how["signal"] == signal.SIGKILL or how["memory"] > 0.7 * asked.memory:
            return limits.fault(self._job, "memory")
        return limits.fault(self._job, "crashed", f"signal {how['signal']}")


def _current_folder() -> str:
    """What relative paths of a job begin at; the root where the caller's own folder has been removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return "/"


def _error(told: dict[str, Any]) -> TailorbirdError:
    message, hint, code = (str(told[name])[:_LONGEST_MESSAGE] for name in ("message", "hint", "code"))
    return error_named(str(told["kind"]), message, hint, code, int(told.get("line", 0)))
