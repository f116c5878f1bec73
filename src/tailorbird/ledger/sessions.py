"""A tenant's sessions: who proved at the control API or the console who they are, and until when that counts.

In: sessions (hashes of secrets only). Out: nothing; ``system.py`` finds the session that a cookie or a token names. Must not know: how an
identity proves itself (``access/``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, or_, update

from tailorbird.domain.errors import Conflict
from tailorbird.domain.identity import Session
from tailorbird.ledger.rows import insert_new, own
from tailorbird.ledger.tables import sessions
from tailorbird.ports.clock import Clock

#: An ended session stays this long, far longer than a login may be old, so that its nonce is not taken twice.
_KEPT = timedelta(days=1)


class Sessions:
    """Implements ``SessionRepository``."""

    def __init__(self, connection: Connection, tenant: str, clock: Clock) -> None:
        self._connection = connection
        self._tenant = tenant
        self._clock = clock

    def add(self, session: Session) -> None:
        """Adds a session, and clears away those that ended a day ago. Raises Conflict when its id was used, in any tenant."""
        own(self._tenant, session.tenant)
        if not insert_new(self._connection, sessions, session.model_dump()):
            raise Conflict("this login was used already", "log in again", code="login_used")
        past = self._clock.now() - _KEPT
        ended = or_(sessions.c.expires_at <= past, sessions.c.ended_at <= past)
        self._connection.execute(delete(sessions).where(sessions.c.tenant == self._tenant, ended))

    def end(self, session: str, at: datetime) -> None:
        """Ends a session; one that is unknown or has ended is left as it is."""
        self._end(sessions.c.id == session, at)

    def end_all(self, identity: str, at: datetime) -> None:
        """Ends every session of an identity that goes on."""
        self._end(sessions.c.identity == identity, at)

    def _end(self, which: ColumnElement[bool], at: datetime) -> None:
        going_on = (sessions.c.ended_at.is_(None), sessions.c.expires_at > at)
        self._connection.execute(update(sessions).where(sessions.c.tenant == self._tenant, which, *going_on).values(ended_at=at))
