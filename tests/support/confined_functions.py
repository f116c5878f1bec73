"""What a reader of foreign bytes could be made to do: functions that a confined process is asked to run."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tailorbird.domain.errors import DataInvalid


def echo(given: Any) -> Iterator[Any]:
    yield from given


def eat(_: Any) -> Iterator[Any]:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 24))
        yield len(eaten)


def compute(_: Any) -> Iterator[Any]:
    while True:
        pass
    yield


def compute_in_c(_: Any) -> Iterator[Any]:
    yield len(str(7 ** (10**9)))


def sleep(_: Any) -> Iterator[Any]:
    time.sleep(1000)
    yield


def linger(_: Any) -> Iterator[Any]:
    yield os.getpid()
    while True:
        time.sleep(0.1)


def flood(_: Any) -> Iterator[Any]:
    while True:
        yield "x" * 100_000


def fill(folder: str) -> Iterator[Any]:
    for number in range(8):
        (Path(folder) / str(number)).write_bytes(bytes(1 << 20))
    time.sleep(1000)
    yield


def crash(_: Any) -> Iterator[Any]:
    ctypes.string_at(0)
    yield


def leave(_: Any) -> Iterator[Any]:
    os._exit(3)
    yield


def lie(_: Any) -> Iterator[Any]:
    """Writes what is no frame to whoever listens."""
    for handle in range(3, 64):
        try:
            os.write(handle, b"\x00\xff\xff\xff\xff" + b"x" * 1000)
        except OSError:
            continue
    os._exit(0)
    yield


def deep(_: Any) -> Iterator[Any]:
    value: Any = []
    for _level in range(500):
        value = [value]
    yield value


def refuse(_: Any) -> Iterator[Any]:
    raise DataInvalid("it is wrong", "mend it", code="its_own")
    yield


def break_down(_: Any) -> Iterator[Any]:
    raise KeyError("a secret of row 3")
    yield


def attempts(folder: str) -> Iterator[Any]:
    """What each attempt to get out came to."""
    tries: dict[str, Callable[[], object]] = {
        "socket": lambda: socket.socket(),
        "fork": lambda: os._exit(0) if os.fork() == 0 else None,
        "program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "signal": lambda: os.kill(os.getppid(), 0),
        "file": lambda: (Path(folder) / "written").write_text("x"),
        "limit": lambda: resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2),
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except (OSError, ValueError):
            yield [name, "refused"]
        else:
            yield [name, "done"]


def surroundings(_: Any) -> Iterator[Any]:
    interfaces = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    yield {"environment": sorted(os.environ), "interfaces": interfaces, "pid": os.getpid()}


def thread(_: Any) -> Iterator[Any]:
    said: list[int] = []
    worker = threading.Thread(target=lambda: said.append(1))
    worker.start()
    worker.join()
    yield said


def is_imported(module: str) -> Iterator[bool]:
    """Whether the child's server had ``module`` imported."""
    yield module in sys.modules


def current_folder(_: Any) -> Iterator[str]:
    yield str(Path.cwd())
