"""Sessions: an identity proves itself once with its key, and is known for a while by a secret.

A session's secret reads ``tbs_<id>_<256 random bits>``; the id is the login's nonce, chosen by who logs in. Only a hash of it is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tailorbird.auth import Action, Throttle, demand_enabled, network_of, signing
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Conflict, Corrupt, Exhausted, Forbidden, NotFound, TailorbirdError, Unauthenticated
from tailorbird.domain.event import Event
from tailorbird.domain.identity import Identity, Login, Session, Signature
from tailorbird.domain.value import Digest
from tailorbird.usecases.anchored_rows import demand_anchored
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.identities import known_identity
from tailorbird.usecases.registry import usecase

#: How long a session lasts, and how far the clock of who logs in may be off.
SESSION_LASTS = timedelta(hours=8)
CLOCKS_AGREE = timedelta(seconds=120)
#: Refused logins of an address in a minute, of keys that have not logged in here before; keys that are remembered because they have.
_MOST_OF_ADDRESS, _PROVEN = 100, 10_000

_NONCE = re.compile(r"[0-9a-f]{32}")
_SECRET = re.compile(r"tbs_(?P<id>[0-9a-f]{32})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class LoginEntry:
    """Where logins come in. ``servers`` are the origins by which this server is known: a login that was signed for another is refused.

    Refused logins are counted for each key that signs them, and for an address in all. Nobody can sign with another's key, so what one
    gets wrong keeps no other out: a key that has logged in here before does not wait for its address.
    """

    deps: Dependencies
    servers: Container[str]
    refusals: Throttle = field(default_factory=Throttle)
    of_address: Throttle = field(default_factory=lambda: Throttle(most=_MOST_OF_ADDRESS))
    proven: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def open(self, login: Login, signature: Signature, address: str) -> tuple[Session, str]:
        """The session of a login that came from ``address``. Raises Unauthenticated; Exhausted after many refusals of its key, or there."""
        key = signature.public_key if signing.holds(signature, signature.public_key, "login", digest_of(login)) else "none"
        counts = [(self.refusals, f"{network_of(address)} {key}")]
        if key not in self.proven:
            counts.insert(0, (self.of_address, address))
        for number, (throttle, counted) in enumerate(counts):
            if wait := throttle.begin(counted):
                for before, taken_back in counts[:number]:
                    before.succeed(taken_back)
                raise _throttled(math.ceil(wait))
        opened = open_session(self.deps, login, signature, self.servers)
        for throttle, counted in counts:
            throttle.succeed(counted)
        self.proven[key] = None
        if len(self.proven) > _PROVEN:
            self.proven.popitem(last=False)
        return opened


def _throttled(seconds: int) -> Exhausted:
    return Exhausted("too many refused logins from here", f"try again in {seconds} s", code="login_throttled", retry_after=seconds)


@usecase("session.show", "GET", "/api/session", Action.SESSION)
def show_session(_deps: Dependencies, actor: Actor) -> Identity:
    """Who the caller is."""
    return actor.identity


def log_in(actor: Actor, server: str, now: datetime) -> tuple[Login, Signature]:
    """A fresh login of an actor whose key is here, signed for the server at the origin ``server``."""
    login = Login(tenant=actor.tenant, identity=actor.name, server=server, nonce=secrets.token_hex(16), at=now)
    return login, actor.sign("login", digest_of(login))


def open_session(deps: Dependencies, login: Login, signature: Signature, servers: Container[str]) -> tuple[Session, str]:
    """The session of a login and its secret, which is told once. Raises Unauthenticated, the same whatever is wrong with who it names."""
    if login.server not in servers:
        raise _refused(
            "the login was signed for another server, or for a name that this one does not go by",
            "log in at this server's own address; its operator says which there are in the setting public_urls",
            "login_elsewhere",
        )
    now = deps.clock.now()
    if not _NONCE.fullmatch(login.nonce) or login.at.tzinfo is None or abs(now - login.at) > CLOCKS_AGREE:
        raise _refused("the login is too old, too new or malformed", "set this machine's clock, and sign a new login", "login_stale")
    try:
        identity = known_identity(deps, login.tenant, login.identity)
        signing.verify_sent(signature, identity=identity, purpose="login", digest=digest_of(login))
        demand_enabled(identity)
    except TailorbirdError:
        _note_refusal(deps, login)
        raise _refused("the login does not prove an identity", "check tenant, name and key file", "login_refused") from None
    began = deps.clock.now()
    secret = f"tbs_{login.nonce}_{secrets.token_urlsafe(32)}"
    session = Session(
        id=login.nonce,
        tenant=identity.tenant,
        identity=identity.name,
        secret_sha256=_hash(secret),
        created_at=began,
        expires_at=began + SESSION_LASTS,
    )
    with deps.ledger.work(identity.tenant) as work:
        try:
            work.sessions.add(session)
        except Conflict:
            raise _refused("this login was used before", "sign a new login", "login_replayed") from None
        record(work, "session.opened", identity.name, identity.name, now)
    return session, secret


def actor_of(deps: Dependencies, secret: str) -> Actor:
    """The actor whose session this is. It signs nothing: its key is elsewhere. Raises Unauthenticated."""
    match = _SECRET.fullmatch(secret)
    if match is None:
        raise _refused("this is not a session", "log in with an identity's key", "session_malformed")
    with deps.ledger.system(write=False) as system:
        session = system.tenants.session(match["id"])
    if session is None or not hmac.compare_digest(_hash(secret), session.secret_sha256):
        raise _refused("the session is not known", "log in again", "session_unknown")
    if not session.is_valid(deps.clock.now()):
        raise _refused("the session has ended", "log in again", "session_ended")
    with deps.ledger.work(session.tenant, write=False) as work:
        identity = work.identities.get(session.identity)
        demand_anchored(work, session, identity)
        return Actor(identity, _sign_nothing)


def end_session(deps: Dependencies, secret: str) -> None:
    """Ends the session whose secret this is. Raises Unauthenticated."""
    actor = actor_of(deps, secret)
    match = _SECRET.fullmatch(secret)
    assert match is not None
    with deps.ledger.work(actor.tenant) as work:
        work.sessions.end(match["id"], deps.clock.now())


def _note_refusal(deps: Dependencies, login: Login) -> None:
    """A refused login of a tenant that exists is an event; floods are the gateway's to slow down."""
    if not deps.denials.is_written(login.tenant, "", deps.clock.now()):  # together: a stranger may name any identity
        return
    event = Event(
        kind="access.denied",
        tenant=login.tenant,
        actor=login.identity,
        subject="session",
        at=deps.clock.now(),
        data={"action": "session.open", "code": "login_refused"},
    )
    try:
        with deps.ledger.work(login.tenant) as work:
            work.events.append([event])
    except (NotFound, Corrupt):
        return


def _sign_nothing(purpose: str, _digest: Digest) -> Signature:
    raise Forbidden(f"nothing can be signed here for the purpose {purpose}", "sign it where the key is, and send it")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _refused(message: str, hint: str, code: str) -> Unauthenticated:
    return Unauthenticated(message, hint, code=code)
