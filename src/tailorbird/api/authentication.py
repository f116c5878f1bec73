"""Authentication of requests by API key or session, and the permissions of routes that are no use cases."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Request

from tailorbird.api.http import TENANT
from tailorbird.auth import Action, Throttle, key_id_of, secret_matches
from tailorbird.crypto.anchored_rows import anchored_row
from tailorbird.domain.deployment import name_and_stage
from tailorbird.domain.errors import Exhausted, Forbidden, Unauthenticated, Unavailable
from tailorbird.domain.identity import ApiKey, Scope
from tailorbird.ledger import Ledger
from tailorbird.ports.clock import Clock

_log = logging.getLogger("tailorbird.api")

#: Method and path of a route.
Place = tuple[str, str]

LOG_IN: Place = ("POST", "/api/sessions")
LOG_OUT: Place = ("DELETE", "/api/sessions/current")
UPLOAD: Place = ("POST", "/api/artifacts")

#: Routes that need no session: one proves there who one is.
PUBLIC: frozenset[Place] = frozenset({LOG_IN})
#: Routes with a line of their own.
OWN: dict[Place, Action] = {LOG_OUT: Action.SESSION, UPLOAD: Action.UPLOAD}


#: Seconds for which a key's row is remembered, and for which it is believed where the record cannot be asked.
_REMEMBER, _BELIEVE = 1.0, 10.0
#: Wrong keys in a minute from one address before more are refused unseen.
MOST_WRONG = 30
#: Keys remembered at most; the oldest are forgotten first.
_LARGEST_MEMORY = 10_000


@dataclass(frozen=True)
class _Looked:
    """A look; ``known`` is what a look at ``known_at`` had found before."""

    at: float
    found: asyncio.Task[ApiKey | None]
    known: ApiKey | None = None
    known_at: float = 0.0


class Authenticator:
    """Finds the key of a request. Requests that ask for one key at once share one look into the ledger."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._looked: OrderedDict[str, _Looked] = OrderedDict()
        self._refusals = Throttle(most=MOST_WRONG)
        #: Hashes of secrets that were right lately: who shares an address with a guesser goes on.
        self._right: OrderedDict[bytes, None] = OrderedDict()

    async def __call__(self, request: Request, scope: Scope | None = None) -> ApiKey:
        """The key of ``request``, which must have ``scope``.

        Raises Unauthenticated: none, not ours, unknown or wrong (the same), revoked, expired. Raises Forbidden without the scope, Exhausted
        after many wrong ones from one address.
        """
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise _refused("no API key was given", "send the header: authorization: Bearer tb_<id>_<secret>", "missing_api_key")
        key = await self._checked(secret.strip(), request.client.host if request.client else "")
        request.scope[TENANT] = key.tenant
        if scope is not None and scope not in key.scopes:
            raise Forbidden(
                f"this key has not the scope {scope.value}",
                f"make one: tailorbird key create NAME --scope {scope.value}",
                code="scope_missing",
            )
        return key

    async def _checked(self, secret: str, address: str) -> ApiKey:
        """As ``key_of``; after many wrong keys from ``address`` only those that were right before are looked at for a while.

        Raises Exhausted then.
        """
        told = hashlib.sha256(secret.encode()).digest()
        wait = 0.0 if told in self._right else self._refusals.wait(address)
        if wait > 0:
            seconds = math.ceil(wait)
            raise Exhausted("too many wrong API keys from here", f"try again in {seconds} s", code="keys_throttled", retry_after=seconds)
        try:
            key = await self.key_of(secret)
        except Unauthenticated:
            self._right.pop(told, None)
            self._refusals.fail(address)
            raise
        self._right[told] = None
        while len(self._right) > _LARGEST_MEMORY:
            self._right.popitem(last=False)
        return key

    async def key_of(self, secret: str) -> ApiKey:
        """The valid key whose secret this is. Raises Unauthenticated as above, Unavailable when the ledger cannot be asked, and could not
        for the last ten seconds."""
        key = await self._find(key_id_of(secret))
        if key is None or not secret_matches(key, secret):
            raise _refused(
                "the API key is not known", "check the key; an operator makes one with: tailorbird key create", "invalid_api_key"
            )
        if not key.is_valid(self._clock.now()):
            ended = "revoked" if key.revoked_at is not None else "expired"
            raise _refused(f"the API key is {ended}", "ask for a new one: tailorbird key create", f"{ended}_api_key")
        return key

    async def _find(self, key_id: str) -> ApiKey | None:
        looked = self._looked.get(key_id)
        if looked is None or time.monotonic() - looked.at > _REMEMBER or _failed(looked):
            looked = _Looked(time.monotonic(), asyncio.create_task(asyncio.to_thread(self._look, key_id)), *_known(looked))
            self._looked[key_id] = looked
            self._looked.move_to_end(key_id)
            while len(self._looked) > _LARGEST_MEMORY:
                self._looked.popitem(last=False)
        # Shielded: a caller that leaves must not take the look away from the others.
        try:
            return await asyncio.shield(looked.found)
        except Unavailable:
            if looked.known is None or time.monotonic() - looked.known_at > _BELIEVE:
                raise
            return looked.known

    def _look(self, key_id: str) -> ApiKey | None:
        with self._ledger.system(write=False) as system:
            key = system.tenants.key(key_id)
            if key is None:
                return None
            row = anchored_row(key)
            if system.anchors.differing(row.tenant, {row.name: row.digest}):
                _log.error("the API key %s is not what the log says: it is refused; run tailorbird audit verify", key.id)
                return None
            return key


def demand_stage(key: ApiKey, model: str) -> None:
    """Raises Forbidden where ``model`` is an alias in staging, whether or not there is one, and the key lacks the scope for those."""
    if name_and_stage(model)[1] == "staging" and Scope.STAGING not in key.scopes:
        raise Forbidden("this key may not ask what is only staged", "use a key with the scope staging", code="scope_missing")


def shows_api_key(request: Request) -> bool:
    """True when ``request`` shows an API key, and not a session."""
    return request.headers.get("authorization", "").partition(" ")[2].strip().startswith("tb_")


def _failed(looked: _Looked) -> bool:
    """True when nothing is to be remembered: the look failed, or found no key (one that is made now must work at once)."""
    task = looked.found
    return task.done() and (task.cancelled() or task.exception() is not None or task.result() is None)


def _known(looked: _Looked | None) -> tuple[ApiKey | None, float]:
    """The key that was found last, and when."""
    if looked is None:
        return None, 0.0
    if not looked.found.done() or looked.found.cancelled() or looked.found.exception() is not None:
        return looked.known, looked.known_at
    return looked.found.result(), looked.at


def _refused(message: str, hint: str, code: str) -> Unauthenticated:
    return Unauthenticated(message, hint, code=code)
