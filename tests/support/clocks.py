"""A clock that one module goes by, and nothing else: other threads of the process sleep and read the time as they did."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def replace_clock(patch: pytest.MonkeyPatch, module: ModuleType, **functions: Callable[..., Any]) -> None:
    """``module`` finds ``functions`` in its ``time``, besides those that stand there. Raises AttributeError where it has no ``time``."""
    patch.setattr(module, "time", SimpleNamespace(**{**vars(time), **functions}))
