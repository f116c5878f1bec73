"""Logging in and out."""

from __future__ import annotations

import secrets
from contextlib import suppress

from fastapi.responses import JSONResponse, Response

from tailorbird.console import forms
from tailorbird.console.forms import value_of, value_of_text
from tailorbird.console.rendering import AnonymousContext, see_other
from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.domain.errors import Exhausted, TailorbirdError, Unauthenticated
from tailorbird.domain.identity import Login, Signature
from tailorbird.usecases.sessions import end_session

_FIRST_PAGE = "/console"


def ask_who(guest: AnonymousContext) -> Response:
    """The form: tenant, identity, key file."""
    return guest.page("login.html", next=_own(guest.query.get("next", "")), error=None)


def prepare(guest: AnonymousContext) -> Response:
    """A fresh login to be signed: its canonical text, which the browser shows and hashes, and the digest it must find. Errors as JSON."""
    asked = {"tenant": guest.form.get("tenant", ""), "identity": guest.form.get("identity", ""), "server": _server(guest)}
    try:
        login = value_of(Login, asked | {"nonce": secrets.token_hex(16), "at": guest.deps.clock.now()})
    except TailorbirdError as error:
        return JSONResponse(error.as_dict(), error.status)
    return JSONResponse({"text": canonical_json(login).decode(), "digest": digest_of(login)})


def log_in(guest: AnonymousContext) -> Response:
    """Opens the session of a signed login; one that proves nothing gets the form again, with what is wrong. Raises InvalidInput."""
    form = guest.form
    login = value_of_text(Login, form.get("signed", ""))
    wanted = _own(form.get("next", ""))
    address = guest.request.client.host if guest.request.client else ""
    try:
        _, secret = guest.entrance.open(login, _signature(guest, login), address)
    except (Unauthenticated, Exhausted) as error:
        return guest.page("login.html", error.status, next=wanted, error=error)
    response = see_other(wanted)
    forms.give_cookie(response, guest.request, secret)
    return response


def log_out(guest: AnonymousContext) -> Response:
    """Ends the session, where there is one."""
    response = see_other("/console/login")
    with suppress(Unauthenticated):
        end_session(guest.deps, forms.secret_of(guest.request))
    forms.take_cookie(response, guest.request)
    return response


def _server(guest: AnonymousContext) -> str:
    """The origin that the browser has before it, which is what it signs for; whether that is ours is found when the login comes in."""
    given = guest.request.headers.get("origin")
    return given if given is not None else f"{guest.request.url.scheme}://{guest.request.url.netloc}"


def _signature(guest: AnonymousContext, login: Login) -> Signature:
    fields = {
        "identity": login.identity,
        "public_key": guest.form.get("public_key", ""),
        "purpose": "login",
        "digest": digest_of(login),
        "signature": guest.form.get("signature", ""),
        "at": guest.deps.clock.now(),
    }
    return value_of(Signature, fields)


def _own(path: str) -> str:
    """``path`` when it is one of ours, else the first page: nobody is sent to another site."""
    return path if path == _FIRST_PAGE or path.startswith((f"{_FIRST_PAGE}/", f"{_FIRST_PAGE}?")) else _FIRST_PAGE
