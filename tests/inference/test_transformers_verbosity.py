"""What belongs to the process is replaced by one thread at a time, and put back."""

from __future__ import annotations

import sys
from threading import Thread

from transformers.utils import logging

from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.system.process import model_load


def is_free() -> bool:
    """Whether another thread could load a model now."""
    found = []

    def look() -> None:
        found.append(model_load.acquire(blocking=False))
        if found[0]:
            model_load.release()

    thread = Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def test_one_thread_at_a_time_takes_stderr_and_verbosity_and_gives_them_back() -> None:
    before = sys.stderr, logging.get_verbosity()
    assert is_free()
    with quiet():
        assert sys.stderr is not before[0]
        assert not is_free()
        with quiet():
            assert not is_free()
        assert not is_free()
    assert is_free()
    assert (sys.stderr, logging.get_verbosity()) == before
