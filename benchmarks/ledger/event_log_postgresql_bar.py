"""The event log on PostgreSQL (see ``event_log.py``). A family of its own, so that each fits into ten quiet minutes."""

from __future__ import annotations

from event_log import measure

if __name__ == "__main__":
    measure("postgresql")
