"""Processes that wait on a node are ended before another task begins there; who works, or answers and goes on, is not."""

from __future__ import annotations

import errno
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from support.clocks import replace_clock
from tailorbird.integrations import waiting_processes
from tailorbird.integrations.waiting_processes import WaitingProcess, end_waiting, node_folder

_CONTEXT = multiprocessing.get_context("spawn")


def _obey(folder: Path, orders: Connection, ignores: bool, out: float) -> None:
    """Does what it is told, a word at a time."""
    waiting_processes._OUT = out
    if ignores:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        waiting_processes._GRACE = 0.2
    process = WaitingProcess(folder)
    orders.send(True)
    while (word := orders.recv()) != "exit":
        orders.send({"wait": process.wait, "begin": process.begin, "end": process.end}[word]())
    orders.send(True)


def _start_looked_at(folder: Path) -> None:
    """Another process looks after each of the two locks that this one takes."""
    lock, looked = waiting_processes._lock, list[int]()

    def lock_and_be_looked_at(handle: int, byte: int) -> bool:
        locked = lock(handle, byte)
        if len(looked) < 2:
            looked.append(byte)
            looker = _CONTEXT.Process(target=end_waiting, args=(folder,))
            looker.start()
            looker.join()
        return locked

    waiting_processes._lock = lock_and_be_looked_at
    process = WaitingProcess(folder)
    assert len(looked) == 2
    assert list(folder.iterdir()) == [process.file]


class Node:
    """A node's folder, and processes on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = list[Any]()

    def start(self, *, ignores: bool = False, out: float = 0.5) -> tuple[Any, Connection]:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_obey, args=(self.folder, theirs, ignores, out))
        process.start()
        theirs.close()  # else a process that ends before it answers would be waited for without end
        self.started.append(process)
        assert ours.recv()
        return process, ours


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.join()


def tell(orders: Connection, word: str) -> Any:
    orders.send(word)
    return orders.recv()


def test_who_works_stays_and_who_waits_is_gone_when_another_begins(node: Node) -> None:
    working, _ = node.start()
    waiting, orders = node.start()
    assert end_waiting(node.folder) == 0
    tell(orders, "wait")
    assert end_waiting(node.folder) == 1
    waiting.join(10)
    assert waiting.exitcode == -signal.SIGTERM
    assert working.is_alive()
    assert len(list(node.folder.iterdir())) == 1


def test_who_has_its_next_task_while_its_answer_is_on_the_way_stays(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that looks finds it answering first."""
    process, orders = node.start(out=600.0)
    tell(orders, "wait")
    looks = list[float]()

    def look(seconds: float) -> None:
        if not looks:
            assert tell(orders, "begin") is True
        looks.append(seconds)

    replace_clock(monkeypatch, waiting_processes, sleep=look)
    assert end_waiting(node.folder) == 0
    assert looks
    assert process.is_alive()


def test_a_task_does_not_begin_in_a_process_that_is_being_ended(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    process, orders = node.start(ignores=True)
    tell(orders, "wait")
    begun = list[bool]()
    send = waiting_processes._send

    def ask(pid: int, order: int) -> None:
        if order == signal.SIGTERM:
            begun.append(tell(orders, "begin"))
        send(pid, order)

    monkeypatch.setattr(waiting_processes, "_GRACE", 2.0)
    monkeypatch.setattr(waiting_processes, "_send", ask)
    assert end_waiting(node.folder) == 1
    assert begun == [False]
    process.join(10)
    assert process.exitcode == -signal.SIGKILL, "one that does not end by itself is killed"


def test_one_that_ends_by_itself_is_awaited_without_a_signal(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    process, orders = node.start()
    assert tell(orders, "end") is True
    looks, sent = list[float](), list[int]()

    def look(seconds: float) -> None:
        if not looks:
            tell(orders, "exit")
            process.join()
        looks.append(seconds)

    replace_clock(monkeypatch, waiting_processes, sleep=look)
    monkeypatch.setattr(waiting_processes, "_send", lambda _pid, order: sent.append(order))
    assert end_waiting(node.folder) == 1
    assert looks
    assert sent == []
    assert process.exitcode == 0
    assert list(node.folder.iterdir()) == []


def test_one_that_was_to_end_and_has_its_next_task_stays(node: Node) -> None:
    process, orders = node.start()
    assert tell(orders, "end") is True
    assert tell(orders, "begin") is True
    assert end_waiting(node.folder) == 0
    assert process.is_alive()


def test_one_that_is_being_ended_does_not_end_by_itself_too(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    process, orders = node.start()
    tell(orders, "wait")
    may = list[bool]()
    send = waiting_processes._send

    def ask(pid: int, order: int) -> None:
        may.append(tell(orders, "end"))
        send(pid, order)

    monkeypatch.setattr(waiting_processes, "_send", ask)
    assert end_waiting(node.folder) == 1
    assert may == [False]
    process.join(10)
    assert process.exitcode == -signal.SIGTERM


def test_who_looks_while_one_starts_does_not_end_it(tmp_path: Path) -> None:
    process = _CONTEXT.Process(target=_start_looked_at, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_one_does_not_end_itself_and_the_dead_leave_nothing(node: Node) -> None:
    process, _ = node.start()
    process.kill()
    process.join()
    own = WaitingProcess(node.folder)
    own.wait()
    assert end_waiting(node.folder, own) == 0
    assert list(node.folder.iterdir()) == [own.file]
    assert own.begin()


def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(waiting_processes.fcntl, "lockf", refuse)
    with pytest.raises(OSError, match="No locks"):
        WaitingProcess(tmp_path)


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_processes.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = node_folder("n")
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    assert node_folder("n") == folder
    folder.chmod(0o777)
    assert node_folder("n") is None
    (folder.parent / "m").symlink_to(folder)
    assert node_folder("m") is None
    monkeypatch.setattr(waiting_processes.os, "getuid", lambda: 4711)
    (tmp_path / "tailorbird-4711").mkdir(mode=0o700)
    assert node_folder("n") is None
