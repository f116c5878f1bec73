"""What belongs to the process is replaced by one thread at a time, and put back."""

from __future__ import annotations

import sys
from threading import Event, Thread

from transformers.utils import logging

from tailorbird.inference.transformers_verbosity import quiet


def test_two_threads_leave_stderr_and_verbosity_as_they_were() -> None:
    before = sys.stderr, logging.get_verbosity()
    first_is_in, second_begins = Event(), Event()
    order = []

    def first() -> None:
        with quiet():
            first_is_in.set()
            second_begins.wait(10)
            order.append("first")

    def second() -> None:
        first_is_in.wait(10)
        second_begins.set()
        with quiet():
            order.append("second")

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert order == ["first", "second"]
    assert (sys.stderr, logging.get_verbosity()) == before
