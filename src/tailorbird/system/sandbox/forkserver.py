"""The process that children are forked from: started once by whoever needs it, clean of secrets, with one thread, warm.

A child of the gateway or the worker itself would hold their keys, their connections and locks that their threads had taken.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from tailorbird.system.files import write_for_owner_alone
from tailorbird.system.sandbox import child, kernel

#: A request has no more bytes.
LONGEST_REQUEST = 1 << 16


class Forkserver:
    """Serves the owner at the other end of ``control`` until that end is closed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, socket.socket] = {}
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
        connection, told = (socket.socket(fileno=handle) for handle in handles)
        for module in request["warm"]:
            with suppress(ImportError):
                import_module(module)
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            self._leave(told)
            child.run(connection, request)
        connection.close()
        self._children[pid] = told
        self._selector.register(told, selectors.EVENT_READ, pid)
        return True

    def _leave(self, told: socket.socket) -> None:
        """What a child does not need."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in (self._control, self._woken, self._wake, told, *self._children.values()):
            other.close()
        self._selector.close()

    def _end(self, pid: int) -> None:
        """The caller has gone: nobody will hear what the child says. It may have ended in the same moment."""
        if pid in self._children:
            self._selector.unregister(self._children[pid])
            os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                told = self._children.pop(pid)
                with suppress(KeyError):
                    self._selector.unregister(told)
                how: dict[str, Any] = {
                    "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                    "processor": used.ru_utime + used.ru_stime,
                    "memory": used.ru_maxrss * 1024,
                }
                with suppress(OSError):
                    told.sendall(json.dumps(how).encode())
                told.close()


def main(handle: int, *, network: bool) -> None:
    """Serves over the inherited socket ``handle``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_for_owner_alone()
    if not network:
        kernel.leave_network()
    with socket.socket(fileno=handle) as control:
        Forkserver(control).serve()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), network="network" in sys.argv[2:])
