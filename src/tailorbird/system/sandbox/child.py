"""The child: takes on its limits, runs one function, sends what it yields, and ends."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from importlib import import_module
from typing import Any

from tailorbird.domain.errors import TailorbirdError
from tailorbird.system.sandbox import frames, kernel


def run(connection: socket.socket, request: dict[str, Any]) -> None:
    """Runs what ``request`` names to its end. Never returns."""
    try:
        sys.dont_write_bytecode = True  # what it compiles, nobody else shall run
        with suppress(ImportError):  # before its limits begin: it is ours, and may be large
            import_module(request["target"].partition(":")[0])
        _confine(request)
        connection.settimeout(None)
        _answer(connection, request)
    finally:
        os._exit(0)


def _confine(request: dict[str, Any]) -> None:
    kernel.die_with_parent()
    processor = int(request["processor"])
    limits = {
        resource.RLIMIT_CPU: (processor, processor + 1),
        resource.RLIMIT_DATA: (request["memory"],) * 2,
        resource.RLIMIT_FSIZE: (request["written"],) * 2,
        resource.RLIMIT_CORE: (0, 0),
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, limit)
    if request["places"] is not None:
        kernel.write_only_below(request["places"])
    if not kernel.refuse_calls(network=request["network"]):
        kernel.refuse_events(network=request["network"])


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
        said = {"kind": type(error).__name__, "code": error.error_code, "message": error.message, "hint": error.hint}
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
