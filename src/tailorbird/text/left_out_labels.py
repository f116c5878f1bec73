"""Labels that are left out in turn, by the hash of their names, so that rows of them stand for what is out of scope."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

#: Parts of the labels, each left out once: three quarters are known, as is usual where open intents are measured (Zhang et al. 2021).
PARTS = 4


def left_out_labels(labels: Sequence[str]) -> tuple[frozenset[str], ...]:
    """Parts of ``labels`` that are left out in turn, as many as leave two labels each; none where no label can be spared."""
    if len(labels) < 3:
        return ()
    ordered = sorted(labels, key=lambda label: hashlib.sha256(f"tailorbird/scope/v1\n{label}".encode()).digest())
    parts = min(PARTS, len(ordered))
    return tuple(frozenset(ordered[part::parts]) for part in range(parts))
