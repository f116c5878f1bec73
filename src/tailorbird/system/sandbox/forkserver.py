"""Forkserver of sandboxed children: started once, free of secrets, single-threaded, warm; each child limits itself and runs a function.

A child of the gateway or the worker itself would hold their keys, their connections and locks that their threads had taken.
"""

from __future__ import annotations

import errno
import gc
import json
import mmap
import os
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from tailorbird.domain.errors import ObjectiveInvalid, TailorbirdError
from tailorbird.system.files import write_for_owner_alone
from tailorbird.system.machine import GIB, resident_gib
from tailorbird.system.sandbox import frames, kernel


def _answer(connection: socket.socket, request: dict[str, Any]) -> None:
    try:
        values = _function(request["target"])(_heard(connection))
        said = None
        with suppress(StopIteration):
            while True:
                frames.send(connection, frames.VALUE, frames.encode(values.send(said)))
                said = _heard(connection) if request["dialogue"] else None
        frames.send(connection, frames.END, b"")
    except EOFError:
        return
    except BaseException as error:  # noqa: BLE001 - whatever a reader raises over foreign bytes is told, by its name at least
        frames.send(connection, *_told(error))


def _heard(connection: socket.socket) -> Any:
    return frames.decode(frames.receive(connection)[1])


def _told(error: BaseException) -> tuple[int, bytes]:
    if _lacks_memory(error):
        return frames.MEMORY, b""
    if isinstance(error, TailorbirdError):
        said: dict[str, Any] = {"kind": type(error).__name__, "code": error.error_code, "message": error.message, "hint": error.hint}
        said |= {"line": error.line} if isinstance(error, ObjectiveInvalid) else {}
        return frames.ERROR, frames.encode(said)
    return frames.BROKEN, frames.encode(type(error).__name__)


def _lacks_memory(error: BaseException | None) -> bool:
    """True where the exception, or the one that led to it, says that there was no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        error = error.__cause__ or error.__context__
    return False


def _function(target: str) -> Callable[[Any], Generator[Any, Any]]:
    module, _, name = target.partition(":")
    function: Callable[[Any], Generator[Any, Any]] = getattr(import_module(module), name)
    return function


#: A request has no more bytes.
LONGEST_REQUEST = 1 << 16


class _Child(NamedTuple):
    """``told`` hears how it ended; ``start`` has the bytes of memory that it held before its job."""

    told: socket.socket
    start: mmap.mmap


class Forkserver:
    """Serves the owner at the other end of ``control`` until that end is closed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, _Child] = {}
        self._woken, self._wake = socket.socketpair()

    def serve(self) -> None:
        """Forks and reaps."""
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._take():
                        return
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._reap()
                else:
                    self._end(key.data)

    def _take(self) -> bool:
        data, handles, _, _ = socket.recv_fds(self._control, LONGEST_REQUEST, 2)
        if not data:
            return False
        request = json.loads(data)
        for module in request["warm"]:
            with suppress(Exception):  # the server goes on: who needs the module is told
                import_module(module)
        if not handles:
            return True
        connection, told = (socket.socket(fileno=handle) for handle in handles)
        gc.freeze()
        start = mmap.mmap(-1, 8)  # shared with the child
        pid = os.fork()
        if pid == 0:
            self._leave(told)
            # Runs what ``request`` names to its end; ``start`` gets the bytes of memory that it held before. Never returns.
            try:
                sys.dont_write_bytecode = True  # what it compiles, nobody else shall run
                with suppress(OSError):
                    os.chdir(request["folder"])
                with suppress(Exception):  # before its limits begin: it is ours, and may be large; what fails is told when it is called
                    import_module(request["target"].partition(":")[0])
                start[:8] = int(resident_gib() * GIB).to_bytes(8, "little")
                memory = request["memory"] + kernel.private_memory()  # what the server held when it forked is not the job's
                kernel.die_with_parent()
                processor = int(request["processor"])
                limits = {
                    resource.RLIMIT_CPU: (processor, processor + 1),
                    resource.RLIMIT_DATA: (memory, memory),
                    resource.RLIMIT_FSIZE: (request["written"],) * 2,
                    resource.RLIMIT_CORE: (0, 0),
                }
                for kind, limit in limits.items():
                    resource.setrlimit(kind, limit)
                if request["places"] is not None:
                    kernel.write_only_below(request["places"])
                if not kernel.refuse_calls():
                    kernel.refuse_events()
                connection.settimeout(None)
                _answer(connection, request)
            finally:
                os._exit(0)
        connection.close()
        self._children[pid] = _Child(told, start)
        self._selector.register(told, selectors.EVENT_READ, pid)
        return True

    def _leave(self, told: socket.socket) -> None:
        """What a child does not need."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in (self._control, self._woken, self._wake, told, *(child.told for child in self._children.values())):
            other.close()
        self._selector.close()

    def _end(self, pid: int) -> None:
        """The caller has gone: nobody will hear what the child says. It may have ended in the same moment."""
        if pid in self._children:
            self._selector.unregister(self._children[pid].told)
            os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                told, start = self._children.pop(pid)
                with suppress(KeyError):
                    self._selector.unregister(told)
                how: dict[str, Any] = {
                    "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                    "processor": used.ru_utime + used.ru_stime,
                    "memory": used.ru_maxrss * 1024 - int.from_bytes(start[:8], "little"),
                }
                start.close()
                with suppress(OSError):
                    told.sendall(json.dumps(how).encode())
                told.close()


def main(handle: int) -> None:
    """Serves over the inherited socket ``handle``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_for_owner_alone()
    kernel.leave_network()
    with socket.socket(fileno=handle) as control:
        Forkserver(control).serve()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
