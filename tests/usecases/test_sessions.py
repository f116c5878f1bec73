"""Logins signed with an identity's key, the sessions they open, and every way they are refused; keys that are rotated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.doubles import FixedClock
from tailorbird.auth import create_key, load_key, public_key, sign, signing
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, Unauthenticated
from tailorbird.domain.identity import Identity, Login, Rotation, Signature
from tailorbird.usecases import Actor, Dependencies, identities
from tailorbird.usecases.identities import act_as, key_path
from tailorbird.usecases.registry import perform
from tailorbird.usecases.sessions import SESSION_LASTS, actor_of, end_session, log_in, open_session

HERE = "https://tailorbird.example"


def opened(deps: Dependencies, actor: Actor) -> str:
    return open_session(deps, *log_in(actor, HERE, deps.clock.now()), {HERE})[1]


def test_a_login_opens_a_session_that_is_the_identity_and_signs_nothing(deps: Dependencies, author: Actor) -> None:
    secret = opened(deps, author)
    there = actor_of(deps, secret)
    assert there.identity == author.identity
    with pytest.raises(Forbidden, match="signed here"):
        there.sign("approve", digest_of({}))


def test_a_login_is_used_once(deps: Dependencies, author: Actor) -> None:
    login = log_in(author, HERE, deps.clock.now())
    open_session(deps, *login, {HERE})
    with pytest.raises(Unauthenticated) as caught:
        open_session(deps, *login, {HERE})
    assert caught.value.error_code == "login_replayed"


Forge = Callable[[Login, Signature], tuple[Login, Signature]]
_FORGERIES: dict[str, Forge] = {
    "another name": lambda login, signature: (login.model_copy(update={"identity": "approver"}), signature),
    "nobody": lambda login, signature: (login.model_copy(update={"identity": "nobody"}), signature),
    "another tenant": lambda login, signature: (login.model_copy(update={"tenant": "globex"}), signature),
    "another nonce": lambda login, signature: (login.model_copy(update={"nonce": "0" * 32}), signature),
    "another purpose": lambda login, signature: (login, signature.model_copy(update={"purpose": "approve"})),
}


@pytest.mark.parametrize("forge", _FORGERIES.values(), ids=_FORGERIES)
def test_what_does_not_prove_an_identity_is_refused_alike(deps: Dependencies, author: Actor, forge: Forge) -> None:
    with pytest.raises(Unauthenticated) as caught:
        open_session(deps, *forge(*log_in(author, HERE, deps.clock.now())), {HERE})
    assert caught.value.error_code == "login_refused"


@pytest.mark.parametrize("off", [timedelta(minutes=-3), timedelta(minutes=3)])
def test_a_login_of_another_time_is_refused(deps: Dependencies, author: Actor, off: timedelta) -> None:
    with pytest.raises(Unauthenticated) as caught:
        open_session(deps, *log_in(author, HERE, deps.clock.now() + off), {HERE})
    assert caught.value.error_code == "login_stale"


def test_sessions_end_by_time_and_by_word(deps: Dependencies, author: Actor) -> None:
    clock: Any = deps.clock
    assert isinstance(clock, FixedClock)
    first, second = opened(deps, author), opened(deps, author)
    end_session(deps, first)
    with pytest.raises(Unauthenticated, match="ended"):
        actor_of(deps, first)
    clock.advance(SESSION_LASTS)
    with pytest.raises(Unauthenticated, match="ended"):
        actor_of(deps, second)


@pytest.mark.parametrize("secret", ["", "tbs_", "tb_0123456789ab_" + "x" * 43, "tbs_" + "0" * 32 + "_" + "x" * 43])
def test_what_is_no_session_is_refused(deps: Dependencies, secret: str) -> None:
    with pytest.raises(Unauthenticated):
        actor_of(deps, secret)


def test_a_disabled_identity_can_do_nothing_any_more(deps: Dependencies, author: Actor) -> None:
    secret, admin = opened(deps, author), act_as(deps, "acme", "admin")
    identities.disable(deps, admin, "author")
    with pytest.raises(Unauthenticated):
        opened(deps, author)
    with pytest.raises(Unauthenticated, match="ended"):
        actor_of(deps, secret)
    with pytest.raises(Forbidden, match="disabled"):
        perform(deps, act_as(deps, "acme", "author"), identities.create_api_key, identities.NewKey(name="mine"))
    with pytest.raises(Conflict, match="themselves"):
        identities.disable(deps, admin, "admin")


def rotated(deps: Dependencies, actor: Actor, fresh: Path, *, leaked: bool = False, thief: Path | None = None) -> Identity:
    """As the command line does it: the present key (or a thief's) and the new one sign the change."""
    create_key(fresh)
    rotation = Rotation(tenant="acme", identity=actor.name, public_key=public_key(load_key(fresh)), leaked=leaked)
    digest, now = digest_of(rotation), deps.clock.now()
    present = sign(load_key(thief), actor.name, "rotate", digest, now) if thief else actor.sign("rotate", digest)
    proof = sign(load_key(fresh), actor.name, "rotate", digest, now)
    return identities.rotate(deps, actor, rotation, present, proof)


def test_a_rotated_key_signs_from_now_on_and_what_the_old_one_signed_counts_unless_it_leaked(deps: Dependencies, author: Actor) -> None:
    digest = digest_of({"a": 1})
    old = author.sign("release", digest)
    fresh = key_path(deps, "acme", "fresh")
    signing.verify(old, identity=rotated(deps, author, fresh), purpose="release", digest=digest)
    with pytest.raises(Forbidden):
        act_as(deps, "acme", "author")
    again = act_as(deps, "acme", "author", fresh)
    with pytest.raises(Unauthenticated):
        opened(deps, author)
    opened(deps, again)
    struck = rotated(deps, again, key_path(deps, "acme", "third"), leaked=True)
    signing.verify(old, identity=struck, purpose="release", digest=digest)
    leaked = sign(load_key(fresh), "author", "release", digest, deps.clock.now())
    with pytest.raises(Corrupt):
        signing.verify(leaked, identity=struck, purpose="release", digest=digest)


def test_a_session_alone_changes_no_key_and_a_change_ends_all_sessions(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    secret = opened(deps, author)
    thief = tmp_path / "thief.key"
    create_key(thief)
    with pytest.raises(InvalidInput) as caught:
        rotated(deps, actor_of(deps, secret), tmp_path / "his.key", thief=thief)
    assert caught.value.error_code == "signature_invalid"
    rotated(deps, author, tmp_path / "hers.key")
    with pytest.raises(Unauthenticated, match="ended"):
        actor_of(deps, secret)


def test_one_key_has_one_spelling(deps: Dependencies, author: Actor) -> None:
    """The last letter before the padding has two bits that no decoder looks at."""
    key = author.identity.public_key
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = key[:42] + letters[letters.index(key[42]) ^ 1] + "="
    for text in (twin, "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AAAA", "not base64"):
        with pytest.raises(InvalidInput):
            identities.add_identity(deps, act_as(deps, "acme", "admin"), "second", author.identity.roles, text)


def test_an_api_key_is_replaced_with_a_time_of_grace(deps: Dependencies) -> None:
    clock, admin = deps.clock, act_as(deps, "acme", "admin")
    made = identities.create_api_key(deps, admin, identities.NewKey(name="shop", days=30))
    old = made.key
    made = identities.rotate_api_key(deps, admin, old.id, grace_hours=2)
    new, secret = made.key, made.secret
    assert secret.startswith(f"tb_{new.id}_")
    assert new.expires_at is not None
    assert new.expires_at - new.created_at == timedelta(days=30)
    by_id = {key.id: key for key in identities.list_api_keys(deps, admin).keys}
    now = clock.now()
    assert by_id[old.id].is_valid(now)
    assert not by_id[old.id].is_valid(now + timedelta(hours=2))
    identities.revoke_api_key(deps, admin, new.id)
    with pytest.raises(Conflict):
        identities.rotate_api_key(deps, admin, new.id, grace_hours=2)


def test_one_key_is_one_person(deps: Dependencies, author: Actor) -> None:
    with pytest.raises(Conflict, match="somebody's"):
        identities.add_identity(deps, act_as(deps, "acme", "admin"), "second", author.identity.roles, author.identity.public_key)
