"""What is there when a server starts is not walked again; what comes later is collected as ever."""

from __future__ import annotations

import subprocess
import sys

STORY = """
import gc, weakref
from tailorbird.system.process import exempt_present_objects

class Node:
    pass

def ring():
    node = Node()
    node.self = node
    return weakref.ref(node)

before = ring()
kept = [Node()]
exempt_present_objects()
assert before() is None, "what nobody refers to is gone first"
assert gc.get_freeze_count() > 1000
assert not any(one is kept for one in gc.get_objects())
later = ring()
gc.collect()
assert later() is None
"""


def test_what_is_there_is_exempt_and_what_comes_later_is_not() -> None:
    subprocess.run([sys.executable, "-c", STORY], check=True, timeout=60)
