"""Who may call which route of ``/api``: the routes that are no operation of the table."""

from __future__ import annotations

from tailorbird.auth import Action

#: Method and path of a route.
Place = tuple[str, str]

LOG_IN: Place = ("POST", "/api/sessions")
LOG_OUT: Place = ("DELETE", "/api/sessions/current")
UPLOAD: Place = ("POST", "/api/artifacts")

#: Routes that need no session: one proves there who one is.
PUBLIC: frozenset[Place] = frozenset({LOG_IN})
#: Routes with a line of their own.
OWN: dict[Place, Action] = {LOG_OUT: Action.SESSION, UPLOAD: Action.UPLOAD}
