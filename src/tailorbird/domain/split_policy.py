"""Policy on which rows stand for data that have shifted."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.value import Section


class SplitPolicy(Section):
    """Which rows stand for a world that has moved on: none of them is learned from, a part of dev and of test is made of them, and limits
    named ``shift`` are measured on them. What belongs to it is decided when the objective's first snapshot is made, and stays."""

    by: str = Field(min_length=1)
    """The column that every source has: when a row was written (a date, a time, a year), or whose it is (a source, a customer, a site)."""
    kind: Literal["auto", "time", "value"] = "auto"
    """``time``: the newest rows are the shifted part; ``value``: all rows of some values are. ``auto``: ``time`` where nine of ten cells
    are dates, times or years."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """About what share of the rows the shifted part gets, where neither ``since`` nor ``values`` says what it is."""
    since: str | date | None = None
    """Rows of this time and later are the shifted part."""
    values: tuple[str, ...] = ()
    """Rows with one of these values are the shifted part."""
