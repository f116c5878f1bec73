"""What people decided about single rows, and who asked to be forgotten: what a snapshot must heed beside the files."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tailorbird.domain.value import Digest, Name, Value


class FixAction(StrEnum):
    """What a person decided about a row that looked wrong: it is right, it bears another label, it must go."""

    KEEP = "keep"
    RELABEL = "relabel"
    DROP = "drop"


class Decision(Value):
    """One person's decision about one row of an objective. ``row`` is the id of the row before it; ``label`` is set when relabelling.

    The newest decision about a row counts.
    """

    objective: Name
    row: Digest
    action: FixAction
    label: Annotated[str, Field(max_length=500)] = ""
    by: Name
    at: datetime
