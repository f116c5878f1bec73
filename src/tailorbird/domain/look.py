"""Looks at sealed tests, which are counted for ever."""

from __future__ import annotations

from tailorbird.domain.value import Name, Value


class Look(Value):
    """That the sealed test of ``snapshot`` was opened for ``candidate``, as the objective's look ``number`` (from 1). ``question`` is the
    digest of what was asked; empty where nothing told it."""

    objective_name: Name
    snapshot: str
    candidate: str
    question: str
    number: int
